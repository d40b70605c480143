#include "worker/plan/backward_walk.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"
#include "worker/plan/parameters.h"
#include "worker/plan/shards.h"

namespace trainyard::plan {
namespace {

/// Of what AdamW makes of a number while it changes it.
std::int64_t step_bytes_each(const contract::TrainingJobSpec& spec) {
  if (spec.workers.gpusPerWorker > 0 || spec.parallelism.zero.offload.optimizer) return 0;  // a kernel, or pieces
  switch (spec.training.precision.optimizerStates) {
    case contract::OptimizerStates::kFP32: return kFloatBytes;
    case contract::OptimizerStates::kBF16: return 3 * kFloatBytes;  // both moments, too
    case contract::OptimizerStates::kBlockwise8Bit: break;          // pieces, but for norms
  }
  return 0;
}

/// Numbers of the largest tensor that a rank of the stage changes.
std::int64_t largest_tensor(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  const auto mine = stage_parameters(spec, stage);
  std::int64_t most = 0;
  if (zero_stage(spec) == 0) {
    for (const auto& parameter : mine.parameters)
      most = std::max(most, num_elements(box_of(parameter, spec.parallelism.tensor, 0).sizes));
    return most;
  }
  const std::int32_t ranks = shard_ranks(spec);
  for (const auto& unit : shard_units(mine.parameters, spec.parallelism.tensor, 0, ranks)) {
    for (std::int32_t rank = 0; rank < ranks; ++rank) {
      for (const auto& box : unit.boxes(rank)) most = std::max(most, num_elements(box.sizes));
    }
  }
  return most;
}

}  // namespace

/// What has been seen of a micro-batch so far.
class BackwardWalk::Course {
 public:
  void consider(const Moment& moment) {
    if (moment.total() > most.total()) most = moment;
  }
  /// With exchanges under way.
  std::int64_t gradients() const { return sums + own + down + older + newer; }

  Moment most;
  std::int64_t sums = 0;
  std::int64_t own = 0;                           // a micro-batch's, where they stay until it is done
  std::int64_t down = 0;                          // a sum on its way to the host
  std::int64_t older = 0, newer = 0;              // bytes of the exchanges under way
  std::int64_t older_shard = 0, newer_shard = 0;  // of what comes of them
};

BackwardWalk::BackwardWalk(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int64_t parameters,
                           std::int64_t elements, const std::optional<ZeroMemory>& zero)
    : whole_(spec, elements, std::nullopt),
      zero_(zero),
      units_(backward_units(spec, stage)),
      is_canonical_(spec.training.reduction == contract::Reduction::kCanonical),
      exchanges_each_(reduces_every_micro_batch(spec)),
      on_host_(spec.parallelism.zero.offload.optimizer),
      micro_batches_(micro_batches_per_step(spec)),
      each_(weight_bytes(spec)),
      down_(std::int64_t{spec.model.size.value().hiddenSize} * spec.model.size->feedForwardSize / spec.parallelism.tensor),
      parameters_(parameters),
      sum_(kFloatBytes * elements),
      exchange_bytes_(exchange_bytes(spec)),
      step_bytes_(step_bytes_each(spec) * largest_tensor(spec, stage)),
      whole_gathers_(zero || contract::degrees(spec).dp == 1 ? std::nullopt : std::optional<WholeGathers>(spec)),
      gathers_(zero_stage(spec) < 3 && shard_ranks(spec) > 1 ? shard_ranks(spec) : 0) {}

/// Of as many partial sums those of so many micro-batches consist.
std::int64_t BackwardWalk::roots(std::int64_t done) const {
  return is_canonical_ ? std::popcount(static_cast<std::uint64_t>(done)) : std::min<std::int64_t>(1, done);
}

/// Bytes of a parameter in the sums of so many micro-batches. Of one alone they are as they were, but with ZeRO, which makes them FP32.
std::int64_t BackwardWalk::sum_bytes(std::int64_t done) const {
  if (!zero_ && is_canonical_ && done % 2 == 1) return kFloatBytes * roots(done - 1) + each_;
  return kFloatBytes * roots(done);
}

/// Whether a micro-batch's own gradients, or those of the one before that they are added to, turn into FP32 then.
bool BackwardWalk::turns(std::int64_t done) const { return is_canonical_ ? done % 2 == 1 || micro_batches_ == 1 : done == 0; }

std::int64_t BackwardWalk::sums(std::int64_t done) const {
  if (!zero_) return whole_.as_it_begins(done);
  if (exchanges_each_) return done > 0 ? zero_->shard_sums : 0;
  return roots(done) * sum_;
}

/// What it is added to on the host comes up with it.
std::int64_t BackwardWalk::exchange(const BackwardUnit& unit, std::int64_t done) const {
  const bool adds = on_host_ && exchanges_each_ && done > 0;
  return (exchange_bytes_ + (adds ? kFloatBytes : 0)) * unit.part;
}

Moment BackwardWalk::most(std::int64_t done, bool forward_between, const WalkedActivations& activations) const {
  Course now{.sums = sums(done)};
  if (zero_ && exchanges_each_ && on_host_ && done > 0) now.down = kFloatBytes * units_.back().part;
  std::int64_t left = 0;  // of the last one's exchanges
  if (zero_ && exchanges_each_ && !on_host_ && done > 0 && forward_between) {
    for (std::size_t i = units_.size() > 2 ? units_.size() - 2 : 0; i < units_.size(); ++i) left += exchange(units_[i], done - 1);
  }
  now.consider({each_ * units_.back().gathering_in_forward, now.gradients() + left, activations.others});
  now.consider({each_ * units_.front().gathering_in_forward, now.gradients() + left, activations.kept - activations.layer});
  now.consider({each_ * units_.front().weights_in_forward, now.gradients() + left, activations.kept});
  const std::int64_t everything = activations.kept + activations.head;
  now.consider({each_ * units_.front().gathering, now.gradients(), everything});
  now.consider({each_ * units_.front().weights, now.gradients(), everything + activations.work});
  const bool is_last = done + 1 == micro_batches_;
  const std::int64_t others = activations.others + activations.stream;
  std::int64_t kept = activations.kept + activations.stream;
  auto gathers = whole_gathers_;
  for (const auto& unit : units_) {
    const std::int64_t weights = each_ * unit.weights;
    now.consider({each_ * unit.gathering, now.gradients(), kept});
    if (unit.is_layer) {
      now.consider({weights, now.gradients() + each_ * down_, kept + activations.computed_again + activations.layer_work});
      kept = std::max(others, kept - activations.layer);
    }
    if (!zero_ && !gathers) {
      now.own += each_ * unit.elements;
      now.consider({weights, now.gradients(), kept});
      continue;
    }
    now.consider({weights, now.gradients() + (exchanges_each_ || gathers ? each_ : kFloatBytes) * unit.elements, kept});
    if (gathers && turns(done)) now.consider({weights, now.gradients() + unit.turning, kept});
    if (!exchanges_each_) {
      now.sums += unit.elements * (is_last ? 0 : sum_bytes(done + 1));
      now.sums -= unit.elements * sum_bytes(done);
      if (!is_last) continue;  // else all of it goes now
    }
    const std::int64_t goes = (exchanges_each_ ? each_ : kFloatBytes) * unit.elements;
    if (gathers) {
      now.sums += kFloatBytes * unit.elements;  // the flat one
      now.newer = 0;
      now.consider({weights, now.gradients() + goes + gathers->begin(unit.elements), kept});
      now.newer = gathers->under_way();
      continue;
    }
    if (now.older > 0) {
      if (on_host_) {
        now.down = now.older_shard;
      } else if (!exchanges_each_ || done == 0) {
        now.sums += now.older_shard;
      }
    }
    now.older = std::exchange(now.newer, exchange(unit, done));
    now.older_shard = std::exchange(now.newer_shard, kFloatBytes * unit.part);
    now.consider({weights, now.gradients() + goes, kept});
  }
  if (!zero_ && !gathers) now.consider({0, whole_.as_it_ends(done), activations.others});
  return now.most;
}

Moment BackwardWalk::most_after() const {
  Course after;
  if (!zero_) {
    after.consider({0, kFloatBytes * parameters_ + step_bytes_, 0});
    return after.most;
  }
  after.consider({0, zero_->shard_sums + step_bytes_, 0});
  for (std::size_t i = 1; gathers_ > 0 && i < units_.size(); ++i) {
    after.consider({0, zero_->shard_sums + each_ * (gathers_ + 1) * (units_[i - 1].part + units_[i].part), 0});
  }
  return after.most;
}

}  // namespace trainyard::plan
