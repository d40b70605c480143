#include "worker/plan/roofline.h"

#include <algorithm>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"
#include "worker/plan/head_cost.h"
#include "worker/plan/offload_cost.h"
#include "worker/plan/parameters.h"
#include "worker/plan/stages.h"
#include "worker/plan/traffic.h"

namespace trainyard::plan {
namespace {

/// Operations of one rank in a step.
struct Work {
  double model = 0;
  double repeated = 0;
};

Work work_of(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  const auto& size = spec.model.size.value();
  const auto& parallelism = spec.parallelism;
  const auto sequence = spec.data.sequenceLength;
  contract::ModelSize layer = size;
  layer.layers = 1;
  const double head = 6 * head_matmul_parameters(size);
  const double of_layer = flops_per_token(layer, sequence) - head;
  const double again =
      recomputed_flops_per_token(layer, sequence, spec.training.activationCheckpointing.mode, parallelism.sequence);
  const auto layers = static_cast<double>(stage_parameters(spec, stage).layers);
  const bool is_last = stage + 1 == parallelism.pipeline;
  const double tokens = static_cast<double>(micro_batches_per_step(spec)) * parallelism.microBatchSize * sequence;
  const double share = tokens / parallelism.tensor;
  const double head_again = is_last ? recomputed_head_flops_per_token(spec) : 0;
  return {.model = share * (layers * of_layer + (is_last ? head : 0)), .repeated = share * (layers * again + head_again)};
}

/// What each rank of a stage sends on to others of its tensor group, and waits for, by stage.
std::vector<double> tensor_bytes(const contract::TrainingJobSpec& spec) {
  const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
  std::vector<double> out(static_cast<std::size_t>(spec.parallelism.pipeline), 0);
  for (const auto& flow : traffic_per_step(spec)) {
    auto from = layout.coordinate_of(flow.from);
    const auto to = layout.coordinate_of(flow.to);
    from.tp = to.tp;
    if (from != to) continue;
    auto& most = out[static_cast<std::size_t>(to.pp)];
    most = std::max(most, static_cast<double>(flow.bytes));
  }
  for (std::int32_t stage = 0; stage < spec.parallelism.pipeline; ++stage) {
    out[static_cast<std::size_t>(stage)] -= static_cast<double>(tensor_bytes_beside_products(spec, stage));
  }
  return out;
}

/// Of the bytes that a ring sends for a sum over tensor ranks, 2(t − 1)/t of it, those that a rank sends at least: where the switches add up,
/// it sends its own number once and gets 1/t of the sums to pass on, 1 + 1/t. Shards go as in a ring.
double share_of_ring(const contract::Parallelism& parallelism, const Device& device) {
  if (!device.sums_in_switch || device.link_bytes <= 0 || parallelism.sequence || parallelism.tensor == 1) return 1;
  const double ranks = parallelism.tensor;
  return std::min(1.0, (ranks + 1) / (2 * (ranks - 1)));
}

/// What a stage waits for others, in seconds, when it is busy for `busy`, of which `weights` go into the gradients of the weights.
double idle_time(const contract::Parallelism& parallelism, std::int64_t micro_batches, double busy, double weights) {
  const double others = parallelism.pipeline - 1, number = static_cast<double>(micro_batches);
  const double whole = busy / number, late = weights / number;  // of a micro-batch
  if (parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kZeroBubble) {
    if (micro_batches >= parallelism.pipeline) return std::max(0.0, others * (whole - 2 * late));
    return std::max(0.0, others * (whole - late) - (number - 1) * late);
  }
  return others * whole / chunks_per_stage(parallelism);
}

}  // namespace

double StepTime::step() const { return std::max({busy(), network, host}) + optimizer; }

StepTime step_time(const contract::TrainingJobSpec& spec, const Device& device, double peak_flops, double network_seconds) {
  const auto tensor = tensor_bytes(spec);
  const double link = (device.link_bytes > 0 ? device.link_bytes : device.host_bytes) / share_of_ring(spec.parallelism, device);
  StepTime slowest;
  double host = 0, optimizer = 0;
  for (std::int32_t stage = 0; stage < spec.parallelism.pipeline; ++stage) {
    const Work work = work_of(spec, stage);
    StepTime time{.compute = (work.model + work.repeated) / peak_flops, .tensor = tensor[static_cast<std::size_t>(stage)] / link};
    time.idle = idle_time(spec.parallelism, micro_batches_per_step(spec), time.busy(), work.model / 3 / peak_flops);
    if (time.busy() > slowest.busy()) slowest = time;
    const auto traffic = host_traffic_per_step(spec, stage);
    host = std::max(host, static_cast<double>(std::max(traffic.up, traffic.down)) / device.host_bytes);
    optimizer = std::max(optimizer, static_cast<double>(std::max(traffic.step_up, traffic.step_down)) / device.host_bytes);
  }
  slowest.network = network_seconds;
  slowest.host = host;
  slowest.optimizer = optimizer;
  return slowest;
}

double model_flops_utilization(const contract::TrainingJobSpec& spec, double peak_flops, const StepTime& time) {
  const double tokens = static_cast<double>(spec.training.globalBatchSize) * spec.data.sequenceLength;
  const double work = tokens * flops_per_token(spec.model.size.value(), spec.data.sequenceLength);
  return std::min(1.0, work / contract::world_size(spec) / peak_flops / time.step());  // rounding makes no more
}

}  // namespace trainyard::plan
