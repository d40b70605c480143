#include "controller/decide/restart.h"

#include <algorithm>

#include "controller/decide/avoided_nodes.h"
#include "controller/decide/creation.h"
#include "controller/decide/ending.h"
#include "controller/decide/engine_spec.h"
#include "controller/decide/failure_policy.h"
#include "controller/decide/hang.h"
#include "controller/decide/next_generation.h"
#include "controller/decide/node_health.h"
#include "controller/decide/pod_failure.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/progress.h"
#include "controller/decide/spares.h"
#include "controller/decide/start_timeout.h"
#include "controller/decide/unseen_nodes.h"
#include "crds/contract/sparse.h"

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureClass;

bool any_is(const GangView& gang, WorkerState state) {
  return std::any_of(gang.workers.begin(), gang.workers.end(), [state](const Worker& worker) { return worker.state == state; });
}
bool all_are(const GangView& gang, std::initializer_list<WorkerState> states) {
  return std::all_of(gang.workers.begin(), gang.workers.end(), [&states](const Worker& worker) {
    return std::find(states.begin(), states.end(), worker.state) != states.end();
  });
}

bool all_follow(const GangView& gang) {
  return std::all_of(gang.workers.begin(), gang.workers.end(),
                     [](const Worker& worker) { return !worker.failure || worker.secondary; });
}

constexpr std::chrono::seconds kProvedAfter{60};
constexpr std::chrono::seconds kToldWait{15};

/// All workers anew, since single ones can't be replaced: the template changed, or none came up.
enum class Replace { kLostOnes, kAll };

/// Whether the gang got as far before it failed that it may well get there again: it did a step, or, where it tells none or may fail for
/// ever, ran for a minute.
bool has_proved_itself(const Review& review, Outcome outcome) {
  const auto& status = review.job.status;
  if (reason_of(status, condition::kRunning) == reason::kResizing) return true;  // it was stopped for that as it trained
  if (!is_true(status, condition::kRunning)) return false;
  const bool tells_steps = review.job.spec.engine == contract::Engine::kTrainyard;
  return (tells_steps && outcome == Outcome::kCounted) || review.now >= since_of(status, condition::kRunning) + kProvedAfter;
}

/// By the job's rules, else by the failure's class. A program that ran well has its command, paths and sizes right, and the end of its log may
/// tell of what it survived: what only its words call its user's error is counted, so that they end no long run by themselves.
Ruling ruling_on_cause(const Review& review, const Failure& cause) {
  const auto& spec = review.job.spec;
  Ruling ruling = ruling_on(cause, spec.lifecycle.failurePolicy);
  const bool by_words = spec.engine == contract::Engine::kCustom && !cause.lastLines.empty();
  if (ruling.outcome == Outcome::kFail && !ruling.rule && by_words && has_proved_itself(review, Outcome::kCounted)) {
    ruling.outcome = Outcome::kCounted;
  }
  return ruling;
}

/// A gang that fails again and again before it ran well is restarted ever more slowly: at once, then 1, 2, 4 … s after the last failure; up
/// to 30 s where the restarts are counted and will be used up, else up to 10 min.
Time restart_due(const Review& review, Outcome outcome) {
  const auto& status = review.job.status;
  const auto last = contract::parse_rfc3339(status.failure ? status.failure->at : "");
  if (status.failuresInARow == 0 || !last || has_proved_itself(review, outcome)) return review.now;
  const std::chrono::seconds longest(outcome == Outcome::kCounted ? 30 : 600);
  const auto wait = std::min(longest, std::chrono::seconds(1) * (1 << std::min(status.failuresInARow - 1, 10)));
  return std::min(*last, review.now) + wait;  // a worker's clock may go ahead of ours
}

/// A wait that takes long is told.
void back_off(Review& review, Time due, const std::string& message) {
  review.look_again(due);
  if (due - review.now < kToldWait) return;
  const std::string words = "restarts at " + contract::to_rfc3339(due) + ", since it failed " +
                            std::to_string(review.status.failuresInARow + 1) + " times in a row: " + message;
  review.set(condition::kRunning, false, reason::kBackingOff, words);
  review.set(condition::kProgressing, false, reason::kRestarting, words);
}

void count(Review& review, Outcome outcome) {
  auto& status = review.status;
  ++(outcome == Outcome::kCounted ? status.restarts : status.uncountedRestarts);
  status.failuresInARow = has_proved_itself(review, outcome) ? 1 : status.failuresInARow + 1;
}

/// A pod that left its node may be gone before the others have stopped: then the condition has the reason.
void recall_departure(const Review& review, Failure& cause) {
  const auto* running = find_condition(review.status, condition::kRunning);
  if (cause.reason != "WorkerDeleted" || running == nullptr) return;
  if (running->reason != reason::kNodeDrained && running->reason != reason::kNodeUnhealthy) return;
  cause.reason = running->reason;
  cause.message = running->message;
}

void restart(Review& review, Failure cause, Replace replace) {
  if (cause.at.empty()) cause.at = contract::to_rfc3339(review.now);
  recall_departure(review, cause);
  if (cause.reason == contract::kWorkerOutdated) {
    cause.message += "the workers' image is " + worker_image(review.job.spec, review.cluster.settings);
  }
  const auto& lifecycle = review.job.spec.lifecycle;
  const Ruling ruling = ruling_on_cause(review, cause);
  cause.policyRule = ruling.rule;
  const bool is_last = ruling.outcome == Outcome::kCounted && review.status.restarts >= lifecycle.maxRestarts;
  const bool is_late = cause.reason == kStartTimeout;  // it leaves its room to others at once, and waits after that
  if (ruling.outcome != Outcome::kFail && !is_last && !is_late) {
    if (const Time due = restart_due(review, ruling.outcome); review.now < due) return back_off(review, due, cause.message);
    if (replace == Replace::kLostOnes && review.gang.awaits_silent) return;
  }
  const std::string message = cause.message, why = cause.reason;
  review.status.failure = contract::trimmed(std::move(cause));
  if (ruling.outcome == Outcome::kFail) return fail(review, why, message);
  if (is_last) {
    const std::string limit = std::to_string(lifecycle.maxRestarts);
    return fail(review, "MaxRestartsExceeded", "lifecycle.maxRestarts, " + limit + ", are used up; the last failure: " + message);
  }
  count(review, ruling.outcome);
  note_failing_nodes(review);
  review.set(condition::kRunning, false, reason::kRestarting, message);
  review.set(condition::kProgressing, false, reason::kRestarting, message);
  const auto& workers = review.gang.workers;
  const bool in_place = std::all_of(workers.begin(), workers.end(), [&review](const Worker& worker) {
    return worker.reusable && !is_on_failed_node(review.status, *worker.pod);
  });
  if (replace == Replace::kLostOnes && in_place) {
    begin_generation(review);
    return review.set(condition::kPlaced, true, reason::kGangPlaced, placed_message(review.job.spec, review.status));
  }
  // Pods of two templates in one gang would be two images that talk to each other.
  const bool edited = !template_change(review.job, review.cluster.settings).empty();
  const bool all = replace == Replace::kAll || edited || review.job.spec.engine == contract::Engine::kCustom;
  const bool waits = is_late && !edited;  // creation.h
  const std::string from =
      waits ? "; the gang is placed anew from " + contract::to_rfc3339(starts_again_at(review.status)) + " on" : "";
  review.set(condition::kPlaced, false, all ? reason::kGangRemoved : reason::kWorkerLost, message + from);
  take_over(review);
}

/// True where the gang did not come up in time.
bool enforce_start_timeout(Review& review) {
  auto cause = start_timeout(review);
  if (!cause) return false;
  restart(review, std::move(*cause), Replace::kAll);
  return true;
}

/// Whether it is worth waiting for a failure that explains those that are known.
bool wait_for_first_cause(Review& review) {
  const Worker* earliest = nullptr;
  for (const auto& worker : review.gang.workers) {
    if (!worker.failure) continue;
    if (!worker.secondary) return false;
    if (earliest == nullptr || worker.failure->at < earliest->failure->at) earliest = &worker;
  }
  const bool others_run = any_is(review.gang, WorkerState::kUp) || any_is(review.gang, WorkerState::kLeaving) ||
                          any_is(review.gang, WorkerState::kComing);
  const auto at = contract::parse_rfc3339(earliest->failure->at);
  if (!others_run || !at) return false;
  const Time over = std::min(*at, review.now) + review.cluster.settings.secondary_wait;
  if (review.now >= over) return false;
  review.look_again(over);
  return true;
}

/// Ranks stopped though nobody here asked them to: pods are drained, or somebody sent SIGTERM.
bool restart_after_stop(Review& review) {
  if (!any_is(review.gang, WorkerState::kStopped) || !all_are(review.gang, {WorkerState::kStopped, WorkerState::kSucceeded})) {
    return false;
  }
  const auto& workers = review.gang.workers;
  const auto told =
      std::find_if(workers.begin(), workers.end(), [](const Worker& worker) { return worker.pod->deletion_time.has_value(); });
  const Worker& first = told == workers.end() ? workers.front() : *told;
  restart(review,
          pod_deleted(review.cluster, *first.pod, "it was told to end; the ranks wrote a checkpoint and stopped", review.now),
          Replace::kLostOnes);
  return true;
}

/// Workers that were not given this generation before its spec was edited can't be given it any more (assignments.h). The gang can't
/// have begun without them.
bool begin_with_edited_spec(Review& review) {
  const auto& workers = review.gang.workers;
  const bool lacks_one = std::any_of(workers.begin(), workers.end(), [](const Worker& worker) {
    return is_reachable(worker) && worker.said == nullptr && worker.state == WorkerState::kUp;
  });
  if (!lacks_one || !is_spec_edited(review.job)) return false;
  begin_generation(review);
  return true;
}

/// Deletes the pods on nodes that they must leave, on all of them at once. Their agents get SIGTERM, the ranks write a checkpoint and stop, and
/// what follows is what follows any drain: the other pods stay, and these are replaced in one pass. True where some are leaving.
bool leave_nodes(Review& review) {
  const char* reason = nullptr;
  std::string words;
  for (const auto& worker : review.gang.workers) {
    if (worker.pod == nullptr || !is_live(*worker.pod)) continue;
    const auto departure = must_leave(review.cluster, *worker.pod);
    if (!departure) continue;
    if (departure->is_nodes_fault) note_failing_node(review, worker.pod->node, departure->reason);
    review.remove(*worker.pod, departure->why);
    words += (words.empty() ? "" : "; ") + name_of_worker(worker) + " leaves, since " + departure->why;
    reason = departure->reason;
  }
  if (reason != nullptr) review.set(condition::kRunning, is_true(review.status, condition::kRunning), reason, words);
  return reason != nullptr;
}

bool lost_race(Review& review) {
  const auto& gang = review.gang;
  for (const auto* pod : gang.rejected) {
    const auto index = pod->worker->worker;
    if (index < 0 || index >= static_cast<std::int32_t>(gang.workers.size())) continue;
    if (gang.workers[static_cast<std::size_t>(index)].state != WorkerState::kMissing) continue;
    if (pod->worker->generation != review.status.generation) continue;  // told already
    review.set(condition::kPlaced, false, reason::kLostRace,
               "the kubelet of " + pod->node + " rejected pod " + to_text(pod->key) + " (" + pod->worker->reason +
                   (pod->worker->reason.starts_with("OutOf") ? ", as where another scheduler was faster" : "") +
                   "): " + pod->worker->message);
    return true;
  }
  return false;
}

}  // namespace

bool watch_gang(Review& review) {
  const GangView& gang = review.gang;
  copy_progress(review);
  if (lost_race(review)) return false;
  if (reason_of(review.status, condition::kPlaced) == reason::kCreatingWorkers && watch_creation(review)) return false;
  if (all_are(gang, {WorkerState::kSucceeded})) {
    succeed(review);
    return false;
  }
  if (auto cause = first_cause(gang)) {
    if (wait_for_first_cause(review)) return true;
    // Whoever was done first and broke the connections of others is a program that does not end with them: no network's fault.
    if (all_follow(gang) && any_is(gang, WorkerState::kSucceeded)) cause->failureClass = FailureClass::kUnknown;
    restart(review, explain_hang(review.job, gang, std::move(*cause)), Replace::kLostOnes);
    return false;
  }
  if (restart_after_stop(review)) return false;
  if (begin_with_edited_spec(review) || await_nodes(review) || enforce_start_timeout(review)) return false;
  return !leave_nodes(review);
}

void thin_out(Review& review) {
  take_over(review);
  const auto& workers = review.gang.workers;
  const bool has_pods =
      std::any_of(workers.begin(), workers.end(), [](const Worker& w) { return w.pod != nullptr && is_live(*w.pod); });
  review.status.workers.ready =
      static_cast<std::int32_t>(std::count_if(workers.begin(), workers.end(), [](const Worker& w) { return w.ready; }));
  if (!has_pods) return;
  const bool keeps_some = std::any_of(workers.begin(), workers.end(), [](const Worker& worker) { return worker.reusable; });
  const std::string change = keeps_some ? template_change(review.job, review.cluster.settings) : "";
  bool all = is_removed(review.status);
  // A refusal that passes by itself costs no worker: it was asked twice.
  const Time refused_for_good = since_of(review.status, condition::kAccepted) + 2 * review.cluster.settings.template_retry;
  if (!all && is_false(review.status, condition::kAccepted) && review.now >= refused_for_good) {
    review.set(condition::kPlaced, false, reason::kGangRemoved,
               "workers can't be replaced, since the job is not accepted any more");
    all = true;
  } else if (!all && !change.empty()) {
    review.set(condition::kPlaced, false, reason::kGangRemoved,
               change + " since the others were made: all workers are made anew");
    all = true;
  }
  for (const auto& worker : review.gang.workers) {
    if (worker.pod == nullptr || !is_live(*worker.pod)) continue;
    if (all) review.remove(*worker.pod, "the gang is placed anew");
    if (!all && !worker.reusable)
      review.remove(*worker.pod, worker.failure ? worker.failure->message : "it has ended, or has to leave its node");
    // Nobody may take its place while it may still run; schedule() waits for that.
    if (worker.pod->deletion_time) review.look_again(*worker.pod->deletion_time + review.cluster.settings.node_lost);
  }
}

}  // namespace trainyard::decide
