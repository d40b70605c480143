#include "worker/plan/cost.h"

#include <algorithm>

#include "worker/plan/activations.h"
#include "worker/plan/moments.h"
#include "worker/plan/offload_cost.h"
#include "worker/plan/parameters.h"
#include "worker/plan/pipeline.h"
#include "worker/plan/shards.h"
#include "worker/plan/stages.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

/// The layers and the chunks of a stage, each as often as micro-batches are in flight on it, when as many are as ever.
InFlight in_flight_on(const contract::Parallelism& parallelism, const std::vector<LayerRange>& parts, std::int64_t micro_batches,
                      std::int32_t stage) {
  const PipelineShape shape{.stages = parallelism.pipeline,
                            .chunks = chunks_per_stage(parallelism),
                            .micro_batches = static_cast<std::int32_t>(micro_batches)};
  const auto layers = [&](std::int32_t chunk) {
    const std::int32_t number = chunk * shape.stages + stage;
    const auto& part = parts.at(static_cast<std::size_t>(number));
    return std::int64_t{part.last} - part.first;
  };
  const std::int32_t in_flight = most_in_flight(parallelism.pipelineSchedule.name, shape, stage);
  InFlight all{.chunks = in_flight};
  for (std::int32_t i = 0; i < in_flight; ++i) all.layers += layers(shape.chunks == 1 ? 0 : chunk_of_forward(shape, i));
  return all;
}

}  // namespace

std::int32_t key_value_heads(const contract::ModelSize& size) { return size.keyValueHeads.value_or(size.heads); }

std::int32_t head_width(const contract::ModelSize& size) { return size.hiddenSize / size.heads; }

double layer_matmul_parameters(const contract::ModelSize& size) {
  const double width = size.hiddenSize, key_value_width = double{1} * key_value_heads(size) * head_width(size);
  return 2 * width * width + 2 * width * key_value_width + 3 * width * size.feedForwardSize;
}

double head_matmul_parameters(const contract::ModelSize& size) { return double{1} * size.vocabularySize * size.hiddenSize; }

double flops_per_token(const contract::ModelSize& size, std::int32_t sequence_length) {
  const double matmul = size.layers * layer_matmul_parameters(size) + head_matmul_parameters(size);
  const double attention = double{1} * sequence_length * size.layers * size.hiddenSize;
  return 6 * matmul + 6 * attention;
}

double recomputed_flops_per_token(const contract::ModelSize& size, std::int32_t sequence_length, contract::RecomputeMode mode,
                                  bool sequence) {
  const double width = size.hiddenSize, key_width = double{1} * key_value_heads(size) * head_width(size);
  const double attention = sequence_length * width, feed_forward = width * size.feedForwardSize;
  switch (mode) {
    case contract::RecomputeMode::kFull: return 2 * size.layers * (layer_matmul_parameters(size) - feed_forward + attention);
    case contract::RecomputeMode::kSelective:
      return 2 * size.layers * (sequence ? attention : width * width + width * key_width + feed_forward + attention);
    case contract::RecomputeMode::kNone: break;
  }
  return 0;
}

std::int64_t num_parameters(const contract::ModelSize& size) {
  std::int64_t total = 0;
  for (const auto& parameter : llama_parameters(size, split_layers(size, 1))) total += num_elements(parameter.shape);
  return total;
}

std::int64_t micro_batches_per_step(const contract::TrainingJobSpec& spec) {
  const std::int64_t at_once = std::int64_t{contract::degrees(spec).dp} * spec.parallelism.microBatchSize;
  return std::max<std::int64_t>(1, spec.training.globalBatchSize / std::max<std::int64_t>(1, at_once));
}

RankBytes bytes_per_rank(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  const auto& size = spec.model.size.value();
  const auto& parallelism = spec.parallelism;
  const auto parts = parts_of(spec);
  std::int64_t elements = 0, moments = 0;
  const auto mine = stage_parameters(spec, stage);
  for (const auto& parameter : mine.parameters) {
    const auto sizes = box_of(parameter, parallelism.tensor, 0).sizes;
    elements += mine.count_of(parameter) * num_elements(sizes);
    moments += mine.count_of(parameter) * moment_bytes(spec, parameter, sizes);
  }
  const bool full = spec.training.precision.compute == contract::ComputePrecision::kFP32;
  RankBytes bytes{.parameters = elements * (full ? 4 : 2),
                  .master = full ? 0 : elements * 4,
                  .gradients = elements * 4,
                  .optimizer = moments};
  if (zero_stage(spec) > 0) {
    const auto zero = zero_memory(spec, stage);
    bytes = {.parameters = zero.weights, .master = zero.master, .gradients = zero.gradients, .optimizer = zero.moments};
  }
  offload_optimizer(spec, stage, bytes);
  const std::int64_t tokens = std::int64_t{parallelism.microBatchSize} * spec.data.sequenceLength;
  const std::int64_t micro_batches = micro_batches_per_step(spec);
  bytes.activations = recomputed_activation_bytes(spec, tokens);
  InFlight in_flight = in_flight_on(parallelism, parts, micro_batches, stage);
  in_flight.layer_bytes = kept_activation_bytes(spec, tokens);
  in_flight.boundary_bytes = (parallelism.sequence ? tokens / parallelism.tensor : tokens) * size.hiddenSize * (full ? 4 : 2);
  add_activations(spec, in_flight, bytes);
  if (stage == parallelism.pipeline - 1) {
    // Logits, in FP32, with what cross entropy makes of them; of all micro-batches where all forwards come first. A split backward keeps
    // their gradients, in the type of the products, until the head's turn comes.
    const std::int64_t logits = tokens * classes_of(size.vocabularySize, parallelism.tensor, 0).count;
    const auto schedule = parallelism.pipelineSchedule.name;
    // With terms PyTorch's operations keep the logits too, and make one gradient more. Neither GPUs nor tensor ranks need them.
    const bool terms = spec.training.loss != contract::Loss{} && spec.workers.gpusPerWorker == 0 && parallelism.tensor == 1;
    bytes.activations += logits * 4 * (terms ? 5 : 3);
    if (schedule == contract::PipelineScheduleName::kGPipe) bytes.activations += (micro_batches - 1) * logits * 4 * 2;
    if (schedule == contract::PipelineScheduleName::kZeroBubble) {
      bytes.activations += (std::min<std::int64_t>(micro_batches, parallelism.pipeline) - 1) * logits * (full ? 4 : 2);
    }
  }
  return bytes;
}

RankBytes most_bytes_per_rank(const contract::TrainingJobSpec& spec) {
  RankBytes most;
  std::int64_t host = 0;
  for (std::int32_t stage = 0; stage < spec.parallelism.pipeline; ++stage) {
    const auto bytes = bytes_per_rank(spec, stage);
    host = std::max(host, bytes.host);
    if (bytes.total() > most.total()) most = bytes;
  }
  most.host = host;
  return most;
}

}  // namespace trainyard::plan
