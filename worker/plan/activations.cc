#include "worker/plan/activations.h"

#include <algorithm>

#include "worker/plan/cost.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

/// The bytes of a layer's tensors.
struct Layer {
  Layer(const contract::TrainingJobSpec& spec, std::int64_t tokens) {
    const auto& size = spec.model.size.value();
    const std::int64_t tp = spec.parallelism.tensor, own = spec.parallelism.sequence ? tokens / tp : tokens;
    const bool full = spec.training.precision.compute == contract::ComputePrecision::kFP32, cpu = spec.workers.gpusPerWorker == 0;
    const std::int64_t element = full ? 4 : 2, whole = element * size.hiddenSize;
    width = own * whole;
    query = tokens * (whole / tp);
    key = tokens * (element * key_value_heads(size) * head_width(size) / tp);
    feed_forward = tokens * (element * size.feedForwardSize / tp);
    input = cpu && !full ? 0 : width;
    norm = own * (whole + 4);
    // Normalized before the weight; below FP32 also the input in FP32.
    if (cpu) norm += own * (full ? whole : 8 * std::int64_t{size.hiddenSize});
    const bool repeats = full && !cpu && key_value_heads(size) != size.heads;
    value = repeats ? 0 : key;
    attention = query + (repeats ? 2 * query : key) + query + tokens * (4 * std::int64_t{size.heads} / tp);
    swiglu = 2 * feed_forward;
  }

  std::int64_t width = 0;                             // the residual stream of the rank's tokens
  std::int64_t query = 0, key = 0, feed_forward = 0;  // outputs of the projections
  std::int64_t input = 0;                             // of a norm, where that is the residual stream itself
  std::int64_t norm = 0;                              // what a norm makes: its output, the root, …
  std::int64_t value = 0;                             // v as projected, where attention takes it so
  std::int64_t attention = 0;                         // rotated q and k, v where it is repeated, the output, the softmax's sums
  std::int64_t swiglu = 0;                            // silu(gate), the product
  std::int64_t everything() const { return 2 * (input + norm) + attention + value + 2 * feed_forward + swiglu; }
};

}  // namespace

std::int64_t kept_activation_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens) {
  const Layer layer(spec, tokens);
  switch (spec.training.activationCheckpointing.mode) {
    case contract::RecomputeMode::kFull: return layer.width;
    case contract::RecomputeMode::kSelective: return 2 * layer.width + layer.query + 2 * layer.key + 2 * layer.feed_forward;
    case contract::RecomputeMode::kNone: break;
  }
  return layer.everything();
}

std::int64_t recomputed_activation_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens) {
  const Layer layer(spec, tokens);
  switch (spec.training.activationCheckpointing.mode) {
    case contract::RecomputeMode::kFull: return layer.everything() - layer.input;
    case contract::RecomputeMode::kSelective: return std::max({layer.norm, layer.attention, layer.swiglu});
    case contract::RecomputeMode::kNone: break;
  }
  return 0;
}

std::int64_t layer_work_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens) {
  return 2 * Layer(spec, tokens).feed_forward;
}

std::int64_t stream_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens) { return Layer(spec, tokens).width; }

std::int64_t late_activation_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens) {
  const Layer layer(spec, tokens);
  return 4 * layer.width + 2 * layer.query + 2 * layer.key + 3 * layer.feed_forward;
}

std::int64_t rotary_bytes(const contract::TrainingJobSpec& spec) {
  return 2 * weight_bytes(spec) * spec.data.sequenceLength * head_width(spec.model.size.value());
}

}  // namespace trainyard::plan
