#include "controller/decide/starting.h"

#include <algorithm>
#include <utility>

#include "controller/decide/creation.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/progress.h"
#include "controller/decide/unseen_nodes.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;

/// The kubelet says of both that it could not pull the image, by turns.
std::string waiting_reason(const WorkerPod& pod) {
  return pod.waiting_reason == "ErrImagePull" || pod.waiting_reason == "ImagePullBackOff" ? "ImageNotPulled" : pod.waiting_reason;
}

/// An image takes its time; a volume or a Secret that is missing is waited for without a word in the pod.
constexpr std::chrono::seconds kCreationTold{30};
/// A program whose image is there is up by then, that of a gang of one also where many begin at once.
constexpr std::chrono::milliseconds kProgramAwaited{5'000}, kProgramsAwaited{200};

struct Trouble {
  std::string reason, message;
};

/// The first worker, by index, that something keeps from coming up.
std::optional<Trouble> trouble(const GangView& gang) {
  for (const auto& worker : gang.workers) {
    if (has_refused(worker)) {
      return Trouble{reason::kAssignmentRefused,
                     name_of_worker(worker) + " does not take its assignment: " + worker.agent->error};
    }
    if (worker.state != WorkerState::kComing) continue;
    const auto& pod = *worker.pod->worker;
    if (is_stuck(pod)) return Trouble{waiting_reason(pod), name_of_worker(worker) + ": " + pod.waiting_message};
    if (!pod.unscheduled_message.empty()) {
      return Trouble{"NotScheduled", name_of_worker(worker) + ": " + pod.unscheduled_message};
    }
  }
  return std::nullopt;
}

/// What the ranks passed over when they last resumed, and from where they went on instead, in the reporting rank's own words; else empty.
std::string passed_over(const std::vector<Worker>& workers) {
  std::string corrupt, words;
  for (const auto& worker : workers) {
    if (worker.said == nullptr || !worker.said->progress) continue;
    for (const auto& notice : worker.said->notices) {  // in the order in which they were made
      if (notice.reason == "CheckpointCorrupt") corrupt += "; " + notice.message;
      if (notice.reason != "Resumed") continue;
      const std::string passed = std::exchange(corrupt, {});
      words = passed.empty() ? "" : "; " + notice.message + ", since newer checkpoints are not whole" + passed;
    }
  }
  return words;
}

/// Agents that are silent though their containers run: most often a NetworkPolicy hides them.
std::optional<Trouble> silence(Review& review) {
  std::vector<const Worker*> silent;
  for (const auto& worker : review.gang.workers) {
    const bool runs =
        worker.pod != nullptr && is_live(*worker.pod) && !worker.pod->deletion_time && worker.pod->worker->container_running;
    if (!runs || worker.agent == nullptr || worker.agent->reachable || worker.pod->worker->agent_port == 0) continue;
    const Time over = worker.agent->since + review.cluster.settings.agent_silence_told;
    if (review.now >= over) {
      silent.push_back(&worker);
    } else {
      review.look_again(over);
    }
  }
  if (silent.empty()) return std::nullopt;
  const Worker& first = *silent.front();
  const std::string number = silent.size() == 1 ? "" : " and " + std::to_string(silent.size() - 1) + " more";
  if (first.agent->other_key) {
    return Trouble{
        reason::kOtherControllerKey,
        "the controller's key is not the one that " + name_of_worker(first) + number +
            " was started with, so the controller does not learn how it goes on. Give the controller the key that it had, "
            "or suspend and resume the job, so that its workers get the new one (docs/operating.md)"};
  }
  const std::string& ns = review.cluster.settings.controller_namespace;
  const bool refused = first.agent->error.find("refused") != std::string::npos;
  const std::string other = refused ? ". Does its container run another program than `trainyard-worker agent`, as by "
                                      "spec.workers.template's command? If not"
                                    : "";
  return Trouble{reason::kAgentUnreachable, "the controller can't reach the agent of " + name_of_worker(first) + number + ": " +
                                                first.agent->error + other + ". If NetworkPolicies restrict namespace " +
                                                review.job.key.ns + ", add one that allows ingress to TCP port " +
                                                std::to_string(first.pod->worker->agent_port) + " of pods with the label " +
                                                std::string(contract::kJobLabel) + " from namespace " +
                                                (ns.empty() ? "of the controller" : ns) + " (docs/operating.md has it)"};
}

bool is_at(const Worker& worker, AgentPhase phase) { return worker.said != nullptr && worker.said->phase == phase; }

void tell_of_steps(Review& review) {
  const auto& progress = review.status.progress;
  const auto updated = contract::parse_rfc3339(progress ? progress->updatedAt : "");
  if (!updated) return review.set(condition::kProgressing, true, "Training", "");
  const Time over = *updated + review.cluster.settings.silence_told;
  if (review.now < over) {
    review.look_again(over);
    return review.set(condition::kProgressing, true, "Training", "");
  }
  review.set(condition::kProgressing, false, "NoProgress",
             "no step was done since " + progress->updatedAt + "; the last was step " + std::to_string(progress->step));
}

void tell_of_start(Review& review, const std::optional<Trouble>& unreachable) {
  const auto& gang = review.gang;
  const auto up =
      std::count_if(gang.workers.begin(), gang.workers.end(), [](const Worker& w) { return w.state != WorkerState::kComing; });
  std::string message = std::to_string(up) + " of " + std::to_string(gang.workers.size()) + " workers are up";
  for (const auto& worker : gang.workers) {
    if (worker.state != WorkerState::kComing) continue;
    const Time told = worker.pod->created + kCreationTold;
    if (review.now >= told) {
      message += "; " + name_of_worker(worker) + " " + waits_for(worker);
      break;
    }
    review.look_again(told);
  }
  const bool restarting = reason_of(review.status, condition::kProgressing) == reason::kRestarting;
  if (const auto stuck = trouble(gang)) {
    review.set(condition::kRunning, false, stuck->reason, stuck->message);
  } else if (unreachable) {
    review.set(condition::kRunning, false, unreachable->reason, unreachable->message);
  } else if (!restarting || reason_of(review.status, condition::kRunning) != reason::kRestarting) {
    review.set(condition::kRunning, false, reason::kWorkersStarting, message);
  }
  if (!restarting) review.set(condition::kProgressing, false, "Starting", "no step was done yet");
}

/// That the pod is made, and that its program runs, are told in one word where the one follows the other soon: of many short jobs the API
/// server has a write less of each, and none while the pods of a gang begin. Of several pods not for long: a next leader has to know that all
/// of them were there, since one of the same generation that was made a second time would meet peers that it never knew.
void wait_for_programs(Review& review) {
  const Job& job = review.job;
  const auto& workers = review.gang.workers;
  if (has_agent(job.spec) || reason_of(job.status, condition::kPlaced) != reason::kCreatingWorkers) return;
  const bool come =
      reason_of(review.status, condition::kRunning) == reason::kWorkersStarting &&
      std::none_of(workers.begin(), workers.end(), [](const Worker& w) { return w.pod == nullptr || w.pod->deletion_time; });
  const Time due = job.status_written + (workers.size() == 1 ? kProgramAwaited : kProgramsAwaited);
  if (!come || review.now >= due) return;
  review.holds_status = true;
  review.look_again(due, std::chrono::milliseconds(1));
}

/// Programs that tell nothing run once all their containers do.
void tell_how_programs_run(Review& review, const std::optional<Trouble>& unreachable) {
  const auto& workers = review.gang.workers;
  const bool all_run = is_true(review.status, condition::kRunning) ||
                       std::all_of(workers.begin(), workers.end(), [](const Worker& worker) { return worker.ready; });
  if (!all_run) {
    tell_of_start(review, std::nullopt);
    return wait_for_programs(review);
  }
  const auto done =
      std::count_if(workers.begin(), workers.end(), [](const Worker& worker) { return worker.state == WorkerState::kSucceeded; });
  const std::string number = std::to_string(workers.size());
  if (unreachable) {
    review.set(condition::kRunning, true, unreachable->reason, unreachable->message);
  } else {
    review.set(condition::kRunning, true, reason::kProgramsRun,
               done == 0 ? number + " workers run" : std::to_string(done) + " of " + number + " workers are done");
  }
  if (review.status.progress) return tell_of_steps(review);
  review.set(condition::kProgressing, true, reason::kProgramsRun, "the engine Custom tells no steps");
}

}  // namespace

bool is_stuck(const WorkerPod& pod) {
  return !pod.waiting_reason.empty() && pod.waiting_reason != "ContainerCreating" && pod.waiting_reason != "PodInitializing";
}

std::string waits_for(const Worker& worker) {
  if (is_reachable(worker) && !worker.agent->error.empty()) return "does not take its assignment: " + worker.agent->error;
  const auto& pod = *worker.pod->worker;
  if (!pod.unscheduled_message.empty()) return "is not scheduled: " + pod.unscheduled_message;
  if (!pod.waiting_reason.empty()) {
    const auto& key = worker.pod->key;
    const std::string more = is_stuck(pod)
                                 ? ""
                                 : "; `kubectl -n " + key.ns + " events --for pod/" + key.name +
                                       "` says for what: a Secret, ConfigMap or volume that is missing, or a large image";
    return "waits: " + pod.waiting_reason + (pod.waiting_message.empty() ? "" : ": " + pod.waiting_message) + more;
  }
  if (!pod.container_running) return "was not started by its kubelet";
  if (worker.agent != nullptr && !worker.agent->error.empty()) return "has an agent that does not answer: " + worker.agent->error;
  return "has an agent that was not reached yet";
}

void tell_how_it_runs(Review& review) {
  const auto& workers = review.gang.workers;
  copy_progress(review);
  count_nodes(review);
  // Why the gang has not as many as were asked for, schedule() knows.
  const std::string placed = placed_message(review.job.spec, review.status);
  if (!tells_why_not_more(review.status, placed)) review.set(condition::kPlaced, true, reason::kGangPlaced, placed);
  review.status.workers = {
      .desired = review.job.spec.workers.count,
      .ready = static_cast<std::int32_t>(std::count_if(workers.begin(), workers.end(), [](const Worker& w) { return w.ready; }))};
  const auto unreachable = silence(review);
  if (review.job.spec.engine == contract::Engine::kCustom) return tell_how_programs_run(review, unreachable);
  const bool trains =
      is_true(review.status, condition::kRunning) || std::any_of(workers.begin(), workers.end(), [](const Worker& worker) {
        return is_at(worker, AgentPhase::kRunning) || is_at(worker, AgentPhase::kSucceeded);
      });
  if (!trains) return tell_of_start(review, unreachable);
  if (unreachable) {
    review.set(condition::kRunning, true, unreachable->reason, unreachable->message);
  } else {
    review.set(
        condition::kRunning, true, "Training",
        (workers.size() == 1 ? "1 worker trains" : std::to_string(workers.size()) + " workers train") + passed_over(workers));
  }
  tell_of_steps(review);
}

}  // namespace trainyard::decide
