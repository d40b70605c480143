#include "worker/plan/traffic.h"

#include <algorithm>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"
#include "worker/plan/norm_block.h"
#include "worker/plan/parameters.h"
#include "worker/plan/shards.h"
#include "worker/plan/stages.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

using contract::Axis;
using contract::Layout;

/// What a rank sends on in a ring of n, of an all-reduce of `bytes`.
std::int64_t all_reduce(std::int64_t bytes, std::int64_t n) { return (2 * (n - 1) * bytes + n / 2) / n; }

/// Of a sum of `bytes` over n ranks whose order Canonical decides, so that it gathers.
std::int64_t reduced(const contract::TrainingJobSpec& spec, std::int64_t bytes, std::int64_t n) {
  return spec.training.reduction == contract::Reduction::kCanonical ? (n - 1) * bytes : all_reduce(bytes, n);
}

/// The one after `rank` in a ring.
std::int32_t next_of(std::int32_t rank, const std::vector<std::int32_t>& ring) {
  const auto at = static_cast<std::size_t>(std::find(ring.begin(), ring.end(), rank) - ring.begin());
  return ring[(at + 1) % ring.size()];
}

class Traffic {
 public:
  explicit Traffic(const contract::TrainingJobSpec& spec)
      : spec_(spec),
        size_(spec.model.size.value()),
        layout_(contract::degrees(spec), contract::world_size(spec)),
        parts_(parts_of(spec)),
        chunks_(chunks_per_stage(spec.parallelism)) {
    micro_batches_ = micro_batches_per_step(spec);
    tokens_ = std::int64_t{spec.parallelism.microBatchSize} * spec.data.sequenceLength;
    const bool full = spec.training.precision.compute == contract::ComputePrecision::kFP32;
    activation_ = tokens_ * size_.hiddenSize * (full ? 4 : 2);
    boundary_ = spec.parallelism.sequence ? activation_ / layout_.degrees().tp : activation_;
    for (std::int32_t stage = 0; stage < layout_.degrees().pp; ++stage) {
      tensor_.push_back(tensor_ring(stage));
      norms_.push_back(norms_ring(stage));
    }
    for (std::int32_t tp = 0; tp < layout_.degrees().tp; ++tp) {
      const std::int64_t whole = classes_of(size_.vocabularySize, layout_.degrees().tp, tp).count * size_.hiddenSize;
      tied_.push_back(zero_stage(spec) > 0 ? tied_embedding_kept(spec, tp)
                                           : std::vector(static_cast<std::size_t>(layout_.degrees().dp), whole));
    }
    if (layout_.degrees().dp > 1) {
      find_data_rings();
    } else {
      data_.resize(tensor_.size() * static_cast<std::size_t>(layout_.degrees().tp));
    }
  }

  std::vector<Flow> flows() const {
    std::vector<Flow> out;
    const auto send = [&out](std::int32_t from, std::int32_t to, std::int64_t bytes) {
      if (from != to && bytes > 0) out.push_back({from, to, bytes});
    };
    const auto& degrees = layout_.degrees();
    for (std::int32_t rank = 0; rank < layout_.world_size(); ++rank) {
      const auto at = layout_.coordinate_of(rank);
      const auto peer = [&](Axis axis, std::int32_t by) {
        auto there = at;
        auto& moving = axis == Axis::kTp ? there.tp : axis == Axis::kDp ? there.dp : there.pp;
        moving = (moving + by) % layout_.size(axis);
        return layout_.rank_of(there);
      };
      const auto& norms = norms_[static_cast<std::size_t>(at.pp)];
      send(rank, peer(Axis::kTp, 1),
           tensor_[static_cast<std::size_t>(at.pp)] + norms[static_cast<std::size_t>(at.dp) % norms.size()]);
      const auto place = static_cast<std::size_t>(at.pp * degrees.tp + at.tp);
      send(rank, peer(Axis::kDp, 1), data_[place]);
      if (!shards_.empty()) {
        send(rank, next_of(rank, layout_.shard_group(rank)), shards_[place]);
        send(rank, next_of(rank, layout_.replica_group(rank)), replicas_[place]);
      }
      // To the next stage go all chunks, around to the first all but the last.
      const std::int64_t parts_after = at.pp + 1 < degrees.pp ? chunks_ : chunks_ - 1;
      send(rank, peer(Axis::kPp, 1), parts_after * micro_batches_ * boundary_);
      send(peer(Axis::kPp, 1), rank, parts_after * micro_batches_ * boundary_);
      if (size_.tieEmbeddings && at.pp == 0 && degrees.pp > 1) {
        const auto& kept = tied_[static_cast<std::size_t>(at.tp)];
        const std::int64_t bytes = kept[static_cast<std::size_t>(at.dp) % kept.size()] * kFloatBytes;
        send(rank, peer(Axis::kPp, degrees.pp - 1), bytes);
        send(peer(Axis::kPp, degrees.pp - 1), rank, bytes);
      }
    }
    return out;
  }

 private:
  std::int64_t tensor_ring(std::int32_t stage) const {
    const bool first = stage == 0, last = stage + 1 == layout_.degrees().pp;
    std::int64_t layers = 0;
    for (auto part = static_cast<std::size_t>(stage); part < parts_.size();
         part += static_cast<std::size_t>(layout_.degrees().pp)) {
      layers += parts_[part].last - parts_[part].first;
    }
    const std::int64_t activations = spec_.parallelism.sequence ? shards(layers, first, last) : sums(layers, first, last);
    const std::int64_t tp = layout_.degrees().tp, of_loss = last ? 3 * tokens_ * kFloatBytes : 0;
    if (!spec_.parallelism.sequence) return all_reduce(micro_batches_ * (activations * activation_ + of_loss), tp);
    return micro_batches_ * activations * (tp - 1) * boundary_ + all_reduce(micro_batches_ * of_loss, tp);
  }

  bool is_full() const { return spec_.training.activationCheckpointing.mode == contract::RecomputeMode::kFull; }

  /// All-reduces of a micro-batch.
  std::int64_t sums(std::int64_t layers, bool first, bool last) const {
    // Full recomputation sums attention's output again, and ends before it would sum that of the feed-forward block.
    return (is_full() ? 5 : 4) * layers + (first ? 1 : 0) + (last ? 1 : 0);
  }

  /// All-gathers and reduce-scatters of a micro-batch, with shards of tokens.
  std::int64_t shards(std::int64_t layers, bool first, bool last) const {
    // Forward: one of each in both cuts of a layer. Backward: their opposites, and a gathering of each input of columns again. Full does all of
    // forward once more but the last.
    return (is_full() ? 13 : 10) * layers + (first ? 2 : 0) + (last ? 3 : 0);
  }

  /// Of the norms' gradients, by data rank that has other shards of them than others: bytes that a rank sends on in its ring.
  std::vector<std::int64_t> norms_ring(std::int32_t stage) const {
    if (!spec_.parallelism.sequence) return {0};
    std::vector<std::int64_t> elements{0};
    if (zero_stage(spec_) > 0) {
      elements = uncut_elements_kept(spec_, stage, 0);
    } else {
      const auto mine = stage_parameters(spec_, stage);
      for (const auto& parameter : mine.parameters) {
        if (!parameter.split_dim) elements[0] += mine.count_of(parameter) * num_elements(parameter.shape);
      }
    }
    for (auto& number : elements) number = reduced(spec_, number * kFloatBytes, layout_.degrees().tp);
    return elements;
  }

  void find_data_rings() {
    const auto& degrees = layout_.degrees();
    const auto num_tensor = static_cast<std::size_t>(degrees.tp);
    std::vector<std::int64_t> elements(tensor_.size() * num_tensor, 1);  // by stage and tensor rank; the loss
    for (std::int32_t stage = 0; stage < degrees.pp; ++stage) {
      const auto mine = stage_parameters(spec_, stage);
      for (const auto& parameter : mine.parameters) {
        // A tied embedding on a single stage has two gradients, which are added after the reduction.
        const bool twice = size_.tieEmbeddings && degrees.pp == 1 && parameter.name == "model.embed_tokens.weight";
        const std::int64_t times = mine.count_of(parameter) * (twice ? 2 : 1);
        for (std::int32_t tp = 0; tp < degrees.tp; ++tp) {
          elements[static_cast<std::size_t>(stage) * num_tensor + static_cast<std::size_t>(tp)] +=
              times * num_elements(box_of(parameter, degrees.tp, tp).sizes);
        }
      }
    }
    const auto sum = [this](std::int64_t number, std::int64_t ranks) { return reduced(spec_, number * kFloatBytes, ranks); };
    const bool zero = zero_stage(spec_) > 0;
    for (std::int32_t stage = 0; stage < degrees.pp; ++stage) {
      for (std::int32_t tp = 0; tp < degrees.tp; ++tp) {
        if (!zero) {
          data_.push_back(sum(elements[data_.size()], degrees.dp));
          continue;
        }
        const std::int64_t sharded = zero_sent_per_step(spec_, stage, tp, micro_batches_), loss = sum(1, degrees.dp);
        if (degrees.shard == degrees.dp) {
          data_.push_back(sharded + loss);
          continue;
        }
        data_.push_back(loss);
        shards_.push_back(sharded);
        std::int64_t replicated = 0;
        for (const auto number : zero_replicated(spec_, stage, tp)) replicated += sum(number, degrees.dp / degrees.shard);
        replicas_.push_back(replicated);
      }
    }
  }

  const contract::TrainingJobSpec& spec_;
  const contract::ModelSize& size_;
  const Layout layout_;
  const std::vector<LayerRange> parts_;
  const std::int32_t chunks_;                                     // of a stage
  std::int64_t micro_batches_ = 1, tokens_ = 0, activation_ = 0;  // activation_: bytes of a whole micro-batch between two layers
  std::int64_t boundary_ = 0;                                     // of it on a rank
  std::vector<std::int64_t> tensor_;                              // by stage: bytes that a rank sends on in its ring
  std::vector<std::vector<std::int64_t>> norms_;                  // by stage and data rank: the same, of the norms' gradients
  std::vector<std::vector<std::int64_t>> tied_;                   // by tensor and data rank: elements of the embedding
  std::vector<std::int64_t> data_;                                // the same, by stage and tensor rank
  std::vector<std::int64_t> shards_, replicas_;                   // the same, where shards are cut within a worker
};

}  // namespace

std::int64_t tensor_bytes_beside_products(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  const auto& parallelism = spec.parallelism;
  const bool splits =
      parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kZeroBubble && parallelism.pipeline > 1;
  if (!parallelism.sequence || splits) return 0;
  const std::int64_t inputs = 2 * stage_parameters(spec, stage).layers + (stage + 1 == parallelism.pipeline ? 1 : 0);
  const std::int64_t element = spec.training.precision.compute == contract::ComputePrecision::kFP32 ? 4 : 2;
  const std::int64_t shard = std::int64_t{parallelism.microBatchSize} * spec.data.sequenceLength / parallelism.tensor *
                             spec.model.size.value().hiddenSize * element;
  return micro_batches_per_step(spec) * 2 * inputs * (parallelism.tensor - 1) * shard;
}

std::vector<Flow> traffic_per_step(const contract::TrainingJobSpec& spec) { return Traffic(spec).flows(); }

Bookkeeping bookkeeping_per_step(const contract::TrainingJobSpec& spec) {
  constexpr std::int64_t kSumBytes = 8, kWordBytes = 16;
  const Layout layout(contract::degrees(spec), contract::world_size(spec));
  std::vector<std::int64_t> blocks(static_cast<std::size_t>(layout.degrees().pp), 0);  // by stage
  for (std::int32_t stage = 0; stage < layout.degrees().pp; ++stage) {
    const auto mine = stage_parameters(spec, stage);
    for (const auto& parameter : mine.parameters) {
      blocks[static_cast<std::size_t>(stage)] +=
          mine.count_of(parameter) * ((num_elements(parameter.shape) + kNormBlock - 1) / kNormBlock);
    }
  }
  const auto by_tensor = static_cast<std::int64_t>(parameters_of(spec).size()) + 1;
  Bookkeeping out;
  const auto send = [](std::vector<Flow>& flows, std::int32_t rank, const std::vector<std::int32_t>& ring, std::int64_t bytes) {
    if (ring.size() > 1) flows.push_back({rank, next_of(rank, ring), bytes});
  };
  const std::int32_t world = layout.world_size();
  for (std::int32_t rank = 0; rank < world; ++rank) {
    const std::int64_t sums = blocks[static_cast<std::size_t>(layout.coordinate_of(rank).pp)] * kSumBytes;
    const auto& degrees = layout.degrees();
    if (zero_stage(spec) > 0) send(out.data, rank, layout.shard_group(rank), all_reduce(sums, degrees.shard));
    send(out.tensor, rank, layout.group(Axis::kTp, rank), reduced(spec, sums, degrees.tp));
    send(out.pipeline, rank, layout.group(Axis::kPp, rank), all_reduce(by_tensor * kSumBytes, degrees.pp));
    if (world > 1) out.world.push_back({rank, (rank + 1) % world, all_reduce(kWordBytes, world)});
  }
  return out;
}

}  // namespace trainyard::plan
