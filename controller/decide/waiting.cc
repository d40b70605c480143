#include "controller/decide/waiting.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "controller/decide/accept.h"
#include "controller/decide/conditions.h"
#include "controller/decide/queues.h"
#include "controller/decide/text_hash.h"

namespace trainyard::decide {
namespace {

/// A job that waits is told why, its position and its start anew at most so often.
constexpr std::chrono::seconds kWaitToldAgain{15};
/// Those of many that began to wait together are told at about this rate, not all at once.
constexpr std::size_t kToldASecond = 10;
/// So many are told in one look for the first time, and so many anew; the others in the next, which comes as soon as some of these were
/// told. What has to be placed meanwhile does not wait until words are found for all.
constexpr std::int32_t kToldALook = 64;
/// A forecast that moves by less than this, or than a tenth of the whole wait, is not told anew. So of a forecast that moves with the clock, as
/// where a gang overruns, ever fewer words are written.
constexpr std::chrono::seconds kSteady{60};

/// The forecast, or what was told of it before, which is near enough.
std::string steady(const Job& job, Time start) {
  const auto& queue = job.status.queue;
  const auto told = queue && queue->estimatedStartTime ? contract::parse_rfc3339(*queue->estimatedStartTime) : std::nullopt;
  if (!told) return contract::to_rfc3339(start);
  const Time since = std::max(job.created, since_of(job.status, condition::kPlaced));
  const auto off = start > *told ? start - *told : *told - start;
  return off <= std::max<Time::duration>(kSteady, (start - since) / 10) ? *queue->estimatedStartTime
                                                                        : contract::to_rfc3339(start);
}

}  // namespace

Plan Waiting::wait(const Candidate& candidate, Wait why) {
  std::int32_t& number = is_news(candidate, why.is_within_quota) ? num_told_ : num_told_anew_;
  Plan plan = tell(candidate, std::move(why));
  if (!plan.is_empty()) ++number;
  return plan;
}

Plan Waiting::tell(const Candidate& candidate, Wait why) {
  const Job& job = *candidate.job;
  Review review = review_in_line(cluster_, job, now_, candidate.gang);
  if (why.again) review.look_again(*why.again);
  review.status.dryRun.reset();
  if (candidate.has_others()) return wait_for_the_rest(review, why.message);
  if (!why.is_within_quota) {
    review.set(condition::kAdmitted, false, why.reason, why.message);
    review.status.admission.reset();
  } else if (!queue_name(cluster_, job).empty()) {
    review.set(condition::kAdmitted, true, "WithinQuota", "its queue's quota has room for it; it waits for nodes");
  }
  review.set(condition::kPlaced, false, why.reason, std::move(why.message));
  contract::QueueStatus queue;
  if (job.status.queue) queue.firstEstimate = job.status.queue->firstEstimate;
  queue.position = why.position;
  if (why.estimated_start) {
    queue.estimatedStartTime = why.is_forecast ? steady(job, *why.estimated_start) : contract::to_rfc3339(*why.estimated_start);
    queue.estimateErrorSeconds = estimate_error();
    if (!queue.firstEstimate) queue.firstEstimate = queue.estimatedStartTime;
  }
  review.status.queue = std::move(queue);
  return review.plan();
}

/// A gang does not hold nodes in vain: two halves could wait for each other for ever.
Plan Waiting::wait_for_the_rest(Review& review, const std::string& why) const {
  const Job& job = review.job;
  const std::string reason = reason_of(job.status, condition::kPlaced);
  const Time patience = since_of(job.status, condition::kPlaced) + std::chrono::seconds(job.spec.lifecycle.startTimeoutSeconds);
  const bool was_running = reason == reason::kWorkerLost || reason == reason::kNoReplacement || reason == reason::kResizing;
  if (!was_running || now_ >= patience) {
    review.set(condition::kPlaced, false, reason::kGangRemoved, "the gang is not whole, and can't be made so: " + why);
  } else {
    review.set(condition::kPlaced, false, reason::kNoReplacement, "a lost worker can't be replaced: " + why);
    review.look_again(patience);
  }
  return review.plan();
}

/// Whether it was not told yet that it waits, or that it waits for something else.
bool Waiting::is_news(const Candidate& candidate, bool is_within_quota) {
  const Job& job = *candidate.job;
  const std::string& told = reason_of(job.status, condition::kPlaced);
  static constexpr std::array<std::string_view, 7> kTold{reason::kUnschedulable, reason::kNeverFits,     reason::kReserved,
                                                         reason::kMakingRoom,    reason::kQuotaExceeded, reason::kQuotaTooSmall,
                                                         reason::kQueueStopped};
  return std::find(kTold.begin(), kTold.end(), told) == kTold.end() ||
         is_false(job.status, condition::kAdmitted) == is_within_quota;
}

std::optional<Time> Waiting::explained_until(const Candidate& candidate, bool is_within_quota) const {
  if (candidate.has_others()) return std::nullopt;
  const Job& job = *candidate.job;
  const bool tells_news = is_news(candidate, is_within_quota);
  if (!tells_news) {
    const std::chrono::seconds turn(text_number(job.uid) % (in_line_ / kToldASecond + 1));
    const Time due = std::max(numbers_due(cluster_, job), job.status_written + kWaitToldAgain + turn);
    if (now_ < due) return due;
  }
  const std::int32_t told = tells_news ? num_told_ : num_told_anew_;
  return told < kToldALook ? std::nullopt : std::optional(now_ + std::chrono::seconds(1));
}

/// How far first estimates were off: the median over the jobs that have started since.
std::optional<std::int64_t> Waiting::estimate_error() {
  if (!errors_) {
    errors_.emplace();
    const auto add = [this](const std::optional<std::int64_t>& delay) {
      if (delay) errors_->push_back(std::abs(*delay));
    };
    for (const auto& [key, job] : cluster_.jobs()) add(job.status.queue ? job.status.queue->startDelaySeconds : std::nullopt);
    for (const auto& [key, job] : cluster_.packed_jobs()) add(job.start_delay);
    std::sort(errors_->begin(), errors_->end());
  }
  return errors_->empty() ? std::nullopt : std::optional((*errors_)[errors_->size() / 2]);
}

}  // namespace trainyard::decide
