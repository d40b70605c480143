#pragma once
// What became of each worker of a gang: one word a worker, from its pod, its node and its agent.

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

enum class WorkerState {
  kMissing,    // it has no pod
  kComing,     // its pod is there, its agent never answered; engine Custom: its container does not run yet
  kUp,         // its agent answered; its ranks, if it has any, run; engine Custom: its container runs
  kLeaving,    // its pod is being deleted, and its ranks may still be writing a checkpoint
  kStopped,    // its ranks stopped as asked
  kSucceeded,  // its ranks are done; engine Custom: its container exited with 0
  kFailed,     // a rank failed; `failure` is the agent's; engine Custom: its container exited otherwise
  kLost        // its pod, its container or its node is lost, or its agent with others of the gang; `failure` says how
};

struct Worker {
  std::int32_t index = 0;
  const Pod* pod = nullptr;
  const AgentView* agent = nullptr;
  WorkerState state = WorkerState::kMissing;
  const contract::State* said = nullptr;     // the agent's state of the gang's generation, or its last word
  std::optional<contract::Failure> failure;  // of kMissing, kFailed and kLost
  bool secondary = false;                    // the failure follows another worker's, or may do so
  bool blames_node = false;                  // the failure is its node's (classify.h)
  bool ready = false;                        // its agent answers; engine Custom: it is kUp or kSucceeded
  bool reusable = false;                     // its pod can and may take the next generation; never with the engine Custom
};

struct GangView {
  std::vector<Worker> workers;         // by index
  std::vector<const Pod*> rejected;    // a kubelet would not have them; they only mark their nodes
  std::vector<const Pod*> superseded;  // another pod has their place, or, with the engine Custom, is to get it
  std::vector<const Pod*> surplus;     // of those: the gang has fewer workers than it had
  std::vector<const Pod*> spares;      // that have no worker's place (spares.h)
  std::optional<Time> changes_at;      // when time alone changes what is said here
  bool awaits_silent = false;          // the gang does not train, and it will be known by then whether a silent worker is lost
};

GangView view_gang(const Cluster& cluster, const Job& job, Time now);

/// Neither finished nor, as far as anyone knows, dead.
inline bool is_live(const Pod& pod) { return !pod.is_finished(); }
/// The kubelet did not admit the pod, since its view of the node was newer than ours.
bool is_rejected(const Pod& pod);
/// The node is gone, out of service, or was not ready for Settings::node_lost.
bool is_node_lost(const Cluster& cluster, const std::string& node, Time now);
/// A pod may still run, so that nobody takes its place: one that is being deleted on a healthy node, until it is gone or long overdue.
/// Until when that is so; nothing where it is out of the way. The end of time where nobody has deleted it yet.
std::optional<Time> may_run_until(const Cluster& cluster, const Pod& pod, Time now);
/// The agent answers.
bool is_reachable(const Worker& worker);
/// Its ranks train, or write their last checkpoint.
bool is_training(const Worker& worker);
/// This controller has yet to hear its agent: its ranks may do anything.
bool is_unheard(const Worker& worker);
/// The agent answers, and refuses its assignment, or can't be handed it.
bool has_refused(const Worker& worker);
/// The worker's failure, or that of another state, for people: "worker 1 (pod default/a-1-3 on node-7)".
std::string name_of_worker(const Worker& worker);

/// The failure that the others followed from: one that is not secondary before one that is, what agents say of their ranks before
/// what is concluded from silence, then the earliest. Nothing where nobody failed.
std::optional<contract::Failure> first_cause(const GangView& gang);

}  // namespace trainyard::decide
