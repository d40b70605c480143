#include "controller/decide/older_status.h"

#include "controller/decide/accept.h"
#include "controller/decide/elastic.h"
#include "controller/decide/engine_spec.h"

namespace trainyard::decide {
namespace {

bool complete_size(Review& review) {
  auto& status = review.status;
  if (!status.placement || status.placement->workers) return false;
  const std::int32_t size = gang_size(review.job);
  status.placement->workers = size;
  status.placement->wanted = size;
  return true;
}

/// Older controllers told what status.resize is about by other things: a size that was refused by a time further ahead than any growth that
/// is foreseen, the rest by the conditions.
bool complete_resize(Review& review) {
  auto& status = review.status;
  if (!status.resize || status.resize->reason) return false;
  using contract::ResizeReason;
  const std::chrono::seconds ahead = review.cluster.settings.grow_after;
  const Time at = contract::parse_rfc3339(status.resize->at).value_or(review.now);
  const std::string placed = reason_of(status, condition::kPlaced), running = reason_of(status, condition::kRunning);
  if (at > review.now + ahead) {
    set_resize(status, ResizeReason::kRefused, status.resize->workers, at - ahead);
  } else if (placed == reason::kResizing || running == reason::kResizing) {
    status.resize->reason = ResizeReason::kStopping;
  } else {
    status.resize->reason = placed == reason::kCreatingWorkers ? ResizeReason::kGrewFrom : ResizeReason::kRoomFound;
  }
  return true;
}

/// Whether the spec is still what the gang was made from, as far as one can tell by a name that another release gave: where all have taken
/// their part of it, nobody asks for it again, and that it was edited the older controller has told.
bool is_still_the_same(const Review& review, std::int32_t size) {
  if (review.status.specHash == older_spec_hash(review.job.spec, size)) return true;
  const auto* accepted = find_condition(review.status, condition::kAccepted);
  const bool told = accepted != nullptr && accepted->message.find(kAtNextRestart) != std::string::npos;
  return is_true(review.status, condition::kRunning) && !told;
}

bool rename_spec(Review& review) {
  auto& status = review.status;
  if (!is_older_spec_hash(status.specHash)) return false;
  const std::int32_t size = gang_size(review.job.spec, status);
  if (!is_still_the_same(review, size)) return false;
  status.specHash = spec_hash(review.job.spec, size);
  return true;
}

}  // namespace

bool complete_older_status(Review& review) {
  const bool has_size = complete_size(review), has_reason = complete_resize(review);
  return rename_spec(review) || has_size || has_reason;
}

}  // namespace trainyard::decide
