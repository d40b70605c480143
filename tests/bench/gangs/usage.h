#pragma once
// What programs use of the machine, as /proc tells.

#include <map>
#include <string>

#include <sys/types.h>

namespace trainyard::bench {

/// How many want to run, on the average of the last minute.
std::string load();
/// "now 21.3 MB, of which 10.2 MB programs and libraries, at most 22.0 MB"
std::string memory_of(pid_t pid);
/// What the process and its threads have used of all cores.
double cpu_seconds(pid_t pid);

/// CPU seconds of several programs from its making on. All must live as long.
class Usage {
 public:
  explicit Usage(std::map<std::string, pid_t> programs);
  /// "kube-apiserver 12.3, etcd 2.1, …, all 20.0"
  std::string text() const;

 private:
  const std::map<std::string, pid_t> programs_;
  std::map<std::string, double> before_;
};

}  // namespace trainyard::bench
