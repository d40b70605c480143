#pragma once
// What is to be done about the cluster, as data. Two functions make plans: schedule() finds nodes for gangs, plan_job() runs a job's
// life. Both look at the same Cluster, give the same plan for the same cluster, and want nothing once their plan was carried out.
//
// How the shell uses them:
// - Plans of one job are carried out one after the other, each to its end (all requests answered, own writes assumed in the cluster)
//   before the next is made for that job. Plans of schedule() are carried out up to their pods, which then count in the cluster, before
//   schedule() is asked again; but for those that only tell a job without pods and quota why it waits.
// - A phase's actions go out in parallel; the next phase waits until all of them succeeded. After a failure the rest is dropped and
//   the job looked at again (after a back-off where it was no conflict). CreatePod and the other Create… count as done when the
//   object exists already, DeletePod and DeleteJob when it is gone or has another UID, an Event when one of that name exists.
// - `look_again` sets a timer; apart from that, plan_job() is asked when the job, one of its pods, its nodes or its agents changed,
//   and schedule() when nodes, claims, queues or template checks changed, or jobs and pods in a way that matters_to_schedule().

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "controller/decide/cluster.h"
#include "crds/contract/assignment.h"

namespace trainyard::decide {

/// Replaces the whole status, on condition that the job still has that resource version: so a raised generation fences off another
/// controller that thinks it leads. A conflict means: look again.
struct WriteStatus {
  ObjectKey key;
  std::string uid;
  std::string resource_version;
  contract::TrainingJobStatus status;
  bool operator==(const WriteStatus&) const = default;
};
struct CreatePod {
  ObjectKey key;
  Json body;  // the whole Pod
  bool operator==(const CreatePod&) const = default;
};
struct DeletePod {
  ObjectKey key;
  std::string uid;                            // as a precondition
  std::optional<std::int64_t> grace_seconds;  // nothing: the pod's own
  std::string why;                            // for the log
  bool operator==(const DeletePod&) const = default;
};
/// The Secret with the job's key, owned by the job; the shell fills in the key (signature.h) under the entry "key".
struct CreateSecret {
  ObjectKey key;
  std::string job_name;
  std::string job_uid;
  bool operator==(const CreateSecret&) const = default;
};
/// The headless Service by which the workers of a job with the engine Custom find each other, owned by the job.
struct CreateService {
  ObjectKey key;
  std::string job_name;
  std::string job_uid;
  bool operator==(const CreateService&) const = default;
};
/// How the API server's own kinds tell of a gang (scheduling.k8s.io; gang_objects.h).
struct GangGroup {
  ObjectKey key;
  std::string job_name;
  std::string job_uid;
  std::int32_t least = 1;      // workers without which there is no gang
  std::string priority_class;  // empty: the pods name none
  bool operator==(const GangGroup&) const = default;
};
/// The Workload, owned by the job, and the PodGroup of its one template, both of the same name.
struct CreateWorkload {
  GangGroup group;
  bool operator==(const CreateWorkload&) const = default;
};
struct CreatePodGroup {
  GangGroup group;
  bool operator==(const CreatePodGroup&) const = default;
};
/// Creates the pod with dryRun=All and fieldValidation=Strict. The answer goes into the cluster as a TemplateCheck under job UID and
/// hash: accepted, with what the pod needs as admission left it, or (400, 403, 422) refused with the server's message. Other errors
/// are failures of the action.
struct DryRunPod {
  ObjectKey job;
  std::string job_uid;
  std::string template_hash;
  Json body;
  bool operator==(const DryRunPod&) const = default;
};
enum class EventType { kNormal, kWarning };
struct Event {
  ObjectKey job;
  std::string job_uid;
  EventType type = EventType::kNormal;
  std::string reason;
  std::string message;
  /// The Event's own name: the same for the same happening, so that it is never told twice.
  std::string name;
  /// Where the event tells an agent's notice: the pod, and the number that becomes AgentView::events_made once it is made.
  std::string pod_uid;
  std::int64_t notice = 0;
  bool operator==(const Event&) const = default;
};
/// With propagationPolicy Background and the UID as a precondition.
struct DeleteJob {
  ObjectKey key;
  std::string uid;
  std::string why;
  bool operator==(const DeleteJob&) const = default;
};

/// Replaces the whole status of a TrainingQueue, on condition that it still has that resource version.
struct WriteQueueStatus {
  std::string name;
  std::string uid;
  std::string resource_version;
  contract::TrainingQueueStatus status;
  bool operator==(const WriteQueueStatus&) const = default;
};

using Action = std::variant<WriteStatus, CreatePod, DeletePod, CreateSecret, CreateService, CreateWorkload, CreatePodGroup,
                            DryRunPod, Event, DeleteJob, WriteQueueStatus>;

struct Plan {
  std::vector<std::vector<Action>> phases;
  std::optional<std::chrono::milliseconds> look_again;  // nothing: wait until something changes
  /// By pod UID, the agents to be polled, and what each should be told (nothing: only be polled). Whole: who is not in it is left
  /// alone from now on. Takes effect at once, before and independently of the phases. Only plan_job() fills it in.
  std::map<std::string, std::optional<contract::Assignment>> agents;
  std::vector<std::string> reasons;  // for the debug log
  bool is_empty() const { return phases.empty(); }
  bool operator==(const Plan&) const = default;
};

/// Places gangs that wait for nodes, in the order of fair_order.h and within the quotas of their queues, each whole or not at all. By job: raises the generation and creates what
/// the pods need beside themselves, then the pods; or says in the condition Placed why there is no room. Jobs that need nothing are left out; a plan may have only look_again,
/// after which schedule() is to be asked again.
std::map<ObjectKey, Plan> schedule(const Cluster& cluster, Time now);

/// Whether schedule() may decide otherwise once the one has become the other. A pod's container starts, a job does another step: most
/// changes of jobs and pods are of no interest to those that wait.
bool matters_to_schedule(const Pod& before, const Pod& after);
bool matters_to_schedule(const Job& before, const Job& after);

/// What the TrainingQueues say of themselves: counts and usage at most once an interval each, the rest at once.
Plan plan_queues(const Cluster& cluster, Time now);

/// Everything else in a job's life. An empty plan for a job that does not exist or is another controller's (spec.managedBy).
Plan plan_job(const Cluster& cluster, const ObjectKey& key, Time now);

}  // namespace trainyard::decide
