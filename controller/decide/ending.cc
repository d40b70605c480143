#include "controller/decide/ending.h"

#include "controller/decide/kept_pods.h"
#include "controller/decide/progress.h"
#include "controller/decide/spares.h"

namespace trainyard::decide {
namespace {

// A released agent ends at once, and its kubelet says so soon after; this is for those that the release does not reach.
constexpr std::chrono::seconds kReleaseGrace{30};

void end(Review& review, const std::string& why) {
  copy_progress(review);
  review.status.completionTime = contract::to_rfc3339(review.now);
  review.status.workers = {};
  if (auto& spares = review.status.spares) spares->desired = spares->placed = spares->ready = 0;  // who stood in is known on
  review.status.resize.reset();
  review.set(condition::kRunning, false, "Finished", why);
  review.set(condition::kProgressing, false, "Finished", why);
}

}  // namespace

void succeed(Review& review) {
  end(review, "the job succeeded");
  const auto& progress = review.status.progress;
  const bool tells_steps = review.job.spec.engine == contract::Engine::kTrainyard;
  const std::string what = progress      ? std::to_string(progress->step) + " steps are done"
                           : tells_steps ? "all steps are done"
                                         : "all workers have exited with 0";
  review.set(condition::kComplete, true, "Succeeded", what);
}

void fail(Review& review, const std::string& reason, const std::string& message) {
  end(review, "the job failed");
  review.set(condition::kFailed, true, reason.empty() ? "Failed" : reason, message);
}

bool enforce_deadline(Review& review) {
  const auto limit = review.job.spec.lifecycle.activeDeadlineSeconds;
  const auto start = contract::parse_rfc3339(review.status.startTime.value_or(""));
  if (!limit || !start || is_true(review.status, condition::kSuspended)) return false;
  const Time deadline = *start + std::chrono::seconds(*limit);
  if (review.now < deadline) {
    review.look_again(deadline);
    return false;
  }
  fail(review, reason::kDeadlineExceeded,
       "the job was active for more than lifecycle.activeDeadlineSeconds, " + std::to_string(*limit) + " s");
  return true;
}

void clean_up(Review& review) {
  const Time ended = contract::parse_rfc3339(review.status.completionTime.value_or("")).value_or(review.now);
  const bool is_custom = review.job.spec.engine == contract::Engine::kCustom;
  const bool keeps_running = keeps_running_pods(review.job, review.now);
  for (const auto* pod : review.cluster.pods_of(review.job)) {
    if (pod->deletion_time) continue;
    if (!is_live(*pod)) {
      if (removes_ended_pods(review.job)) review.remove(*pod, "the job has ended, and lifecycle.cleanPodPolicy is All");
      continue;
    }
    if (is_idle_spare(review.status, *pod)) {  // there is nothing to see in it
      review.remove(*pod, "the job has ended");
      continue;
    }
    if (keeps_running) {
      if (const auto deadline = deadline_of(review.job)) review.look_again(*deadline);
      continue;
    }
    const auto* agent = review.cluster.agent(pod->uid);
    // Of the engine Custom's programs those end by themselves that have exited, unless their pods have other containers.
    // To fall silent after the end is what the release asks for, and a new leader has yet to ask: a pod that is removed before its
    // kubelet says that it completed takes its logs along.
    const bool may_end = is_custom          ? pod->worker->exit_code.has_value()
                         : agent == nullptr ? !pod->worker->ip.empty()
                                            : agent->reachable || agent->since >= ended;
    if (may_end && review.now < ended + kReleaseGrace) {
      review.look_again(ended + kReleaseGrace);
    } else {
      review.remove(*pod, "the job has ended");
    }
  }
  if (const auto ttl = review.job.spec.lifecycle.ttlSecondsAfterFinished) {
    const Time over = ended + std::chrono::seconds(*ttl);
    if (review.now < over) {
      review.look_again(over);
    } else {
      review.writes.push_back(DeleteJob{review.job.key, review.job.uid, "lifecycle.ttlSecondsAfterFinished is over"});
    }
  }
}

}  // namespace trainyard::decide
