#include "worker/plan/head_cost.h"

#include <algorithm>

#include "worker/plan/cost.h"
#include "worker/plan/parameters.h"

namespace trainyard::plan {

bool has_fused_loss(const contract::TrainingJobSpec& spec) {
  return spec.workers.gpusPerWorker > 0 && spec.parallelism.tensor == 1 &&
         spec.training.precision.compute != contract::ComputePrecision::kFP16;
}

double recomputed_head_flops_per_token(const contract::TrainingJobSpec& spec) {
  const auto& parallelism = spec.parallelism;
  const bool has_all_forwards_first =
      parallelism.pipeline > 1 && parallelism.pipelineSchedule.name == contract::PipelineScheduleName::kGPipe;
  return has_fused_loss(spec) && has_all_forwards_first ? 2 * head_matmul_parameters(spec.model.size.value()) : 0;
}

namespace {

std::int64_t own_tokens(const contract::TrainingJobSpec& spec, std::int64_t tokens) {
  return spec.parallelism.sequence ? tokens / spec.parallelism.tensor : tokens;
}

/// The last layer's output, and what the norm keeps, as in a layer (activations.h).
std::int64_t norm_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens, std::int64_t each) {
  const std::int64_t width = spec.model.size.value().hiddenSize, root = 4;
  const std::int64_t own = own_tokens(spec, tokens);
  const bool on_cpu = spec.workers.gpusPerWorker == 0;
  return own * (2 * each * width + root + (on_cpu ? (each == 4 ? each * width : 8 * width) : 0));
}

}  // namespace

HeadBytes head_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens) {
  const auto& size = spec.model.size.value();
  const std::int64_t each = spec.training.precision.compute == contract::ComputePrecision::kFP32 ? 4 : 2, width = size.hiddenSize;
  const std::int64_t classes = classes_of(size.vocabularySize, spec.parallelism.tensor, 0).count;
  const std::int64_t logits = tokens * classes, weight = classes * width;
  const std::int64_t norm = norm_bytes(spec, tokens, each);
  if (has_fused_loss(spec)) {
    const std::int64_t gradients = weight + tokens * width;
    return {.kept = norm,
            .work = std::max(each * std::min(tokens, 2 * width) * classes + 4 * gradients, (4 + each) * gradients),
            .late = each * weight};
  }
  const bool keeps_logits = spec.parallelism.tensor == 1 && spec.training.loss.zLoss > 0;
  const bool has_late_gradient = spec.parallelism.tensor == 1 && spec.workers.gpusPerWorker > 0;
  HeadBytes bytes{.kept = 4 * logits,
                  .work = (spec.parallelism.tensor == 1 ? 8 : 4) * logits,
                  .late = each * (has_late_gradient ? weight : logits + own_tokens(spec, tokens) * width)};
  if (keeps_logits) {
    bytes.kept += 4 * logits;
    bytes.work += 4 * logits;
  }
  bytes.work = std::max(bytes.work, each * (logits + weight) - bytes.kept);
  bytes.kept += norm;
  return bytes;
}

}  // namespace trainyard::plan
