#include "worker/plan/offload_cost.h"

#include <algorithm>

#include "worker/plan/activations.h"
#include "worker/plan/parameters.h"
#include "worker/plan/shards.h"
#include "worker/plan/stages.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

bool has_one_memory(const contract::TrainingJobSpec& spec) { return spec.workers.gpusPerWorker == 0; }

/// K, of the data rank with most.
std::int64_t changed_parameters(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  if (zero_stage(spec) > 0) return zero_memory(spec, stage).changed;
  std::int64_t all = 0;
  const auto mine = stage_parameters(spec, stage);
  for (const auto& parameter : mine.parameters) {
    all += mine.count_of(parameter) * num_elements(box_of(parameter, spec.parallelism.tensor, 0).sizes);
  }
  return all;
}

}  // namespace

void offload_optimizer(const contract::TrainingJobSpec& spec, std::int32_t stage, RankBytes& bytes) {
  const auto& offload = spec.parallelism.zero.offload;
  if (!offload.optimizer) return;
  const bool full = spec.training.precision.compute == contract::ComputePrecision::kFP32;
  const std::int64_t changed = changed_parameters(spec, stage), each = weight_bytes(spec);
  const std::int64_t staged = 4 + (offload.parameters ? 0 : each);
  const std::int64_t master = 4 * changed;
  const std::int64_t moments = bytes.optimizer + kOffloadBuffers * std::min(kOffloadBlock, changed) * staged;
  const bool are_masters = full && offload.parameters;
  const std::int64_t shards = zero_stage(spec) == 3 && !are_masters ? each * changed : 0;
  if (has_one_memory(spec)) {
    bytes.parameters += shards;
    bytes.master = master;
    bytes.optimizer = moments;
    return;
  }
  bytes.master = bytes.optimizer = 0;
  bytes.host += master + moments;
  (offload.parameters ? bytes.host : bytes.parameters) += shards;
}

void add_activations(const contract::TrainingJobSpec& spec, const InFlight& in_flight, RankBytes& bytes) {
  const std::int64_t all = in_flight.layers * in_flight.layer_bytes;
  if (!spec.training.activationCheckpointing.offload) {
    bytes.activations += all;
    return;
  }
  const auto& parallelism = spec.parallelism;
  const bool in_pipeline = parallelism.pipeline > 1;
  const bool splits = in_pipeline && parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kZeroBubble;
  const std::int64_t layers = std::min(in_flight.layers, kOffloadLayers * chunks_per_stage(parallelism));
  bytes.activations += splits ? all : layers * in_flight.layer_bytes;
  if (in_pipeline) bytes.activations += 2 * in_flight.chunks * in_flight.boundary_bytes;
  (has_one_memory(spec) ? bytes.activations : bytes.host) += all;
}

HostTraffic host_traffic_per_step(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  HostTraffic out;
  if (has_one_memory(spec)) return out;
  const auto& offload = spec.parallelism.zero.offload;
  const std::int64_t micro_batches = micro_batches_per_step(spec);
  if (offload.optimizer) {
    const std::int64_t changed = changed_parameters(spec, stage);
    out.step_down = 4 * changed;
    out.step_up = offload.parameters ? 0 : weight_bytes(spec) * changed;
  }
  if (offload.parameters) out.up = micro_batches * weight_bytes(spec) * zero_gathered_elements(spec, stage, 0);
  if (spec.training.activationCheckpointing.offload) {
    const std::int64_t on_device = kOffloadLayers * chunks_per_stage(spec.parallelism);
    const std::int64_t layers = std::max<std::int64_t>(0, stage_parameters(spec, stage).layers - on_device);
    const std::int64_t tokens = std::int64_t{spec.parallelism.microBatchSize} * spec.data.sequenceLength;
    const std::int64_t bytes = micro_batches * layers * kept_activation_bytes(spec, tokens);
    out.up += bytes;
    out.down += bytes;
  }
  return out;
}

}  // namespace trainyard::plan
