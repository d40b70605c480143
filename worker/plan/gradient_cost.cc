#include "worker/plan/gradient_cost.h"

#include <algorithm>
#include <bit>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"
#include "worker/plan/stages.h"

namespace trainyard::plan {
namespace {

constexpr std::int64_t kFloatBytes = 4;

std::int64_t ones(std::int64_t number) { return std::popcount(static_cast<std::uint64_t>(number)); }

/// Elements that reduce_over() gathers at a time.
constexpr std::int64_t kGathered = std::int64_t{1} << 22;

}  // namespace

GradientCost::GradientCost(const contract::TrainingJobSpec& spec, std::int64_t elements, std::int64_t last,
                           const std::optional<ZeroMemory>& zero)
    : is_canonical_(spec.training.reduction == contract::Reduction::kCanonical),
      splits_(spec.parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kZeroBubble &&
              spec.parallelism.pipeline > 1),
      exchanges_each_(reduces_every_micro_batch(spec)),
      data_(contract::degrees(spec).dp),
      micro_batches_(micro_batches_per_step(spec)),
      each_(weight_bytes(spec)),
      sum_(kFloatBytes * elements),
      own_(each_ * elements / chunks_per_stage(spec.parallelism)),
      last_(each_ * last),
      zero_(zero) {}

std::int64_t GradientCost::sums(std::int64_t done) const {
  if (done == 0) return 0;
  if (exchanges_each_) return zero_->shard_sums + zero_->last_down;
  return is_canonical_ ? sum_ * ones(done) : sum_;
}

std::int64_t GradientCost::as_it_begins(std::int64_t done) const {
  return !zero_ && is_canonical_ && done % 2 == 1 ? sums(done - 1) + own_ : sums(done);
}

std::int64_t GradientCost::as_its_first_unit_goes(std::int64_t done) const {
  if (!zero_ || splits_) return 0;
  if (exchanges_each_) return sums(done) + each_ * zero_->first_unit + zero_->first_exchange;
  if (done + 1 < micro_batches_) return sums(done);
  return std::max(sums(done), kFloatBytes * zero_->first_unit) + zero_->first_exchange;
}

std::int64_t GradientCost::as_its_second_unit_goes(std::int64_t done) const {
  if (!zero_ || splits_) return 0;
  const std::int64_t exchanges = zero_->first_exchange + zero_->second_exchange;
  if (exchanges_each_) return sums(done) + each_ * zero_->second_unit + exchanges;
  if (done + 1 < micro_batches_) return 0;
  const std::int64_t roots = sums(done) / sum_;
  return sums(done) + kFloatBytes * (done == 0 ? zero_->second_unit : -roots * zero_->first_unit) + exchanges;
}

std::int64_t GradientCost::as_a_later_unit_goes(std::int64_t done, std::int64_t unit) const {
  if (!zero_ || splits_) return 0;
  const auto& under_way = zero_->later.at(static_cast<std::size_t>(unit - 2));
  if (under_way.unit == 0) return 0;
  if (exchanges_each_) return each_ * under_way.unit + under_way.exchanges;
  if (done + 1 < micro_batches_) return 0;
  if (done == 0) return kFloatBytes * under_way.unit + under_way.exchanges;
  const std::int64_t roots = sums(done) / sum_, gone = zero_->first_unit + (unit - 1) * zero_->second_unit;
  return sums(done) - kFloatBytes * roots * gone + under_way.exchanges;
}

std::int64_t GradientCost::as_its_last_layer_begins(std::int64_t done) const {
  if (!zero_) return sums(done) + std::max<std::int64_t>(0, own_ - last_);
  return as_it_ends(done) - (exchanges_each_ ? each_ : kFloatBytes) * zero_->unit;
}

std::int64_t GradientCost::as_it_ends(std::int64_t done) const {
  if (!zero_) {
    const bool is_first_of_fast = done == 0 && (!is_canonical_ || micro_batches_ == 1);
    return is_first_of_fast ? std::max(sum_, own_) : sums(done) + own_;
  }
  const std::int64_t late = splits_ ? own_ : 0;
  if (exchanges_each_) return zero_->shard_sums + each_ * zero_->unit + zero_->exchanges + late;
  if (done + 1 < micro_batches_) return std::max(sums(done) + kFloatBytes * zero_->unit, sums(done + 1)) + late;
  return splits_ ? sums(done) + late + zero_->exchanges : zero_->shard_sums + kFloatBytes * zero_->unit + zero_->exchanges;
}

std::int64_t GradientCost::as_they_are_reduced() const {
  if (zero_ || data_ == 1) return 0;
  return 2 * sum_ + (is_canonical_ ? kFloatBytes * data_ * std::min(kGathered, sum_ / kFloatBytes) : 0);
}

}  // namespace trainyard::plan
