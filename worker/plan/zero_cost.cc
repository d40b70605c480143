#include "worker/plan/zero_cost.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"
#include "worker/plan/moments.h"
#include "worker/plan/parameters.h"
#include "worker/plan/shards.h"
#include "worker/plan/stages.h"

namespace trainyard::plan {
namespace {

struct UnitCost {
  ShardUnit unit;
  std::int64_t count = 1;      // of equal units: layers are
  std::int64_t gradients = 1;  // leaves a parameter: of a tied embedding that is on one rank two
  std::int64_t gathers = 2;    // a micro-batch, at stage 3
  bool is_layer = false;
  /// Bytes of both moments of a row of each parameter: shards are of whole rows.
  std::vector<std::int64_t> row_moments;

  std::int64_t moments(std::int32_t rank) const {
    const std::int64_t begin = unit.cuts[static_cast<std::size_t>(rank)], end = unit.cuts[static_cast<std::size_t>(rank) + 1];
    std::int64_t bytes = 0, first = 0;
    for (std::size_t i = 0; i < unit.wholes.size() && first < end; ++i) {
      const auto& sizes = unit.wholes[i].sizes;
      const std::int64_t elements = num_elements(sizes), row = elements / std::max<std::int64_t>(1, sizes[0]);
      const std::int64_t kept = std::min(end, first + elements) - std::max(begin, first);
      if (kept > 0) bytes += kept / row * row_moments[i];
      first += elements;
    }
    return bytes;
  }
};

/// The units of a stage, in the order of forward.
std::vector<UnitCost> units_of(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank) {
  const auto& size = spec.model.size.value();
  const auto degrees = contract::degrees(spec);
  const auto [mine, layers] = stage_parameters(spec, stage);
  const bool tied_here = size.tieEmbeddings && stage == degrees.pp - 1;
  std::vector<UnitCost> units;
  for (auto& unit : shard_units(mine, degrees.tp, tp_rank, shard_ranks(spec))) {
    const auto& name = mine[unit.parameters.front()].name;
    UnitCost cost{.unit = std::move(unit)};
    cost.is_layer = name.starts_with("model.layers.");
    if (cost.is_layer) cost.count = layers;
    if (name == "model.embed_tokens.weight") {
      cost.gradients = stage == 0 && tied_here ? 2 : 1;
      cost.gathers = (stage == 0 ? 1 : 0) + (tied_here ? 2 : 0);
    }
    for (std::size_t i = 0; i < cost.unit.parameters.size(); ++i) {
      auto row = cost.unit.wholes[i].sizes;
      row[0] = 1;
      cost.row_moments.push_back(moment_bytes(spec, mine[cost.unit.parameters[i]], row));
    }
    units.push_back(std::move(cost));
  }
  return units;
}

/// BackwardUnit::turning: what has turned, what has not, and the tensor that turns in both formats.
std::int64_t turning_bytes(const contract::TrainingJobSpec& spec, const ShardUnit& unit) {
  const std::int64_t each = weight_bytes(spec);
  if (each == kFloatBytes) return kFloatBytes * unit.elements();
  std::int64_t most = 0, turned = 0;
  for (const auto& whole : unit.wholes) {
    const std::int64_t elements = num_elements(whole.sizes);
    most = std::max(most, kFloatBytes * (turned + elements) + each * (unit.elements() - turned));
    turned += elements;
  }
  return most;
}

/// The most that exchanges take, and a sum on its way to the host beside them, while backward comes from unit to unit.
std::int64_t most_exchanges(const contract::TrainingJobSpec& spec, const std::vector<const ShardUnit*>& backward) {
  const bool adds =
      spec.parallelism.zero.offload.optimizer && reduces_every_micro_batch(spec) && micro_batches_per_step(spec) > 1;
  const std::int64_t exchange = exchange_bytes(spec) + (adds ? kFloatBytes : 0),
                     down = spec.parallelism.zero.offload.optimizer ? kFloatBytes : 0;
  std::int64_t most = 0, last = 0, before_last = 0;  // elements of parts
  for (const auto* unit : backward) {
    most = std::max(most, exchange * (unit->part_elements + last) + down * before_last);
    before_last = std::exchange(last, unit->part_elements);
  }
  return most;
}

}  // namespace

std::int64_t weight_bytes(const contract::TrainingJobSpec& spec) {
  return spec.training.precision.compute == contract::ComputePrecision::kFP32 ? kFloatBytes : kFloatBytes / 2;
}

std::int64_t exchange_bytes(const contract::TrainingJobSpec& spec) {
  const std::int64_t ranks = shard_ranks(spec);
  if (ranks == 1) return kFloatBytes;
  if (spec.training.reduction == contract::Reduction::kCanonical) return kFloatBytes * 2 * ranks;
  return kFloatBytes * (ranks + 1 + (spec.workers.gpusPerWorker == 0 ? ranks : 0));
}

WholeGathers::WholeGathers(const contract::TrainingJobSpec& spec)
    : each_(spec.training.reduction == contract::Reduction::kCanonical ? kFloatBytes * contract::degrees(spec).dp : 0) {}

std::int64_t WholeGathers::begin(std::int64_t elements) {
  const std::int64_t parts = std::max<std::int64_t>(1, (elements + kGatheredElements - 1) / kGatheredElements);
  const std::int64_t with_the_one_before = last_ + std::min(kGatheredElements, elements);
  const std::int64_t with_each_other = std::min(2 * kGatheredElements, elements);
  last_ = elements - (parts - 1) * kGatheredElements;
  under_way_ = parts == 1 ? with_the_one_before : kGatheredElements + last_;
  return each_ * std::max(with_the_one_before, with_each_other);
}

std::int64_t whole_exchanges(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int64_t each) {
  if (zero_stage(spec) > 0 || contract::degrees(spec).dp == 1) return 0;
  // In the order of leaves (worker/model/parameters.h), as the engine comes to them then: forward's, but that a tied head is the first.
  auto units = backward_units(spec, stage);
  std::reverse(units.begin(), units.end());
  const bool is_tied = spec.model.size.value().tieEmbeddings && stage + 1 == spec.parallelism.pipeline;
  if (is_tied) std::rotate(units.begin(), std::prev(units.end()), units.end());
  WholeGathers gathers(spec);
  std::int64_t most = 0, beyond = 0;  // what those before have
  for (const auto& unit : units) {
    most = std::max(most, beyond + gathers.under_way());
    const std::int64_t gathered = gathers.begin(unit.elements);
    most = std::max(most, beyond + (2 * kFloatBytes - each) * unit.elements + gathered);  // the sum, and the flat one
    beyond += (kFloatBytes - each) * unit.elements;
  }
  return most;
}

std::vector<BackwardUnit> backward_units(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  const auto units = units_of(spec, stage, 0);
  const bool has_head = stage + 1 == spec.parallelism.pipeline, has_look_up = stage == 0;
  const bool is_tied = has_head && spec.model.size.value().tieEmbeddings;
  std::vector<BackwardUnit> out;
  const auto add = [&](const UnitCost& cost, std::int64_t count) {
    const BackwardUnit unit{.elements = cost.unit.elements(),
                            .part = cost.unit.part_elements,
                            .is_layer = cost.is_layer,
                            .turning = turning_bytes(spec, cost.unit)};
    out.insert(out.end(), static_cast<std::size_t>(count), unit);
  };
  if (is_tied) add(units.front(), 1);
  for (auto cost = units.rbegin(); cost != units.rend(); ++cost) {
    const bool is_embedding = std::next(cost) == units.rend() && (has_look_up || is_tied);
    if (is_embedding && !has_look_up) continue;  // a head alone
    add(*cost, cost->is_layer ? std::max<std::int64_t>(1, cost->count / chunks_per_stage(spec.parallelism)) : 1);
  }
  if (zero_stage(spec) < 3) return out;
  const std::int64_t ranks = shard_ranks(spec);
  const std::size_t reads = out.size() - (has_look_up ? 1 : 0);  // a look-up's backward reads no weights
  for (std::size_t i = 0; i < reads; ++i) {
    const std::int64_t next = i + 1 < reads ? (ranks + 1) * out[i + 1].part : 0;
    out[i].weights = out[i].elements + next;
    out[i].gathering = out[i].weights + (ranks + 1) * out[i].part;
  }
  if (is_tied && reads > 1) {  // the head and the norm are there together
    out[1].gathering += out[0].elements;
    out[1].weights = out[0].weights = out[1].weights + out[0].elements;
  }
  const auto in_forward = [&](std::size_t i, std::size_t next) {
    return out[i].elements + (ranks + 1) * (out[i].part + (next < out.size() ? out[next].part : 0));
  };
  out.back().gathering_in_forward = in_forward(out.size() - 1, out.size() > 1 ? out.size() - 2 : out.size());
  const std::size_t last_layer = (has_head ? 1 : 0) + (is_tied ? 1 : 0);
  if (last_layer < out.size()) {
    out.front().gathering_in_forward = in_forward(last_layer, last_layer > 0 ? last_layer - 1 : out.size());
    out.front().weights_in_forward = out.front().gathering_in_forward - (ranks + 1) * out[last_layer].part;
  }
  return out;
}

bool reduces_every_micro_batch(const contract::TrainingJobSpec& spec) {
  return spec.training.reduction == contract::Reduction::kFast && zero_stage(spec) >= 2;
}

ZeroMemory zero_memory(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  const auto& size = spec.model.size.value();
  const std::int32_t dp = shard_ranks(spec), zero = zero_stage(spec);
  const auto units = units_of(spec, stage, 0);
  std::int64_t all = 0, parts = 0, largest_part = 0, largest_unit = 0, two_units = 0, before = 0;
  std::vector<std::int64_t> kept(static_cast<std::size_t>(dp), 0), moments = kept;
  for (const auto& cost : units) {
    const auto& [unit, count, gradients, gathers, is_layer, row_moments] = cost;
    all += count * unit.elements();
    parts += count * gradients * unit.part_elements;
    largest_part = std::max(largest_part, unit.part_elements);
    largest_unit = std::max(largest_unit, unit.elements());
    two_units = std::max({two_units, before + unit.elements(), count > 1 ? 2 * unit.elements() : 0});
    before = unit.elements();
    for (std::int32_t rank = 0; rank < dp; ++rank) {
      kept[static_cast<std::size_t>(rank)] += count * unit.kept(rank);
      moments[static_cast<std::size_t>(rank)] += count * cost.moments(rank);
    }
  }
  const std::int64_t most = *std::max_element(kept.begin(), kept.end()), each = weight_bytes(spec);
  const std::int64_t gathering = each * largest_part;  // what a rank gives; the second of the two units is what comes
  std::vector<const ShardUnit*> backward;              // of more than three layers three; a tied head is the embedding's
  if (size.tieEmbeddings && stage + 1 == spec.parallelism.pipeline) backward.push_back(&units.front().unit);
  for (auto cost = units.rbegin(); cost != units.rend(); ++cost) {
    backward.insert(backward.end(), static_cast<std::size_t>(std::min<std::int64_t>(3, cost->count)), &cost->unit);
  }
  const bool on_host = spec.parallelism.zero.offload.optimizer;
  ZeroMemory memory{.weights = each * all,
                    .master = kFloatBytes * most,
                    .moments = *std::max_element(moments.begin(), moments.end()),
                    .changed = most,
                    .shard_sums = on_host ? 0 : kFloatBytes * parts,
                    .host_sums = on_host ? kFloatBytes * parts : 0,
                    .last_down = on_host ? kFloatBytes * units.front().unit.part_elements : 0,
                    .unit = largest_unit,
                    .exchanges = most_exchanges(spec, backward)};
  if (zero == 3) memory.weights = each * two_units + gathering;
  if (zero < 3 && each == kFloatBytes) memory.master = 0;
  return memory;
}

std::int64_t zero_sent_per_step(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank,
                                std::int64_t micro_batches) {
  const std::int64_t others = shard_ranks(spec) - 1, exchanges = reduces_every_micro_batch(spec) ? micro_batches : 1;
  std::int64_t bytes = 0;
  for (const auto& [unit, count, gradients, gathers, is_layer, row_moments] : units_of(spec, stage, tp_rank)) {
    const std::int64_t gathered = zero_stage(spec) == 3 ? gathers * micro_batches : 1;
    bytes += count * unit.part_elements * (kFloatBytes * gradients * exchanges + weight_bytes(spec) * gathered);
  }
  return others * bytes;
}

std::vector<std::int64_t> zero_replicated(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank) {
  std::vector<std::int64_t> elements;
  if (shard_ranks(spec) == contract::degrees(spec).dp) return elements;
  for (const auto& [unit, count, gradients, gathers, is_layer, row_moments] : units_of(spec, stage, tp_rank)) {
    elements.insert(elements.end(), static_cast<std::size_t>(count) * static_cast<std::size_t>(gradients), unit.part_elements);
  }
  return elements;
}

std::int64_t zero_gathered_elements(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank) {
  std::int64_t elements = 0;
  for (const auto& [unit, count, gradients, gathers, is_layer, row_moments] : units_of(spec, stage, tp_rank)) {
    elements += count * unit.part_elements * gathers;
  }
  return elements;
}

std::vector<std::int64_t> tied_embedding_kept(const contract::TrainingJobSpec& spec, std::int32_t tp_rank) {
  const auto embedding = units_of(spec, 0, tp_rank).front().unit;
  std::vector<std::int64_t> kept;
  for (std::int32_t rank = 0; rank < embedding.data_ranks(); ++rank) kept.push_back(embedding.kept(rank));
  return kept;
}

}  // namespace trainyard::plan
