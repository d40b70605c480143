#pragma once
// What parallelism.zero.offload and activationCheckpointing.offload move from the device to its host, in bytes.

#include <cstdint>

#include "crds/contract/job.h"
#include "worker/plan/cost.h"

namespace trainyard::plan {

/// Elements that the optimizer's step carries at a time: 16 MiB in FP32, with which PCIe is as fast as it gets, and short beside a step.
inline constexpr std::int64_t kOffloadBlock = std::int64_t{1} << 22;
/// Blocks of weights that have room in pinned memory: one under way, one in use, one to even them out.
inline constexpr std::int64_t kOffloadBuffers = 3;
/// Layers whose activations are on the device at once: the one that is computed, and the one before, whose copies may be under way.
inline constexpr std::int64_t kOffloadLayers = 2;

/// Of a rank of pipeline stage `stage` whose optimizer changes K parameters of c bytes each: masters and moments, 12·K (with moments in
/// BF16 or 8 bits less, moments.h), the sums of gradients, 4·ΣS (zero_cost.h), and staging of three blocks, or K where that is less, of c bytes
/// an element go to the host (with offload.parameters no staging). At stage 3 the shards that weights are gathered from, c·K, no longer come
/// from the masters: they stay on the device, or with offload.parameters are on the host, in FP32 as the masters themselves. Without GPUs both
/// are one memory, and nothing moves: there `bytes`, which has the most of gradients and activations already, has it all, and no host.
/// Source: Ren et al., "ZeRO-Offload", arXiv:2101.06840.
void offload_optimizer(const contract::TrainingJobSpec& spec, std::int32_t stage, RankBytes& bytes);

/// Activations of a stage that has some micro-batches in flight.
struct InFlight {
  std::int64_t layers = 0;          // of all of them
  std::int64_t layer_bytes = 0;     // that are kept of each
  std::int64_t chunks = 0;          // of all of them, each with an input and an output that are the pipeline's
  std::int64_t boundary_bytes = 0;  // of an input, or an output
};
/// Offloaded, kOffloadLayers of each chunk of the stage are on the device, with the inputs and outputs of chunks in a pipeline, and all layers on
/// the host. With ZeroBubble all count on the device, too: between the halves of backward the inputs of products are there again.
void add_activations(const contract::TrainingJobSpec& spec, const InFlight& in_flight, RankBytes& bytes);

/// Bytes that a rank and its host's memory send each other over PCIe in a step.
struct HostTraffic {
  std::int64_t up = 0;         // to the device, beside forward and backward
  std::int64_t down = 0;       // to the host, the same
  std::int64_t step_up = 0;    // in the optimizer's step, beside which nothing else is done
  std::int64_t step_down = 0;  // the same
  std::int64_t total() const { return up + down + step_up + step_down; }
  bool operator==(const HostTraffic&) const = default;
};
/// Of a rank of pipeline stage `stage` that changes K parameters of c bytes, in m micro-batches: with offload.optimizer 4·ΣS of gradients down
/// (where each micro-batch is exchanged m times, and all but the first time up before) and, unless offload.parameters leaves them on the host,
/// c·K of weights up in the step, before which, where shards are cut within a worker, the gradients go up and down once more; with
/// offload.parameters, for each micro-batch and gathering, c bytes of each parameter that it keeps up; with offloaded activations what is kept
/// of all layers but kOffloadLayers of each chunk, down and up. Nothing without GPUs.
HostTraffic host_traffic_per_step(const contract::TrainingJobSpec& spec, std::int32_t stage);

}  // namespace trainyard::plan
