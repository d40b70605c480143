#include "worker/plan/stages.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

/// `layers` over `num_stages`, the longer ranges first.
std::vector<std::int32_t> even_counts(std::int32_t layers, std::int32_t num_stages) {
  std::vector<std::int32_t> counts(static_cast<std::size_t>(num_stages), layers / num_stages);
  std::fill_n(counts.begin(), layers % num_stages, layers / num_stages + 1);
  return counts;
}

/// The FLOPs of the most loaded stage, when the last stage has the head besides `counts.back()` layers.
double heaviest(const std::vector<std::int32_t>& counts, double layer_flops, double head_flops) {
  double most = counts.back() * layer_flops + head_flops;
  for (const std::int32_t count : counts) most = std::max(most, count * layer_flops);
  return most;
}

}  // namespace

std::vector<LayerRange> split_layers(const contract::ModelSize& size, std::int32_t num_stages) {
  if (num_stages < 1 || num_stages > size.layers) {
    throw std::invalid_argument("cut " + std::to_string(size.layers) + " layers into " + std::to_string(num_stages) +
                                " stages: every stage needs a layer");
  }
  const double layer_flops = layer_matmul_parameters(size), head_flops = head_matmul_parameters(size);
  std::vector<std::int32_t> best = even_counts(size.layers, num_stages);
  if (num_stages > 1) {
    // Only the head is uneven, so a cut is decided by the number of layers beside it; the rest is spread evenly.
    for (std::int32_t beside_head = best.back() - 1; beside_head >= 1; --beside_head) {
      auto counts = even_counts(size.layers - beside_head, num_stages - 1);
      counts.push_back(beside_head);
      if (heaviest(counts, layer_flops, head_flops) < heaviest(best, layer_flops, head_flops)) best = std::move(counts);
    }
  }
  std::vector<LayerRange> stages;
  for (std::int32_t first = 0; const std::int32_t count : best) {
    stages.push_back({first, first + count});
    first += count;
  }
  return stages;
}

std::int32_t stage_of(const std::vector<LayerRange>& stages, std::int32_t layer) {
  for (std::size_t i = 0; i < stages.size(); ++i) {
    if (layer >= stages[i].first && layer < stages[i].last) return static_cast<std::int32_t>(i);
  }
  throw std::invalid_argument("no stage has layer " + std::to_string(layer));
}

}  // namespace trainyard::plan
