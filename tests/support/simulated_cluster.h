#pragma once
// A cluster of simulated nodes: a real etcd and kube-apiserver with the project's chart, kwok for nodes and kubelets, agent_fleet for
// what runs in worker pods, and the built trainyard-controller with the permissions that the chart gives it.

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "controller/kube/kubeconfig.h"
#include "controller/kube/rest_kube_api.h"
#include "tests/support/api_server.h"
#include "tests/support/program.h"
#include "tests/support/temporary_folder.h"

namespace trainyard::testing {

/// A loopback of its own for this process and all that it starts, where the kernel grants one (it does to root); else all share the
/// machine's. To be called before any thread is made. Pods have addresses of the loopback range, and all agents have one port, so that
/// two simulated clusters cannot share a network.
void enter_own_network();

/// Everything ends, and nothing is left, when it is destroyed.
class SimulatedCluster {
 public:
  struct Options {
    int num_nodes = 32;
    int gpus_per_node = 8;
    bool audit = false;  // see count_writes()
  };
  explicit SimulatedCluster(Options options);
  ~SimulatedCluster();
  SimulatedCluster(const SimulatedCluster&) = delete;
  SimulatedCluster& operator=(const SimulatedCluster&) = delete;

  /// Each in the place of the one that runs. The controller acts when this returns; `patience` is for each line that it logs before.
  void start_fleet(const std::vector<std::string>& flags = {});
  void start_controller(const std::vector<std::string>& flags = {}, std::chrono::milliseconds patience = kPatience);
  void stop_controller() { controller_.reset(); }
  void stop_fleet() { fleet_.reset(); }
  Program& controller() { return *controller_; }
  /// All that runs of it, by name.
  std::map<std::string, pid_t> programs() const;
  /// GET /truths, POST /crash and POST /pace of tests/support/agent_fleet/fleet.h; nothing where it has no answer.
  kube::Json ask_fleet(const std::string& method, const std::string& target) const;

  /// As an administrator.
  kube::RestKubeApi& api() { return api_; }
  const kube::Credentials& credentials() const { return credentials_; }
  /// What the controller wrote since the audit log began, by "resource" or "resource/subresource", a dry run with the word before it.
  std::map<std::string, int> count_writes() const;

 private:
  std::string kubeconfig_of_account();
  void make_nodes();

  const Options options_;
  TemporaryFolder folder_;
  std::unique_ptr<ApiServer> server_;
  kube::Credentials credentials_;
  kube::RestKubeApi api_;
  std::filesystem::path key_file_, account_;
  std::unique_ptr<Program> kwok_, fleet_, controller_;
  int fleet_port_ = 0;
};

/// A TrainingJob that simulated workers train: `steps` steps, a checkpoint every tenth.
kube::Json simulated_job(const std::string& name, int workers, int gpus, int steps);

/// Calls `work` with 0 … count - 1, on so many threads at a time; throws what it threw.
void in_parallel(int count, int threads, const std::function<void(int)>& work);

}  // namespace trainyard::testing
