#include "worker/plan/gradient_cost.h"

#include <algorithm>
#include <bit>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"
#include "worker/plan/stages.h"

namespace trainyard::plan {
namespace {

std::int64_t ones(std::int64_t number) { return std::popcount(static_cast<std::uint64_t>(number)); }

}  // namespace

GradientCost::GradientCost(const contract::TrainingJobSpec& spec, std::int64_t elements, const std::optional<ZeroMemory>& zero)
    : is_canonical_(spec.training.reduction == contract::Reduction::kCanonical),
      exchanges_each_(reduces_every_micro_batch(spec)),
      micro_batches_(micro_batches_per_step(spec)),
      each_(weight_bytes(spec)),
      sum_(kFloatBytes * elements),
      own_(each_ * elements / chunks_per_stage(spec.parallelism)),
      zero_(zero) {}

std::int64_t GradientCost::sums(std::int64_t done) const {
  if (done == 0) return 0;
  if (exchanges_each_) return zero_->shard_sums + zero_->last_down;
  return is_canonical_ ? sum_ * ones(done) : sum_;
}

std::int64_t GradientCost::as_it_begins(std::int64_t done) const {
  return !zero_ && is_canonical_ && done % 2 == 1 ? sums(done - 1) + own_ : sums(done);
}

std::int64_t GradientCost::as_it_ends(std::int64_t done) const {
  if (!zero_) {
    const bool is_first_of_fast = done == 0 && (!is_canonical_ || micro_batches_ == 1);
    return is_first_of_fast ? std::max(sum_, own_) : sums(done) + own_;
  }
  if (exchanges_each_) return zero_->shard_sums + each_ * zero_->unit + zero_->exchanges + own_;
  if (done + 1 < micro_batches_) return std::max(sums(done) + kFloatBytes * zero_->unit, sums(done + 1)) + own_;
  return sums(done) + own_ + zero_->exchanges;
}

}  // namespace trainyard::plan
