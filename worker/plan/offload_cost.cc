#include "worker/plan/offload_cost.h"

#include <algorithm>

#include "worker/plan/shards.h"
#include "worker/plan/stages.h"

namespace trainyard::plan {
namespace {

bool has_one_memory(const contract::TrainingJobSpec& spec) { return spec.workers.gpusPerWorker == 0; }

}  // namespace

void offload_optimizer(const contract::TrainingJobSpec& spec, RankBytes& bytes) {
  const auto& offload = spec.parallelism.zero.offload;
  if (!offload.optimizer) return;
  const bool full = spec.training.precision.compute == contract::ComputePrecision::kFP32;
  const std::int64_t changed = bytes.optimizer / moment_bytes(spec), each = full ? 4 : 2;
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

}  // namespace trainyard::plan
