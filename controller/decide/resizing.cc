#include "controller/decide/resizing.h"

#include <algorithm>

#include "controller/decide/elastic.h"
#include "controller/decide/vacating.h"

namespace trainyard::decide {
namespace {

std::string counted(std::int32_t number) { return std::to_string(number) + (number == 1 ? " worker" : " workers"); }

/// The next generation is placed; phase_of() calls it restarting.
void settle(Review& review) {
  const auto& resize = review.status.resize;
  const std::string message =
      "the ranks have stopped, and go on from their newest checkpoint" + (resize ? " with " + counted(resize->workers) : "");
  review.set(condition::kPlaced, false, reason::kResizing, message);
  review.set(condition::kRunning, false, reason::kRestarting, message);
  review.set(condition::kProgressing, false, reason::kRestarting, message);
}

}  // namespace

void begin_resize(Review& review, std::int32_t workers, const std::string& why) {
  review.status.resize = contract::ResizeStatus{.workers = workers, .at = contract::to_rfc3339(review.now)};
  review.set(condition::kRunning, false, reason::kResizing,
             "a checkpoint is written, then the gang goes on with " + counted(workers) + " instead of " +
                 std::to_string(gang_size(review.job)) + ": " + why);
}

bool resize(Review& review) {
  if (reason_of(review.status, condition::kRunning) == reason::kResizing) {
    if (have_ranks_stopped(review)) settle(review);
    return true;
  }
  const auto fewer = fewer_wanted(review.job);
  const auto& workers = review.gang.workers;
  // A failure is seen to first.
  const bool all_train =
      std::all_of(workers.begin(), workers.end(), [](const Worker& worker) { return worker.state == WorkerState::kUp; });
  if (!fewer || !all_train) return false;
  begin_resize(review, *fewer, "spec.workers.count asks for no more");
  return true;
}

}  // namespace trainyard::decide
