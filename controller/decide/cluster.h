#pragma once
// What the controller believes: plain values that the cache fills in from watches and agents, and that schedule() and plan_job()
// decide on. Nothing else is remembered anywhere, so a controller that starts anew decides as the last one did.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "controller/decide/layout_answers.h"
#include "controller/decide/packed_job.h"
#include "controller/decide/pod_needs.h"
#include "controller/decide/quota.h"
#include "controller/decide/resources.h"
#include "crds/contract/fields.h"
#include "crds/contract/job.h"
#include "crds/contract/names.h"
#include "crds/contract/queue.h"
#include "crds/contract/state.h"
#include "crds/contract/time.h"

namespace trainyard::decide {

using contract::Json;
using contract::Time;

struct ObjectKey {
  std::string ns, name;
  auto operator<=>(const ObjectKey&) const = default;
};
/// namespace/name.
inline std::string to_text(const ObjectKey& key) { return key.ns + "/" + key.name; }

struct Taint {
  std::string key, value, effect;  // NoSchedule, PreferNoSchedule, NoExecute
  bool operator==(const Taint&) const = default;
};

struct Node {
  std::string name;
  std::map<std::string, std::string> labels;
  Resources allocatable;  // with "pods"
  std::vector<Taint> taints;
  bool unschedulable = false;    // cordoned
  bool ready = false;            // the condition Ready is True
  Time ready_since{};            // lastTransitionTime of that condition
  bool memory_pressure = false;  // the condition MemoryPressure is True: its kubelet is about to evict
  std::string trouble;           // a condition that is True and among Settings::unhealthy_conditions; empty: none is
  bool operator==(const Node&) const = default;
};

enum class PodPhase { kPending, kRunning, kSucceeded, kFailed, kUnknown };
constexpr auto enum_names(PodPhase) {
  return std::to_array<std::string_view>({"Pending", "Running", "Succeeded", "Failed", "Unknown"});
}

/// What only pods of our jobs have: label kJobLabel, and a controlling owner reference of kind TrainingJob.
struct WorkerPod {
  std::string job;                                  // its name; the namespace is the pod's
  std::string job_uid;                              // of the owner reference
  std::int32_t worker = 0;                          // kWorkerLabel; -1 of one that was made as a spare
  std::optional<std::int32_t> spare;                // kSpareLabel, of such a one (spares.h)
  std::int64_t generation = 0;                      // kGenerationLabel: the gang's when the pod was made
  std::string template_hash;                        // kTemplateHashAnnotation
  std::string ip;                                   // status.podIP; empty: none yet
  std::uint16_t agent_port = contract::kAgentPort;  // of the container port named `trainyard`; 0: it has none, so nobody polls it
  std::optional<Time> started_at;                   // of the container that trains: state.running or .terminated, startedAt
  bool container_running = false;                   // of the container kContainerName, or the only one: state.running is there
  std::string waiting_reason;                       // its state.waiting: ErrImagePull, CreateContainerError, …
  std::string waiting_message;
  std::optional<std::int32_t> exit_code;     // its state.terminated
  std::string exit_reason;                   // OOMKilled, Error, Completed
  bool memory_limited = false;               // it has a memory limit
  std::optional<Time> exited_at;             // state.terminated.finishedAt
  std::optional<contract::State> last_word;  // its termination message, where that is a State
  std::string exit_message;                  // else the message: of the kubelet, where it could not start the container
  std::string reason;                        // status.reason: OutOfcpu, UnexpectedAdmissionError, NodeAffinity, Evicted, …
  std::string message;                       // status.message
  std::string unscheduled_message;           // of the condition PodScheduled, where it is False (binding: Scheduler)
  std::optional<Time> scheduled_at;          // since when that is True
  std::string pod_group;                     // spec.schedulingGroup.podGroupName; empty: in none
  std::vector<Toleration> tolerations;       // with those that admission added
  bool operator==(const WorkerPod&) const = default;
};

struct Pod {
  ObjectKey key;
  std::string uid;
  std::string node;            // spec.nodeName; empty: not bound
  std::string nominated_node;  // status.nominatedNodeName: kube-scheduler is making room for it there
  PodPhase phase = PodPhase::kPending;
  Resources requests;  // pod_requests(spec), counted even while it is being deleted: its processes may still run
  Time created{};
  std::optional<Time> deletion_time;  // metadata.deletionTimestamp: deleted, and the time at which its grace is over
  std::optional<WorkerPod> worker;    // nothing: not one of ours
  bool is_finished() const { return phase == PodPhase::kSucceeded || phase == PodPhase::kFailed; }
  bool operator==(const Pod&) const = default;
};

/// Whether the two take up as much, on the same node, for the same job.
bool takes_same_room(const Pod& a, const Pod& b);

/// Of a job: the span, as a W3C traceparent, that its trace continues.
inline constexpr std::string_view kTraceparentAnnotation = "trainyard.dev/traceparent";

/// What follows from the rest of an object, kept beside it. It has no say in whether two are equal.
struct Derived {
  std::string text;
  bool operator==(const Derived&) const { return true; }
};

/// DeviceNeed by the number of workers, found when first asked for. It has no say in whether two jobs are equal.
class DeviceNeeds {
 public:
  /// What `reckon` says, which takes as long as a search for nodes.
  template <class Reckon>
  const std::optional<DeviceNeed>& get(std::int32_t workers, const Reckon& reckon) const {
    const auto found = by_size_.find(workers);
    return found != by_size_.end() ? found->second : by_size_.emplace(workers, reckon()).first->second;
  }
  /// As if nobody had asked.
  void forget() const { by_size_.clear(); }
  bool operator==(const DeviceNeeds&) const { return true; }

 private:
  mutable std::map<std::int32_t, std::optional<DeviceNeed>> by_size_;
};

struct Job {
  ObjectKey key;
  std::string uid;
  std::string resource_version;
  std::int64_t generation = 0;  // metadata.generation: grows with each change of the spec
  Time created{};
  bool deleting = false;
  std::string traceparent;  // kTraceparentAnnotation; empty: it has none
  contract::TrainingJobSpec spec;
  contract::TrainingJobStatus status;
  std::vector<contract::Problem> problems;  // of decoding: what this controller can't read of the spec
  Time status_written{};  // when this controller last wrote the status; the epoch where it has not since it started
  /// spec_hash() of engine_spec.h at its gang's size: each look at a gang compares it with status.specHash, and to compute it takes
  /// longer than all else in most of them. Cluster::put() fills it in; empty: it is not known.
  std::string spec_hash;
  Derived template_digest{};   // template_digest() of pod_template.h, filled in by Cluster::put(): templates may be long
  DeviceNeeds device_needs{};  // of memory_fit.h; Cluster::put() forgets those of another spec
  bool operator==(const Job&) const = default;
};

/// What is known of a pod's agent.
struct AgentView {
  std::optional<contract::State> state;  // its last answer
  bool reachable = false;                // the last try was answered
  Time since{};                          // when `reachable` became what it is; of a pod never reached: when the first try failed
  std::string error;                     // why the last try was not answered, or why it has not taken its assignment
  bool other_key = false;                // it lives, but was started with a key of another controller key: it tells us nothing
  std::int64_t events_made = 0;          // the highest number among its notices that became an event
  bool operator==(const AgentView&) const = default;
};

/// A PersistentVolumeClaim.
struct Claim {
  ObjectKey key;
  std::string phase;      // Pending, Bound, Lost
  std::string volume;     // the PersistentVolume that it is bound to; empty: not bound
  bool deleting = false;  // gone once no pod uses it any more; no other pod may begin to
  bool operator==(const Claim&) const = default;
};

/// A PersistentVolume: from which nodes it can be mounted.
struct Volume {
  std::string name;
  Json required_terms = Json::array();  // nodeSelectorTerms of spec.nodeAffinity.required; empty: from any node
  bool operator==(const Volume&) const = default;
};

/// A PriorityClass (scheduling.k8s.io/v1).
struct PriorityClass {
  std::string name;
  std::int32_t value = 0;   // the higher goes first
  bool is_default = false;  // globalDefault: of what names none
  bool preempts = true;     // preemptionPolicy is not Never
  bool operator==(const PriorityClass&) const = default;
};

using Labels = std::map<std::string, std::string>;

/// A kind of node, and what a queue may use of it.
struct Flavor {
  Labels labels;                                 // of its nodes; empty: any node
  std::map<std::string, QuotaLimits> resources;  // by name, in the units of quantity.h
  bool operator==(const Flavor&) const = default;
};

/// A TrainingQueue.
struct Queue {
  std::string name, uid, resource_version;
  std::int64_t generation = 0;  // metadata.generation
  std::string parent;           // empty: none
  std::int32_t weight = 1;
  contract::Stop stop = contract::Stop::kNone;
  std::optional<contract::LabelSelector> namespaces;  // nothing: every one
  std::vector<Flavor> flavors;
  contract::TrainingQueueStatus status;
  Time status_written{};  // when this controller last wrote the status; the epoch where it has not since it started
  bool operator==(const Queue&) const = default;
};
/// Whether all that a user says of it is the same.
bool have_same_spec(const Queue& a, const Queue& b);

/// A Namespace.
struct Namespace {
  std::string name;
  Labels labels;
  bool operator==(const Namespace&) const = default;
};

/// What the API server said to the dry run of worker 0's pod.
struct TemplateCheck {
  bool accepted = false;
  bool over_quota = false;                       // accepted as it is, but for a quota that is used up now
  std::string message;                           // why not
  PodNeeds needs;                                // of the pod as it was accepted, with all that admission adds
  std::vector<contract::Problem> beyond_direct;  // what binding Direct can't hold of it (node_filter.h)
  Time at{};  // when it was asked; a refusal is asked about again after Settings::template_retry
  bool operator==(const TemplateCheck&) const = default;
};

/// What the API server said to a pod or Secret of a gang that it would not have: a quota, an admission webhook.
struct Refusal {
  std::int64_t generation = 0;  // the gang's
  std::string request;          // "create pod default/a-1-3"
  std::string message;
  bool operator==(const Refusal&) const = default;
};

/// A level of the network's topology: nodes with the same value of the label are one domain. Domains of a narrower level lie inside
/// those of the wider.
struct TopologyLevel {
  std::string name;   // "rack"; spec.placement.pack.level names it
  std::string label;  // "topology.example.com/rack"
  bool operator==(const TopologyLevel&) const = default;
};

struct Settings {
  std::vector<std::string> namespaces;  // whose jobs this controller runs; empty: everybody's
  /// Nodes, all pods on them, volumes, PriorityClasses, queues and namespaces are read. False: nothing but what lies in `namespaces`, so that
  /// kube-scheduler chooses the nodes (unseen_nodes.h).
  bool sees_cluster = true;
  bool pod_groups = false;  // the API server has Workload and PodGroup (gang_objects.h); known once this controller leads
  std::vector<TopologyLevel> topology_levels;   // from the widest to the narrowest
  std::string default_image;                    // of worker containers whose template names none
  std::string controller_namespace;             // for the NetworkPolicy that a condition asks for
  std::string key_id;                           // contract::key_id() of the controller key
  std::chrono::seconds status_interval{5};      // progress is copied to a status at most so often …
  double status_writes_per_second = 20;         // … and less often when all live jobs together would write more than this
  std::chrono::seconds agent_silence_told{15};  // an agent that can't be reached is named in a condition after so long,
  std::chrono::seconds agent_lost{10};          // its worker is lost after so long where others of the gang have failed,
  std::chrono::seconds node_lost{10};           // or where its node was not ready for so long either
  std::chrono::seconds template_retry{60};  // a refused template may have become acceptable: a quota, a missing ServiceAccount
  std::chrono::seconds refused_wait{
      120};  // a gang whose pods were refused makes room for others so long before it is tried again
  std::chrono::seconds secondary_wait{10};  // so long the first cause is waited for when only failures that follow one are known
  std::chrono::seconds silence_told{600};   // no step for so long is told in the condition Progressing
  std::chrono::seconds preempted_min_run{600};  // a job that was preempted is left alone so long once it is placed again
  std::chrono::seconds grow_after{300};         // a gang grows when there was room for more workers for so long (elastic.h)
  std::chrono::seconds size_retry{1'800};  // a gang whose pods were refused, or that failed as it grew, stays smaller so long
  std::chrono::seconds rejecting_node_avoided{30};  // no pods go to a node so long after its kubelet rejected one
  /// Conditions of nodes that say, where they are True, that what runs there will not go well. By default those of node-problem-detector
  /// (config/kernel-monitor.json) and of AKS that tell of broken hardware, kernels and file systems.
  std::vector<std::string> unhealthy_conditions{
      "KernelDeadlock", "ReadonlyFilesystem", "XfsShutdown",         "CperHardwareErrorFatal", "FilesystemCorruptionProblem",
      "GPUMissing",     "XIDErrors",          "NVLinkStatusInactive"};
  /// Keys of taints by which somebody is about to empty a node, also with the effect NoSchedule: a gang does not wait for its eviction. By
  /// default those of the cluster autoscaler, of Karpenter and of GKE.
  std::vector<std::string> maintenance_taints{"ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted",
                                              "cloud.google.com/impending-node-termination"};
  bool operator==(const Settings&) const = default;
};

/// Orders pairs, also against pairs of views of what they hold: so that to look one up copies nothing.
struct PairBefore {
  using is_transparent = void;
  template <class A, class B>
  bool operator()(const A& a, const B& b) const {
    // Not by std::tie(): clang finds no order of tuples of other types.
    return a.first == b.first ? a.second < b.second : a.first < b.first;
  }
};

/// All of it, with the indexes that 100,000 pods need. The cache calls the changing half, on the brain thread. Jobs that rest are kept packed
/// until somebody asks for them, so the reading half is one thread's too: whoever else wants it copies all of it first.
class Cluster {
 public:
  Settings settings;

  void put(Node node);
  void put(Pod pod);
  void put(Job job);
  /// Packs what rests of the jobs put or asked for since the last time, or whose pods changed. Ends what job() and jobs() refer to.
  void pack_resting_jobs();
  void put(Claim claim);
  void erase_claim(const ObjectKey& key);
  void put(Volume volume);
  void erase_volume(const std::string& name);
  void put(PriorityClass priority_class);
  void erase_priority_class(const std::string& name);
  void put(Queue queue);
  void erase_queue(const std::string& name);
  void put(Namespace name_space);
  void erase_namespace(const std::string& name);
  void erase_node(const std::string& name);
  void erase_pod(const ObjectKey& key);  // and what is known of its agent
  void erase_job(const ObjectKey& key);  // and its template checks and refusal
  void put_agent(const std::string& pod_uid, AgentView view);
  void erase_agent(const std::string& pod_uid);
  void put_template_check(const std::string& job_uid, const std::string& template_hash, TemplateCheck check);
  void put_refusal(const std::string& job_uid, Refusal refusal);
  void erase_refusal(const std::string& job_uid);

  const std::map<std::string, Node>& nodes() const { return nodes_; }
  const std::map<ObjectKey, Pod>& pods() const { return pods_; }
  /// All but packed_jobs(), which have no say in what becomes of any other job.
  const std::map<ObjectKey, Job>& jobs() const { return jobs_; }
  /// job() takes what it returns from these.
  const std::map<ObjectKey, PackedJob>& packed_jobs() const { return packed_jobs_; }
  /// Of all, in order.
  std::vector<ObjectKey> job_keys() const;
  const std::map<ObjectKey, Claim>& claims() const { return claims_; }
  const std::map<std::string, Volume>& volumes() const { return volumes_; }
  const std::map<std::string, PriorityClass>& priority_classes() const { return priority_classes_; }
  const std::map<std::string, AgentView>& agents() const { return agents_; }  // by pod UID
  using TemplateChecks = std::map<std::pair<std::string, std::string>, TemplateCheck, PairBefore>;
  /// By job UID and template hash.
  const TemplateChecks& template_checks() const { return template_checks_; }
  const std::map<std::string, Refusal>& refusals() const { return refusals_; }  // by job UID
  const std::map<std::string, Queue>& queues() const { return queues_; }
  const std::map<std::string, Namespace>& namespaces() const { return namespaces_; }
  const Node* node(const std::string& name) const;
  const Claim* claim(const ObjectKey& key) const;
  const Volume* volume(const std::string& name) const;
  const Queue* queue(const std::string& name) const;
  const Namespace* name_space(const std::string& name) const;
  const Pod* pod(const ObjectKey& key) const;
  /// Until it is erased, or pack_resting_jobs() is called.
  const Job* job(const ObjectKey& key) const;
  /// Nothing where the agent was never asked.
  const AgentView* agent(const std::string& pod_uid) const;
  const TemplateCheck* template_check(const std::string& job_uid, const std::string& template_hash) const;
  /// Of the template that the job has now; for a job of this cluster.
  const TemplateCheck* template_check(const Job& job) const;
  /// The last one of the job's present generation; nothing where there was none that this controller saw.
  const Refusal* refusal(const Job& job) const;
  /// The worker pods that carry the job's name and whose owner has its UID, by name.
  std::vector<const Pod*> pods_of(const Job& job) const;
  bool has_pods_of(const Job& job) const;
  /// The pods that are bound to the node, or nominated for it, and are not finished.
  std::vector<const Pod*> pods_on(const std::string& node) const;
  /// What those pods take, added up.
  const Resources& used_on(const std::string& node) const;
  /// Jobs of this controller whose status may have something new to tell at any time: all but the finished and the suspended.
  std::int64_t num_live_jobs() const { return num_live_jobs_; }
  /// Of questions about specs and nodes: remembered by who asks, though it changes nothing of what is believed.
  LayoutAnswers& layouts() const { return layouts_; }

 private:
  struct Use {
    Resources used;
    std::set<ObjectKey> pods;
  };
  void count(const Pod& pod);
  void discount(const Pod& pod);
  bool rests(const Job& job) const;
  void forget_answers_about(const std::string& job_uid);

  std::map<std::string, Node> nodes_;
  std::map<ObjectKey, Pod> pods_;
  mutable std::map<ObjectKey, Job> jobs_;               // each job is here
  mutable std::map<ObjectKey, PackedJob> packed_jobs_;  // or here
  mutable std::set<ObjectKey> may_rest_;                // of jobs_
  std::map<ObjectKey, Claim> claims_;
  std::map<std::string, Volume> volumes_;
  std::map<std::string, PriorityClass> priority_classes_;
  std::map<std::string, Queue> queues_;
  std::map<std::string, Namespace> namespaces_;
  std::map<std::string, AgentView> agents_;
  TemplateChecks template_checks_;
  std::map<std::string, Refusal> refusals_;   // by job UID
  std::unordered_map<std::string, Use> use_;  // by node
  std::map<ObjectKey, std::set<ObjectKey>> pods_by_job_;
  std::int64_t num_live_jobs_ = 0;
  mutable LayoutAnswers layouts_;
};

}  // namespace trainyard::decide
