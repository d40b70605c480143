#include "controller/decide/vacating.h"

#include <algorithm>

#include "controller/decide/ending.h"
#include "controller/decide/progress.h"
#include "controller/decide/queues.h"

namespace trainyard::decide {
namespace {

/// Whether a checkpoint can be asked for. Programs of the engine Custom write theirs by themselves, at SIGTERM if they like.
bool has_checkpoints(const Review& review) { return review.job.spec.engine == contract::Engine::kTrainyard; }

bool has_live_pods(const Review& review) {
  const auto pods = review.cluster.pods_of(review.job);
  return std::any_of(pods.begin(), pods.end(), [](const Pod* pod) { return is_live(*pod); });
}

/// A pod on a lost node stays until that is back; to ask it again to go would be to ask for ever.
bool has_pods_that_may_run(const Review& review) {
  const auto pods = review.cluster.pods_of(review.job);
  return std::any_of(pods.begin(), pods.end(),
                     [&](const Pod* pod) { return may_run_until(review.cluster, *pod, review.now).has_value(); });
}

/// Of pods that were deleted: those on a node that is lost are not waited for, since nobody tells of their end before it is back.
bool waits_for_pods(Review& review) {
  bool found = false;
  for (const auto* pod : review.cluster.pods_of(review.job)) {
    const auto until = may_run_until(review.cluster, *pod, review.now);
    if (!until) continue;
    found = true;
    if (*until != Time::max()) review.look_again(*until);
  }
  return found;
}

void remove_all(Review& review, const char* why) {
  for (const auto* pod : review.cluster.pods_of(review.job)) review.remove(*pod, why);
}

/// What was reached stays; a place, a rate and the time left are of ranks that train.
void forget_the_gang(Review& review) {
  review.status.workers = {};
  review.status.spares.reset();
  review.status.placement.reset();
  review.status.resize.reset();
  review.status.admission.reset();
  if (auto& progress = review.status.progress) {
    progress->tokensPerSecond.reset();
    progress->mfu.reset();
    progress->remainingSeconds.reset();
  }
}

void set_all(Review& review, const char* reason, const char* message) {
  for (const char* type : {condition::kPlaced, condition::kRunning, condition::kProgressing}) {
    review.set(type, false, reason, message);
  }
}

void settle(Review& review) {
  forget_the_gang(review);
  const char* message = has_checkpoints(review)
                            ? "the job is suspended; spec.suspend: false goes on from the newest checkpoint, where there is one"
                            : "the job is suspended; spec.suspend: false starts it again";
  review.set(condition::kSuspended, true, "Suspended", message);
  set_all(review, "Suspended", message);
}

/// It waits for its place again, which in the line is what it was.
void settle_preempted(Review& review) {
  forget_the_gang(review);
  ++review.status.preemptions;
  review.status.startTime.reset();  // as after a suspension
  set_all(review, reason::kPreempted,
          has_checkpoints(review) ? "the job made room for another; it goes on from its newest checkpoint, where there is one"
                                  : "the job made room for another; it starts again when there is room");
}

void settle_drained(Review& review) {
  forget_the_gang(review);
  review.status.startTime.reset();
  set_all(
      review, reason::kDrained,
      has_checkpoints(review)
          ? "its TrainingQueue was drained; the job goes on from its newest checkpoint, where there is one, when it starts again"
          : "its TrainingQueue was drained; the job starts again when the queue does");
}

/// The ranks were done before they were told to stop.
bool all_succeeded(const GangView& gang) {
  return std::all_of(gang.workers.begin(), gang.workers.end(),
                     [](const Worker& worker) { return worker.state == WorkerState::kSucceeded; });
}

/// Of ranks that were told to stop: whether they have, or there is no more use in waiting for them, since one is lost or
/// lifecycle.checkpointGraceSeconds are over. Those of an agent that was not heard yet get SIGTERM with their pod.
bool have_ranks_stopped(Review& review) {
  copy_progress(review);
  const auto& workers = review.gang.workers;
  const bool trains = std::any_of(workers.begin(), workers.end(), is_training);
  // A checkpoint takes all of them.
  const bool one_is_lost = std::any_of(workers.begin(), workers.end(), [](const Worker& w) { return w.failure.has_value(); });
  const Time patience =
      since_of(review.status, condition::kRunning) + std::chrono::seconds(review.job.spec.lifecycle.checkpointGraceSeconds);
  if (!has_checkpoints(review) || !trains || one_is_lost || review.now >= patience) return true;
  review.look_again(patience);
  return false;
}

/// After the mark is in the status, assignments tell the ranks to stop. True once the pods are gone.
bool carry_through(Review& review, const char* why) {
  if (!have_ranks_stopped(review)) return false;
  remove_all(review, why);
  return !waits_for_pods(review);
}

constexpr const char* kSuspendedPods = "the job is suspended";

}  // namespace

bool vacate(Review& review) {
  const std::string stage = reason_of(review.status, condition::kRunning);
  const bool suspended = is_true(review.status, condition::kSuspended);
  if (is_stopping(review.status) && all_succeeded(review.gang)) {
    copy_progress(review);
    succeed(review);
    return true;
  }
  if (stage == reason::kSuspending) {
    if (carry_through(review, kSuspendedPods)) settle(review);
    return true;
  }
  if (stage == reason::kPreempting) {
    if (carry_through(review, "the job makes room for another")) settle_preempted(review);
    return true;
  }
  if (stage == reason::kDraining) {
    if (carry_through(review, "its queue is drained")) settle_drained(review);
    return true;
  }
  if (review.job.spec.suspend) {
    if (suspended) {
      remove_all(review, kSuspendedPods);
    } else if (has_live_pods(review)) {
      review.set(condition::kRunning, false, reason::kSuspending,
                 has_checkpoints(review) ? "a checkpoint is written, then the pods go"
                                         : "the pods are deleted: SIGTERM, and SIGKILL when their grace is over");
    } else {
      remove_all(review, kSuspendedPods);
      settle(review);
    }
    return true;
  }
  const Queue* drains = suspended || !has_pods_that_may_run(review) ? nullptr : draining_queue(review.cluster, review.job);
  if (drains != nullptr) {
    review.set(condition::kRunning, false, reason::kDraining,
               std::string(has_checkpoints(review) ? "a checkpoint is written, then the pods go" : "the pods are deleted") +
                   ": spec.stop of TrainingQueue " + drains->name + " is Drain");
    return true;
  }
  if (suspended) {
    review.status.startTime.reset();  // as in a Kubernetes Job: the deadline counts from the resume
    review.set(condition::kSuspended, false, "Resumed",
               has_checkpoints(review) ? "spec.suspend is false; the job goes on from its newest checkpoint, where there is one"
                                       : "spec.suspend is false; the job starts again");
    set_all(review, "Resumed", "the job waits for its place");
  }
  return false;
}

}  // namespace trainyard::decide
