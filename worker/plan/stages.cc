#include "worker/plan/stages.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

/// `layers` over `num_parts`, the longer ranges first.
std::vector<std::int32_t> even_counts(std::int32_t layers, std::int32_t num_parts) {
  std::vector<std::int32_t> counts(static_cast<std::size_t>(num_parts), layers / num_parts);
  std::fill_n(counts.begin(), layers % num_parts, layers / num_parts + 1);
  return counts;
}

/// The FLOPs of the most loaded part, when the last part has the head besides `counts.back()` layers.
double heaviest(const std::vector<std::int32_t>& counts, double layer_flops, double head_flops) {
  double most = counts.back() * layer_flops + head_flops;
  for (const std::int32_t count : counts) most = std::max(most, count * layer_flops);
  return most;
}

}  // namespace

std::vector<LayerRange> split_layers(const contract::ModelSize& size, std::int32_t num_parts) {
  if (num_parts < 1 || num_parts > size.layers) {
    throw std::invalid_argument("cut " + std::to_string(size.layers) + " layers into " + std::to_string(num_parts) +
                                " parts: every stage of the pipeline, and every chunk of a stage, needs a layer");
  }
  const double layer_flops = layer_matmul_parameters(size), head_flops = head_matmul_parameters(size);
  std::vector<std::int32_t> best = even_counts(size.layers, num_parts);
  if (num_parts > 1) {
    // Only the head is uneven, so a cut is decided by the number of layers beside it; the rest is spread evenly.
    for (std::int32_t beside_head = best.back() - 1; beside_head >= 1; --beside_head) {
      auto counts = even_counts(size.layers - beside_head, num_parts - 1);
      counts.push_back(beside_head);
      if (heaviest(counts, layer_flops, head_flops) < heaviest(best, layer_flops, head_flops)) best = std::move(counts);
    }
  }
  std::vector<LayerRange> parts;
  for (std::int32_t first = 0; const std::int32_t count : best) {
    parts.push_back({first, first + count});
    first += count;
  }
  return parts;
}

std::int32_t part_of(const std::vector<LayerRange>& parts, std::int32_t layer) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (layer >= parts[i].first && layer < parts[i].last) return static_cast<std::int32_t>(i);
  }
  throw std::invalid_argument("no part has layer " + std::to_string(layer));
}

std::int32_t chunks_per_stage(const contract::Parallelism& parallelism) {
  const auto& schedule = parallelism.pipelineSchedule;
  return schedule.name == contract::PipelineScheduleName::kInterleaved && parallelism.pipeline > 1 ? schedule.virtualStages : 1;
}

std::vector<LayerRange> parts_of(const contract::TrainingJobSpec& spec) {
  return split_layers(spec.model.size.value(), spec.parallelism.pipeline * chunks_per_stage(spec.parallelism));
}

}  // namespace trainyard::plan
