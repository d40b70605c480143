#pragma once
// A real etcd and kube-apiserver for integration tests, by tests/cluster/apiserver.sh.

#include <sys/types.h>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace trainyard::testing {

/// Starts them and waits until they are ready; ends them, and removes what they wrote, when destroyed. A test program that dies takes
/// them along. Throws std::runtime_error with what the script wrote.
class ApiServer {
 public:
  /// `flags` go to kube-apiserver.
  explicit ApiServer(const std::vector<std::string>& flags = {});
  ~ApiServer();
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  /// Of an administrator.
  const std::filesystem::path& kubeconfig() const { return kubeconfig_; }
  /// Stops the API server's process with all its connections open, and lets it go on: an outage.
  void freeze() const;
  void thaw() const;
  /// Of "apiserver" or "etcd".
  pid_t pid_of(const std::string& name) const;

 private:
  pid_t script_ = -1;
  int input_ = -1;  // the script ends when this closes
  std::filesystem::path kubeconfig_;
};

}  // namespace trainyard::testing
