#pragma once
// Programs of worker pods with the engine Custom, in virtual time, as torchrun and its like behave: those of one gang meet at their
// MASTER_ADDR, work for a while, and exit with 0; when one of them goes, the others lose their connections to it and exit with 1.

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "crds/contract/fields.h"
#include "tests/support/virtual_time.h"

namespace trainyard::test {

class FakePrograms {
 public:
  explicit FakePrograms(VirtualTime& time) : time_(time) {}

  /// What a pod's container runs: nothing where it has an agent. Its first argument says for how many seconds the gang works.
  struct Program {
    std::string pod_uid, job_uid, node, master;
    int rank = 0, nodes = 1;
    seconds work{0};
    bool is_told_to_end = false;
  };
  static std::optional<Program> of_pod(const contract::Json& pod, const std::string& node);

  // ---- The kubelet's side.
  void start(const Program& program);
  /// SIGTERM: many write a last checkpoint, and exit with 0; some do not listen.
  void terminate(const std::string& pod_uid);
  /// SIGKILL, or the power goes.
  void kill(const std::string& pod_uid);
  bool is_running(const std::string& pod_uid) const { return running_.contains(pod_uid); }
  /// A container ended by itself.
  std::function<void(const std::string& pod_uid, int exit_code, const std::string& message)> exited;
  void cut_off(const std::string& node) { cut_off_.insert(node); }
  void join(const std::string& node) { cut_off_.erase(node); }

  // ---- Faults, and the truth.
  /// False where no such program runs.
  bool crash(const std::string& pod_uid, int exit_code, const std::string& message = "giving up");
  /// Every program of a gang has done all of its work.
  bool has_finished(const std::string& job_uid) const { return finished_.contains(job_uid); }
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  struct Gang {
    std::string job_uid;
    std::set<std::string> members, done;
    int nodes = 1;
    bool works = false;
  };
  void work(const std::string& master, seconds how_long);
  void end(const std::string& pod_uid, int exit_code, const std::string& message);
  void end_later(const std::string& pod_uid, int exit_code, const std::string& message, milliseconds at_most);
  void leave(const std::string& pod_uid, bool is_done);

  VirtualTime& time_;
  std::map<std::string, Program> running_;  // by pod UID
  std::map<std::string, Gang> gangs_;       // by MASTER_ADDR and job UID
  std::set<std::string> finished_, cut_off_;
  std::vector<std::string> violations_;
};

}  // namespace trainyard::test
