#pragma once
// What the controller believes, kept up to date from watches, agents and its own writes, and which jobs that touches.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "controller/agents/agent_api.h"
#include "controller/cache/sources.h"
#include "controller/decide/cluster.h"
#include "controller/decide/plan.h"
#include "controller/kube/kube_api.h"

namespace trainyard::cache {

using contract::Json;

/// What changed since it was asked the last time.
struct Changes {
  std::set<decide::ObjectKey> jobs;  // to be asked about by plan_job(); some may be gone
  bool room = false;                 // something changed that matters to schedule()
  bool queues = false;               // something changed that the statuses of queues may tell of
  bool foreign_status = false;       // a job's status is not as this controller left it: somebody else writes statuses
};

/// Lives on the brain. Three sources, which are in no order among each other, are merged by resource versions (one sequence for a
/// whole cluster): the events of a watch; a list read from the store beside the watch (a new leader's); and the answers to own
/// writes, which are *assumed* at once. Whatever is older than what is believed already is dropped, so that a watch that lags behind
/// never takes back a pod that was just created, nor brings back one that was just deleted.
class Cache {
 public:
  /// A node that stopped being ready while the API server was away, or so soon after, gets this long to report again before the
  /// time it is not ready counts: kubelets could not report either.
  static constexpr std::chrono::seconds kOutageGrace{40};

  explicit Cache(decide::Settings settings);

  const decide::Cluster& cluster() const { return cluster_; }
  /// Each target was listed once.
  bool synced() const;
  /// Ends what references to jobs refer to (Cluster::pack_resting_jobs()), as do apply() and apply_list() of what a list brought.
  Changes take_changes();

  /// What the watch brought.
  void apply(const kube::WatchBatch& batch, contract::Time now);
  /// What a list beside the watch brought; `batch.relisted` holds.
  void apply_list(const kube::WatchBatch& batch, contract::Time now);
  /// Whether the API server has Workload and PodGroup.
  void learn_of_pod_groups(bool there_are) { cluster_.settings.pod_groups = there_are; }
  /// What was learnt of an agent. Unknown pods are ignored: the pod's watch may lag behind its end, never its beginning.
  void apply(const agents::Observation& observation, contract::Time now);
  /// Nobody is polled any more: what was learnt grows old, and would later be taken for new.
  void forget_agents();

  /// This pod is about to be made: from now on it takes up room. Its UID is none that a pod can have, until the server gives it one.
  void expect_pod(const Json& body, contract::Time now);
  /// It was not made, as far as anyone knows. Nothing where it was.
  void give_up_pod(const decide::ObjectKey& key);
  /// All that are expected.
  void give_up_pods();
  /// The object that the server answered to a write or read of the pod.
  void assume_pod(const Json& object);
  /// The server no longer has the pod with this UID.
  void assume_pod_gone(const decide::ObjectKey& key, const std::string& uid);
  /// This status is about to be written; the watch may show it before the answer comes.
  void expect_status(const decide::ObjectKey& key, const contract::TrainingJobStatus& status);
  /// The object that the server answered to a write of the status.
  void assume_status(const Json& object, contract::Time now);
  /// The object that the server answered to a read of the job.
  void assume_job(const Json& object);
  /// The object that the server answered to a write of a queue's status.
  void assume_queue_status(const Json& object, contract::Time now);
  void assume_job_gone(const decide::ObjectKey& key, const std::string& uid);
  void put_template_check(const decide::ObjectKey& job, const std::string& job_uid, const std::string& template_hash,
                          decide::TemplateCheck check);
  /// The API server will not have a pod or Secret of the job's gang; and it has them all now.
  void put_refusal(const decide::ObjectKey& job, const std::string& job_uid, const std::string& request,
                   const std::string& message);
  void forget_refusal(const decide::ObjectKey& job);
  /// The event that tells this notice of the pod's agent was made.
  void notice_told(const std::string& pod_uid, std::int64_t number);

 private:
  /// Of one target.
  struct Progress {
    Watched kind{};
    std::string ns;  // empty: everywhere
    bool listed = false;
    std::int64_t watched = 0;  // the last resource version that the watch itself brought
    std::int64_t seen = 0;     // all changes up to this one are in the cluster, whoever brought them
    contract::Time heard{};    // when the watch last brought anything
    bool covers(const std::string& place) const { return ns.empty() || ns == place; }
  };
  /// Of the target that tells of such objects in the namespace.
  const Progress& progress(Watched kind, const std::string& ns) const;
  void replace(const kube::WatchBatch& batch);
  void erase_missing(const Progress& at, const kube::WatchBatch& batch, std::int64_t revision);
  bool knows_better(const Json& job) const;
  void put(Watched kind, const Json& object);
  void erase(Watched kind, const decide::ObjectKey& key, const std::string& uid);
  void put_pod(const Json& object);
  void put_node(const Json& object);
  void put_claim(const Json& object);
  void put_volume(const Json& object);
  void put_priority_class(const Json& object);
  void put_queue(const Json& object, std::optional<contract::Time> written = std::nullopt);
  void put_namespace(const Json& object);
  /// Of what any job may be told to be wrong about.
  void every_job_changed();
  void put_job(const Json& object, std::optional<contract::Time> written = std::nullopt);
  bool is_foreign(const decide::Job& known, const decide::Job& now);
  void erase_pod(const decide::Pod& pod);
  void touch_job_of(const decide::Pod& pod);
  void node_changed(const std::string& name);

  decide::Cluster cluster_;
  std::vector<Progress> progress_;                          // by target
  std::map<decide::ObjectKey, std::int64_t> assumed_pods_;  // by own writes: the resource version that the watch has yet to reach
  std::map<decide::ObjectKey, contract::TrainingJobStatus> expected_;  // own writes under way
  std::map<std::string, std::string>
      gone_;  // UIDs that the server no longer has, and the watch has yet to tell, with their namespaces
  std::unordered_map<std::string, decide::ObjectKey> pod_by_uid_;  // worker pods
  contract::Time outage_start_{}, outage_grace_end_{};
  Changes changes_;
};

}  // namespace trainyard::cache
