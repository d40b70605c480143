#include "controller/decide/worker_view.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <tuple>

#include "controller/decide/avoided_nodes.h"
#include "controller/decide/classify.h"
#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/node_health.h"
#include "controller/decide/pod_failure.h"
#include "controller/decide/spares.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;
using contract::State;

std::string silence_of(const AgentView& agent) {
  return "its agent does not answer: " + agent.error + "; a NetworkPolicy may hide it, or its node is cut off";
}

/// Looks at one worker; collects when to look again.
class Examination {
 public:
  Examination(const Cluster& cluster, const Job& job, Time now) : cluster_(cluster), job_(job), now_(now) {}

  Worker examine(std::int32_t index, const Pod* pod) {
    Worker worker{.index = index, .pod = pod};
    if (pod == nullptr) {
      worker.failure = worker_gone(index);
      return worker;
    }
    worker.agent = cluster_.agent(pod->uid);
    if (is_custom()) {
      examine_custom(worker);
    } else {
      worker.ready = is_reachable(worker);
      worker.said = words_of(worker);
      // A container that ended ends no pod that has others.
      if (pod->is_finished() || pod->worker->exit_code) {
        examine_ended(worker);
      } else {
        examine_living(worker);
      }
    }
    if (worker.failure) judge(worker);
    return worker;
  }

  std::optional<Time> changes_at() const { return changes_at_; }

 private:
  bool is_custom() const { return job_.spec.engine == contract::Engine::kCustom; }

  /// Whose fault the failure is.
  void judge(Worker& worker) const {
    const Pod& pod = *worker.pod;
    const Node* node = cluster_.node(pod.node);
    contract::Failure& failure = *worker.failure;
    failure.worker = worker.index;  // whatever the pod was made as
    const Verdict verdict = classify(failure, {.pod_reason = pod.worker->reason,
                                               .container_reason = pod.worker->exit_reason,
                                               .memory_limited = pod.worker->memory_limited,
                                               .memory_pressure = node != nullptr && node->memory_pressure,
                                               .has_gpus = job_.spec.workers.gpusPerWorker > 0,
                                               .peers_are_told = !is_custom(),
                                               .node_trouble = node == nullptr ? "" : node->trouble});
    if (is_custom() && failure.reason == kProgramExited) failure.message += words_of_end(failure, verdict.line);
    if (verdict.reason == kNodeOutOfMemory && node != nullptr && node->memory_pressure) tell_of_memory_pressure(failure, pod);
    failure.failureClass = verdict.failure_class;
    if (!verdict.reason.empty()) failure.reason = verdict.reason;
    worker.secondary = worker.secondary || verdict.is_secondary;
    worker.blames_node = verdict.blames_node && !worker.secondary;
  }

  /// What counts is what was said about the gang's present generation.
  const State* words_of(const Worker& worker) const {
    const auto generation = job_.status.generation;
    const auto& last_word = worker.pod->worker->last_word;
    if (last_word && last_word->generation == generation) return &*last_word;
    if (worker.agent != nullptr && worker.agent->state && worker.agent->state->generation == generation)
      return &*worker.agent->state;
    return nullptr;
  }

  /// True where the agent's word settles it.
  static bool take_word(Worker& worker) {
    if (worker.said == nullptr) return false;
    switch (worker.said->phase) {
      case AgentPhase::kSucceeded: worker.state = WorkerState::kSucceeded; return true;
      case AgentPhase::kStopped: worker.state = WorkerState::kStopped; return true;
      case AgentPhase::kFailed:
        worker.state = WorkerState::kFailed;
        worker.failure = worker.said->failure.value_or(pod_ended(*worker.pod));
        worker.secondary = worker.said->secondary;
        return true;
      default: return false;
    }
  }

  static void examine_ended(Worker& worker) {
    if (take_word(worker)) return;
    worker.state = WorkerState::kLost;
    worker.failure = pod_ended(*worker.pod);
  }

  void lose(Worker& worker, const char* reason, const std::string& how, Time since) const {
    worker.state = WorkerState::kLost;
    worker.failure = pod_lost(*worker.pod, reason, how, since);
  }

  /// Whether that much time has passed since `since`; if not, it is worth looking again then.
  bool is_over(Time since, std::chrono::seconds span) {
    if (now_ >= since + span) return true;
    if (!changes_at_ || since + span < *changes_at_) changes_at_ = since + span;
    return false;
  }

  bool has_lost_its_node(Worker& worker) const {
    const std::string& name = worker.pod->node;
    const Node* node = cluster_.node(name);
    if (name.empty() || !cluster_.settings.sees_cluster) return false;
    if (node != nullptr && !is_out_of_service(*node)) return false;
    if (node == nullptr) {
      lose(worker, "NodeGone", "its node " + name + " is no longer in the cluster", now_);
    } else {
      lose(worker, "NodeLost", "its node " + name + " is out of service", now_);
    }
    return true;
  }

  /// Of a pod that is being deleted.
  void await_end(Worker& worker) {
    const Time over = *worker.pod->deletion_time;
    if (is_over(over, cluster_.settings.node_lost)) {
      worker.state = WorkerState::kLost;
      worker.failure = pod_deleted(cluster_, *worker.pod, "it was deleted, and did not end within its grace", over);
      return;
    }
    worker.state = WorkerState::kLeaving;
  }

  /// Of any program there is the container's exit code alone. What an agent beside it tells is its progress, not how it fares.
  void examine_custom(Worker& worker) {
    const Pod& pod = *worker.pod;
    if (worker.agent != nullptr && worker.agent->state && pod.worker->generation == job_.status.generation) {
      worker.said = &*worker.agent->state;
    }
    if (pod.is_finished() || pod.worker->exit_code) {
      examine_exit(worker);
    } else if (has_lost_its_node(worker)) {
      return;
    } else if (const Node* node = cluster_.node(pod.node);
               node != nullptr && !node->ready && is_over(node->ready_since, cluster_.settings.node_lost)) {
      lose(worker, "NodeLost", "its node " + pod.node + " is not ready", node->ready_since);
    } else if (pod.deletion_time) {
      await_end(worker);
    } else {
      worker.state = pod.worker->container_running ? WorkerState::kUp : WorkerState::kComing;
    }
    worker.ready = worker.state == WorkerState::kUp || worker.state == WorkerState::kSucceeded;
  }

  void examine_exit(Worker& worker) const {
    const Pod& pod = *worker.pod;
    // Many programs answer SIGTERM with 0: one that was told to end has not done its work, whatever it says.
    if (pod.deletion_time) {
      worker.state = WorkerState::kLost;
      worker.failure = pod_deleted(cluster_, pod, "it was told to end, and ended", ended_at(pod));
      return;
    }
    const bool was_ended = !pod.worker->reason.empty();  // by its kubelet or the node controller
    const bool has_succeeded = pod.worker->exit_code ? *pod.worker->exit_code == 0 : pod.phase == PodPhase::kSucceeded;
    if (has_succeeded && !was_ended) {
      worker.state = WorkerState::kSucceeded;
      return;
    }
    worker.state = was_ended || !pod.worker->exit_code ? WorkerState::kLost : WorkerState::kFailed;
    worker.failure = was_ended ? pod_ended(pod) : program_ended(pod);
  }

  Time ended_at(const Pod& pod) const { return pod.worker->exited_at.value_or(now_); }

  void examine_living(Worker& worker) {
    const Pod& pod = *worker.pod;
    const auto& settings = cluster_.settings;
    const Node* node = cluster_.node(pod.node);
    const bool reachable = is_reachable(worker);
    if (has_lost_its_node(worker)) return;
    // A pod whose kubelet is down goes on training: only where its agent was asked and is silent too is the worker lost.
    const bool was_asked = worker.agent != nullptr || pod.worker->ip.empty();
    if (node != nullptr && !node->ready && !reachable && was_asked) {
      const Time since = std::max(node->ready_since, worker.agent != nullptr ? worker.agent->since : pod.created);
      if (is_over(since, settings.node_lost)) {
        return lose(worker, "NodeLost", "its node " + pod.node + " is not ready, and its agent does not answer", since);
      }
    }
    if (pod.deletion_time) {
      if (!take_word(worker)) await_end(worker);
      return;
    }
    // It goes on training and its last word will be read, but it takes no orders: it stays as long as its gang runs.
    if (worker.agent != nullptr && worker.agent->other_key) {
      if (!is_true(job_.status, condition::kRunning)) {
        return lose(worker, "OtherControllerKey", "it was started under another controller key", worker.agent->since);
      }
      worker.state = WorkerState::kUp;
      return;
    }
    worker.reusable = !must_leave(cluster_, pod) && !is_on_failed_node(job_.status, pod);
    if (take_word(worker)) return;
    // Of a gang that trains every agent answered once, if only another controller.
    const bool answered =
        is_true(job_.status, condition::kRunning) || (worker.agent != nullptr && worker.agent->state.has_value());
    worker.state = answered && !pod.worker->ip.empty() ? WorkerState::kUp : WorkerState::kComing;
  }

  const Cluster& cluster_;
  const Job& job_;
  const Time now_;
  std::optional<Time> changes_at_;
};

bool is_concluded(const Worker& worker) { return worker.state != WorkerState::kFailed; }

/// Silence alone loses nobody: the kubelet says that the container runs, so its ranks may well train on, and the cause may be on our
/// side, as where our own network is broken. But where another worker has failed the training has ended, and what goes on needs each
/// agent: then one that was silent for Settings::agent_lost is lost too, and one whose ranks ended before can't take the next generation.
void lose_the_silent(GangView& gang, const Settings& settings, Time now) {
  const bool others_failed =
      std::any_of(gang.workers.begin(), gang.workers.end(), [](const Worker& worker) { return worker.failure.has_value(); });
  for (auto& worker : gang.workers) {
    if (!worker.reusable || worker.agent == nullptr || worker.agent->reachable) continue;
    const bool has_ended = worker.state == WorkerState::kFailed || worker.state == WorkerState::kStopped;
    if (!has_ended && !(others_failed && worker.state == WorkerState::kUp)) continue;
    const Time over = worker.agent->since + settings.agent_lost;
    if (now < over) {
      gang.awaits_silent = true;
      gang.changes_at = std::min(gang.changes_at.value_or(over), over);
      continue;
    }
    worker.reusable = false;
    if (has_ended) continue;
    worker.state = WorkerState::kLost;
    worker.failure = pod_lost(*worker.pod, "AgentLost", "other workers failed, and " + silence_of(*worker.agent), now);
    worker.failure->worker = worker.index;
    // Not where others there can be heard.
    worker.blames_node = std::none_of(gang.workers.begin(), gang.workers.end(), [&worker](const Worker& other) {
      return other.pod != nullptr && other.pod->node == worker.pod->node && is_reachable(other);
    });
  }
}

/// It was of an earlier gang, and ended before this one was placed: it stays for a look at it (kept_pods.h), or is about to be gone. Its
/// place is the new pod's, even while the API server can't be asked for that. Of some, as of evicted ones, nobody says when they ended:
/// while pods are being made these count as such, since no agent has this generation yet (assignments.h), so that it loses nobody.
bool ended_before(const Job& job, const Pod& pod) {
  const bool is_older = pod.is_finished() && pod.worker->generation < job.status.generation;
  if (!is_older || !is_true(job.status, condition::kPlaced)) return false;
  if (!pod.worker->exited_at) return reason_of(job.status, condition::kPlaced) == reason::kCreatingWorkers;
  return *pod.worker->exited_at <= since_of(job.status, condition::kPlaced);
}

}  // namespace

bool is_rejected(const Pod& pod) {
  static constexpr std::array<std::string_view, 5> kReasons{"UnexpectedAdmissionError", "NodeAffinity", "TopologyAffinityError",
                                                            "NodeName", "PodAdmissionRejected"};
  if (pod.phase != PodPhase::kFailed || !pod.worker || pod.worker->exit_code) return false;
  const std::string& reason = pod.worker->reason;
  return reason.starts_with("OutOf") || std::find(kReasons.begin(), kReasons.end(), reason) != kReasons.end();
}

bool is_node_lost(const Cluster& cluster, const std::string& name, Time now) {
  if (!cluster.settings.sees_cluster) return name.empty();
  const Node* node = cluster.node(name);
  return node == nullptr || is_out_of_service(*node) || (!node->ready && now >= node->ready_since + cluster.settings.node_lost);
}

std::optional<Time> may_run_until(const Cluster& cluster, const Pod& pod, Time now) {
  if (!is_live(pod) || is_node_lost(cluster, pod.node, now)) return std::nullopt;
  Time until = pod.deletion_time ? *pod.deletion_time + cluster.settings.node_lost : Time::max();
  if (const Node* node = cluster.node(pod.node); node != nullptr && !node->ready)
    until = std::min(until, node->ready_since + cluster.settings.node_lost);
  if (now >= until) return std::nullopt;
  return until;
}

bool is_reachable(const Worker& worker) { return worker.agent != nullptr && worker.agent->reachable; }

bool is_training(const Worker& worker) {
  return worker.said != nullptr && (worker.state == WorkerState::kUp || worker.state == WorkerState::kLeaving);
}

bool is_unheard(const Worker& worker) {
  const bool may_run = worker.pod != nullptr && is_live(*worker.pod) && !worker.pod->worker->ip.empty() && !worker.failure;
  return may_run && worker.said == nullptr && (worker.agent == nullptr || !worker.agent->state);
}

bool has_refused(const Worker& worker) {
  return worker.state == WorkerState::kUp && worker.said == nullptr && is_reachable(worker) && !worker.agent->error.empty();
}

std::string name_of_worker(const Worker& worker) {
  std::string out = "worker " + std::to_string(worker.index);
  if (worker.pod == nullptr) return out;
  out += " (pod " + to_text(worker.pod->key);
  return out + (worker.pod->node.empty() ? ")" : " on " + worker.pod->node + ")");
}

GangView view_gang(const Cluster& cluster, const Job& job, Time now) {
  GangView gang;
  const std::int32_t size = gang_size(job);
  struct Newest {
    const Pod* pod = nullptr;
    std::int64_t generation = 0;
  };
  std::map<std::int32_t, Newest> newest;
  for (const auto* pod : cluster.pods_of(job)) {
    if (is_rejected(*pod)) {
      gang.rejected.push_back(pod);
      continue;
    }
    const auto* stand_in = stand_in_of(job.status, *pod);
    if (pod->worker->spare && stand_in == nullptr) {
      gang.spares.push_back(pod);
      continue;
    }
    const auto index = stand_in != nullptr ? stand_in->worker : pod->worker->worker;
    const auto generation = stand_in != nullptr ? stand_in->generation : pod->worker->generation;
    // A program runs once: what is left of an earlier gang has no place in this one.
    const bool is_spent = job.spec.engine == contract::Engine::kCustom && pod->worker->generation < job.status.generation;
    if (is_spent || index < 0 || index >= size || ended_before(job, *pod)) {
      // Another controller may have raised the generation, and its workers with it, without our having seen it.
      if (index >= size && pod->worker->generation > job.status.generation) continue;
      gang.superseded.push_back(pod);
      if (index >= size) gang.surplus.push_back(pod);
      continue;
    }
    auto& place = newest[index];
    // Of one generation a pod that was made for the worker comes after the spare that it replaces.
    const bool is_newer = place.pod == nullptr || generation > place.generation ||
                          (generation == place.generation && place.pod->worker->spare && !pod->worker->spare);
    if (!is_newer) {
      gang.superseded.push_back(pod);
    } else {
      if (place.pod != nullptr) gang.superseded.push_back(place.pod);
      place = {pod, generation};
    }
  }
  Examination examination(cluster, job, now);
  gang.workers.reserve(static_cast<std::size_t>(std::max(0, size)));
  for (std::int32_t i = 0; i < size; ++i) {
    const auto found = newest.find(i);
    gang.workers.push_back(examination.examine(i, found == newest.end() ? nullptr : found->second.pod));
  }
  gang.changes_at = examination.changes_at();
  lose_the_silent(gang, cluster.settings, now);
  return gang;
}

std::optional<contract::Failure> first_cause(const GangView& gang) {
  const Worker* first = nullptr;
  const auto order = [](const Worker& worker) { return std::tuple(worker.secondary, is_concluded(worker), worker.failure->at); };
  for (const auto& worker : gang.workers) {
    if (!worker.failure) continue;
    if (first == nullptr || order(worker) < order(*first)) first = &worker;
  }
  if (first == nullptr) return std::nullopt;
  return first->failure;
}

}  // namespace trainyard::decide
