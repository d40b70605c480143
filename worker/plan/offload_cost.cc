#include "worker/plan/offload_cost.h"

#include <algorithm>

#include "crds/contract/layout.h"
#include "worker/plan/activations.h"
#include "worker/plan/shards.h"
#include "worker/plan/stages.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

bool has_one_memory(const contract::TrainingJobSpec& spec) { return spec.workers.gpusPerWorker == 0; }

}  // namespace

void offload_optimizer(const contract::TrainingJobSpec& spec, std::int32_t stage, RankBytes& bytes) {
  const auto& offload = spec.parallelism.zero.offload;
  if (!offload.optimizer) return;
  const bool full = spec.training.precision.compute == contract::ComputePrecision::kFP32;
  const auto zero = zero_memory(spec, stage);
  const std::int64_t each = weight_bytes(spec);
  const std::int64_t staged = offload.parameters ? 0 : kOffloadBuffers * std::min(kOffloadBlock, zero.changed) * each;
  const std::int64_t master = 4 * zero.changed;
  const std::int64_t moments = zero.moments + staged;
  const bool are_masters = full && offload.parameters;
  const std::int64_t shards = zero_stage(spec) == 3 && !are_masters ? each * zero.changed : 0;
  if (has_one_memory(spec)) {
    bytes.parameters += shards;
    bytes.master = master;
    bytes.optimizer = moments;
    bytes.gradients += zero.host_sums;
    return;
  }
  bytes.master = bytes.optimizer = 0;
  bytes.host += master + moments + zero.host_sums;
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
    const auto zero = zero_memory(spec, stage);
    const std::int64_t times = reduces_every_micro_batch(spec) ? micro_batches : 1;
    out.down = times * zero.host_sums;
    out.up = (times - 1) * zero.host_sums;
    if (shard_ranks(spec) < contract::degrees(spec).dp) out.step_up = out.step_down = zero.host_sums;
    if (!offload.parameters) out.step_up += weight_bytes(spec) * zero.changed;
  }
  if (offload.parameters) out.up += micro_batches * weight_bytes(spec) * zero_gathered_elements(spec, stage, 0);
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
