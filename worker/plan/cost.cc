#include "worker/plan/cost.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "worker/plan/activations.h"
#include "worker/plan/backward_walk.h"
#include "worker/plan/gradient_cost.h"
#include "worker/plan/head_cost.h"
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
  // One stage takes them one by one, whatever the schedule (worker/schedule/step.cc).
  const auto name = shape.stages > 1 ? parallelism.pipelineSchedule.name : contract::PipelineScheduleName::kOneForwardOneBackward;
  const std::int32_t in_flight = most_in_flight(name, shape, stage);
  InFlight all{.chunks = in_flight};
  if (shape.chunks == 1) {
    all.layers = in_flight * layers(0);
  } else {  // then the layout bounds them, not the micro-batches
    for (std::int32_t i = 0; i < in_flight; ++i) all.layers += layers(chunk_of_forward(shape, i));
  }
  return all;
}

/// Activations of a stage, in bytes.
struct ActivationCost {
  std::int64_t layers = 0;  // of all chunks in flight
  std::int64_t layer = 0;   // of one
  std::int64_t computed_again = 0;
  std::int64_t layer_work = 0;
  HeadBytes head;
  std::int64_t output = 0;           // of a chunk whose output goes to the next one, on average
  std::int64_t stream = 0;           // WalkedActivations::stream
  std::int64_t stream_gradient = 0;  // of it, the residual stream's
  std::int64_t always = 0;           // the rotary embedding's tables
  std::int64_t in_flight = 0;        // chunks of micro-batches, at the most
  std::int64_t chunks = 1;           // a stage
  bool splits = false;               // its backward
  // Then, between the halves:
  std::int64_t late = 0;        // of a micro-batch, with the embedding's gradient, which the first half gives
  std::int64_t late_layer = 0;  // of `late`, of one layer
  std::int64_t look_up = 0;     // of `late`, that gradient
  std::int64_t ends = 0;        // of `late`, what came from the stage before, and its gradient, until the second half ends
  std::int64_t most_late = 0;   // micro-batches, beside the one whose backward it is
  std::int64_t attention = 0;   // gradients of a layer's weights for q, k, v and the output, its last ones

  /// With so many chunks of micro-batches in flight, before the work on one that backward begins with.
  std::int64_t kept(std::int64_t flights) const {
    const std::int64_t heads = chunks > 1 ? std::min<std::int64_t>(1, flights) : flights;
    return always + (flights == in_flight ? layers : layers / in_flight * flights) + output * flights + head.kept * heads;
  }
  /// The head's backward, or that of the last layer.
  std::int64_t as_backward_begins(std::int64_t flights) const {
    return kept(flights) + std::max(head.work, computed_again - head.kept);
  }
  /// With others between the halves of a split one.
  std::int64_t as_first_half_begins(std::int64_t ahead, std::int64_t between) const {
    return as_backward_begins(ahead + 1) + between * late;
  }
  WalkedActivations walked(std::int64_t flights) const {
    return {.others = kept(flights - 1),
            .kept = kept(flights) - head.kept,
            .head = head.kept,
            .work = head.work,
            .layer = layer,
            .computed_again = computed_again,
            .layer_work = layer_work,
            .stream = stream};
  }
};

/// What of them is offloaded is added to `bytes`.
ActivationCost activations_of(const contract::TrainingJobSpec& spec, std::int32_t stage, RankBytes& bytes) {
  const auto& parallelism = spec.parallelism;
  const std::int64_t tokens = std::int64_t{parallelism.microBatchSize} * spec.data.sequenceLength;
  InFlight in_flight = in_flight_on(parallelism, parts_of(spec), micro_batches_per_step(spec), stage);
  in_flight.layer_bytes = kept_activation_bytes(spec, tokens);
  in_flight.boundary_bytes = stream_bytes(spec, tokens);
  add_activations(spec, in_flight, bytes);
  const std::int32_t chunks = chunks_per_stage(parallelism);
  const bool is_last = stage == parallelism.pipeline - 1;
  const std::int64_t handing_on = is_last ? chunks - 1 : chunks;  // chunks
  const std::int64_t output = in_flight.boundary_bytes * handing_on / chunks;
  ActivationCost cost{
      .layers = std::exchange(bytes.activations, 0),
      .layer = in_flight.layer_bytes,
      .computed_again = recomputed_activation_bytes(spec, tokens),
      .layer_work = layer_work_bytes(spec, tokens),
      .head = is_last ? head_bytes(spec, tokens) : HeadBytes{},
      .output = spec.training.activationCheckpointing.offload ? 0 : output,  // add_activations() has it
      .stream = in_flight.boundary_bytes * (handing_on > 0 ? 2 : 1),
      .stream_gradient = in_flight.boundary_bytes,
      .always = rotary_bytes(spec) * chunks,
      .in_flight = in_flight.chunks,
      .chunks = chunks,
      .splits = parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kZeroBubble && parallelism.pipeline > 1};
  if (!cost.splits) return cost;
  const auto& size = spec.model.size.value();
  const std::int64_t classes = classes_of(size.vocabularySize, parallelism.tensor, 0).count;
  cost.look_up = stage == 0 ? weight_bytes(spec) * classes * size.hiddenSize : 0;
  cost.late_layer = late_activation_bytes(spec, tokens);
  cost.ends = stage > 0 ? 2 * in_flight.boundary_bytes : 0;
  cost.late = in_flight.layers / in_flight.chunks * cost.late_layer + cost.head.late + cost.look_up + cost.ends;
  const std::int64_t key_width = std::int64_t{1} * key_value_heads(size) * head_width(size);
  cost.attention = weight_bytes(spec) * 2 * size.hiddenSize * (size.hiddenSize + key_width) / parallelism.tensor;
  cost.most_late = std::min<std::int64_t>(stage, in_flight.chunks - 1);
  return cost;
}

/// `at(done)` for micro-batches of which one takes most. Sums grow at the second, and Canonical's where the binary number of those done has another
/// one; before the last `most` as many are in flight as ever.
template <class At>
void at_some_micro_batches(std::int64_t micro_batches, std::int64_t most, const At& at) {
  at(0);
  at(micro_batches - 1);
  at(std::max<std::int64_t>(0, micro_batches - most));
  for (std::int64_t done = 1; done < micro_batches; done = 2 * done + 1) {
    at(done);
    if (2 * done < micro_batches) at(2 * done);
  }
}

/// Takes the moment at which what comes and goes takes most.
void add_peak(std::int64_t micro_batches, const BackwardWalk& walk, const ActivationCost& activations, RankBytes& bytes) {
  Moment most = walk.most_after();
  const std::int64_t in_flight = (activations.in_flight + activations.chunks - 1) / activations.chunks;  // micro-batches
  at_some_micro_batches(micro_batches, in_flight, [&](std::int64_t done) {
    const std::int64_t left = (micro_batches - done) * activations.chunks;
    const auto moment = walk.most(done, left >= activations.in_flight, activations.walked(std::min(activations.in_flight, left)));
    if (moment.total() > most.total()) most = moment;
  });
  bytes.parameters += most.weights;
  bytes.gradients = most.gradients;
  bytes.activations = most.activations;
}

/// The same where each backward is split in two. At the first half of a micro-batch `most_late` others have their second to come, and all but these
/// and the ones that are done are as forward left them; its own second half comes after those. `exchanges`: whole_exchanges(), after the last.
void add_peak_of_halves(std::int64_t micro_batches, const GradientCost& gradients, std::int64_t exchanges,
                        const ActivationCost& activations, RankBytes& bytes) {
  const auto consider = [&](std::int64_t of_gradients, std::int64_t of_activations) {
    if (of_gradients + of_activations <= bytes.gradients + bytes.activations) return;
    bytes.gradients = of_gradients;
    bytes.activations = of_activations;
  };
  at_some_micro_batches(micro_batches, activations.in_flight, [&](std::int64_t done) {
    const std::int64_t left = micro_batches - done - 1, late = std::min(activations.most_late, left);
    const std::int64_t ahead = std::min(activations.in_flight - 1 - activations.most_late, left - late);  // as forward left them
    const std::int64_t others = activations.kept(ahead) + late * activations.late;  // than the one whose backward it is
    const std::int64_t last_layer = activations.layer + activations.computed_again + activations.layer_work;
    const std::int64_t sums = gradients.as_it_begins(done), its_own = activations.late + activations.stream;
    consider(sums, activations.as_first_half_begins(ahead, late));
    consider(sums, others + its_own - activations.late_layer - activations.look_up + last_layer);
    consider(sums, others + its_own);
    consider(gradients.as_it_ends(done), others + activations.ends);
    consider(gradients.as_it_ends(done) - activations.attention,  // its first layer's gate is at its turn
             others + activations.ends + activations.late_layer - activations.stream_gradient - activations.layer_work);
  });
  consider(gradients.as_it_ends(micro_batches - 1) + exchanges, 0);
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
  // Looked up and multiplied with on one rank, a tied embedding has two gradients, which are added up at the end of a step.
  const bool has_both_ends = spec.model.size.value().tieEmbeddings && spec.parallelism.pipeline == 1;
  std::int64_t elements = 0, gradients = 0, moments = 0;
  const auto mine = stage_parameters(spec, stage);
  for (const auto& parameter : mine.parameters) {
    const auto sizes = box_of(parameter, spec.parallelism.tensor, 0).sizes;
    const std::int64_t times = has_both_ends && parameter.name == "model.embed_tokens.weight" ? 2 : 1;
    elements += mine.count_of(parameter) * num_elements(sizes);
    gradients += times * mine.count_of(parameter) * num_elements(sizes);
    moments += mine.count_of(parameter) * moment_bytes(spec, parameter, sizes);
  }
  const std::int64_t each = weight_bytes(spec);
  RankBytes bytes{.parameters = elements * each, .master = each == 4 ? 0 : elements * 4, .optimizer = moments};
  std::optional<ZeroMemory> zero;
  if (zero_stage(spec) > 0) {
    zero = zero_memory(spec, stage);
    bytes = {.parameters = zero->weights, .master = zero->master, .optimizer = zero->moments};
  }
  const auto activations = activations_of(spec, stage, bytes);
  const std::int64_t micro_batches = micro_batches_per_step(spec);
  if (activations.splits) {
    const GradientCost cost(spec, gradients, zero);
    const std::int64_t at_the_end = cost.as_it_ends(micro_batches - 1) / std::max<std::int64_t>(1, gradients);  // a parameter
    add_peak_of_halves(micro_batches, cost, whole_exchanges(spec, stage, at_the_end), activations, bytes);
  } else {
    if (zero_stage(spec) == 3) bytes.parameters = 0;  // but for what is gathered at the moment
    add_peak(micro_batches, BackwardWalk(spec, stage, elements, gradients, zero), activations, bytes);
  }
  offload_optimizer(spec, stage, bytes);
  return bytes;
}

std::int64_t most_activation_bytes(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  RankBytes offloaded;
  const auto activations = activations_of(spec, stage, offloaded);
  return activations.as_first_half_begins(activations.in_flight - 1 - activations.most_late, activations.most_late);
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
