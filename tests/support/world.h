#pragma once
// An ideal cluster around schedule() and plan_job(): plans are carried out at once, kubelets start pods at once, agents answer at once
// and do as they are told. What goes wrong is what a test makes go wrong. For the whole controller in virtual time see tests/simulate.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controller/decide/plan.h"
#include "tests/support/builders.h"

namespace trainyard::test {

class World {
 public:
  explicit World(decide::Cluster cluster);

  decide::Cluster cluster;
  double now = 0;
  std::vector<decide::Event> events;      // in the order in which they were made
  std::vector<std::string> deleted_pods;  // why, in order
  std::int64_t status_writes = 0;
  bool kubelets_work = true;  // false: pods stay Pending
  bool templates_are_accepted = true;
  std::function<void(contract::Json&)> admit_pod;  // what admission makes of a pod, dry or not
  /// What the API server says to pods that it will not have; they are tried again when time has passed.
  std::function<std::optional<std::string>(const decide::CreatePod&)> refuse_pod;
  /// A ResourceQuota: so many pods may be there that are not finished. Pods beyond it are refused as above.
  std::optional<int> pod_quota;
  std::string template_refusal = "pods \"a-0-1\" is forbidden: no such thing";

  void add(decide::Job job);
  /// Edits a job as a user does: metadata.generation grows.
  void edit(const std::string& job, const std::function<void(contract::TrainingJobSpec&)>& change);
  /// Decides and acts until nothing is left to do. Fails the test where that does not come to an end, and where a plan of a cluster
  /// that did not change is another than before.
  void settle();
  void pass(double seconds);  // and settles
  /// The controller dies before it performs action number `actions` from now on, which decide_once() and settle() throw as Died.
  void die_after(int actions) { actions_left_ = actions; }
  struct Died {};
  /// Another controller takes over: what only the last one knew is gone.
  void succeed_controller();
  /// One round of plans, without what kubelets and agents do then. False: there was nothing to do.
  bool decide_once();

  const decide::Job& job(const std::string& name = "a") const;
  const contract::TrainingJobStatus& status(const std::string& name = "a") const { return job(name).status; }
  contract::Condition condition(const std::string& type, const std::string& name = "a") const;
  /// The newest pod of the worker; the test fails where there is none.
  decide::Pod pod(int worker, const std::string& name = "a") const;
  std::vector<std::string> pods(const std::string& name = "a") const;  // names of those that are not finished
  bool has_event(const std::string& reason) const;

  void change_pod(const std::string& pod, const std::function<void(decide::Pod&)>& change);
  void change_node(const std::string& node, const std::function<void(decide::Node&)>& change);
  /// The worker's container ends, and its pod with it.
  void exit(int worker, int code, const std::string& message = "", const std::string& name = "a");
  /// What the worker's agent says now.
  void say(int worker, const std::function<void(contract::State&)>& change, const std::string& name = "a");
  const contract::State& said(int worker, const std::string& name = "a") const;
  /// What it was last told; nothing where it is only polled.
  std::optional<contract::Assignment> told(int worker, const std::string& name = "a") const;
  /// What its ranks were started with.
  const contract::Assignment& taken(int worker, const std::string& name = "a") const { return taken_.at(pod(worker, name).uid); }
  void silence(int worker, const std::string& name = "a");
  void hear(int worker, const std::string& name = "a");

  /// All agents of the job that were given work do a step; worker 0 reports it.
  void train(std::int64_t step, const std::string& name = "a");
  void fail_rank(int worker, contract::Failure failure, bool secondary = false, const std::string& name = "a");
  void finish(const std::string& name = "a");

 private:
  bool carry_out(const decide::Plan& plan);
  bool is_quota_used_up() const;
  std::optional<std::string> why_refused(const decide::CreatePod& create) const;
  void run_kubelets();
  void run_agents();

  void take(const std::string& uid, const contract::Assignment& assignment, contract::State& state);

  std::map<std::string, std::optional<contract::Assignment>> told_;  // by pod UID
  std::map<std::string, contract::Assignment> taken_;                // by pod UID
  std::int64_t last_uid_ = 0, last_version_ = 1;
  std::optional<int> actions_left_;
  std::map<std::string, double> refused_at_;  // by job UID
};

}  // namespace trainyard::test
