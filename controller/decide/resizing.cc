#include "controller/decide/resizing.h"

#include <algorithm>

#include "controller/decide/accept.h"
#include "controller/decide/admission.h"
#include "controller/decide/elastic.h"
#include "controller/decide/progress.h"
#include "controller/decide/restart.h"
#include "controller/decide/spares.h"
#include "controller/decide/words.h"

namespace trainyard::decide {
namespace {

bool all_are(const GangView& gang, WorkerState state) {
  return std::all_of(gang.workers.begin(), gang.workers.end(), [state](const Worker& worker) { return worker.state == state; });
}

bool is_resizing(const Review& review) { return reason_of(review.status, condition::kRunning) == reason::kResizing; }

/// The next generation is placed; phase_of() calls it restarting.
void settle(Review& review, const std::string& how) {
  const auto* stopping = resize_for(review.status, contract::ResizeReason::kStopping);
  const std::string with = stopping == nullptr ? "" : " with " + counted(stopping->workers, "worker");
  const std::string message = how + ", and the gang goes on from its newest checkpoint" + with;
  review.set(condition::kPlaced, false, reason::kResizing, message);
  review.set(condition::kRunning, false, reason::kRestarting, message);
  review.set(condition::kProgressing, false, reason::kRestarting, message);
}

/// Of a gang that was to grow: its quota is that of the workers that it has again.
void give_back_quota(Review& review) {
  for (const auto& worker : review.gang.workers) {
    if (worker.pod == nullptr || !is_live(*worker.pod)) continue;  // one that has ended asks for nothing any more
    const auto pods = std::int64_t{gang_size(review.job)} + spares_placed(review.status);
    return lower_admission(review.status, times(worker.pod->requests, pods));
  }
}

/// Ranks failed while they were to write their checkpoint.
void leave_to_restart(Review& review) {
  const auto* stopping = resize_for(review.job.status, contract::ResizeReason::kStopping);
  const auto wanted = stopping == nullptr ? 0 : stopping->workers;
  if (wanted > gang_size(review.job)) {
    give_back_quota(review);
    if (asks_for_more(review.job)) {
      review.status.resize.reset();
    } else {
      refuse_size(review.status, wanted, review.cluster.settings, review.now);
    }
  }
  watch_gang(review);
}

/// After the ranks were told to stop.
void await_stop(Review& review) {
  const auto& workers = review.gang.workers;
  if (first_cause(review.gang)) return leave_to_restart(review);
  copy_progress(review);
  const bool trains =
      std::any_of(workers.begin(), workers.end(), [](const Worker& worker) { return is_training(worker) || is_unheard(worker); });
  const auto span = std::max(kResizePatience, std::chrono::seconds(review.job.spec.lifecycle.checkpointGraceSeconds));
  const Time patience = since_of(review.status, condition::kRunning) + span;
  if (!trains) return settle(review, "the ranks have stopped");
  if (review.now < patience) return review.look_again(patience);
  settle(review, "the ranks wrote no checkpoint within " + std::to_string(span.count()) + " s");
}

}  // namespace

void begin_resize(Review& review, std::int32_t workers, const std::string& why) {
  set_resize(review.status, contract::ResizeReason::kStopping, workers, review.now);
  review.set(condition::kRunning, false, reason::kResizing,
             "a checkpoint is written, then the gang goes on with " + counted(workers, "worker") + " instead of " +
                 std::to_string(gang_size(review.job)) + ": " + why);
}

bool resize(Review& review) {
  if (is_resizing(review)) {
    await_stop(review);
    return true;
  }
  const auto fewer = fewer_wanted(review.job);
  // A failure is seen to first.
  if (!fewer || !all_are(review.gang, WorkerState::kUp)) return false;
  SecondLook look = second_look(review.cluster, review.job, review.now);
  if (look.ask) review.writes.push_back(std::move(*look.ask));
  if (look.again) review.look_again(*look.again);
  if (look.ask || !look.problem.empty()) return false;
  begin_resize(review, *fewer, "spec.workers.count asks for no more");
  return true;
}

}  // namespace trainyard::decide
