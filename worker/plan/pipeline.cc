#include "worker/plan/pipeline.h"

#include <algorithm>
#include <stdexcept>

namespace trainyard::plan {

std::vector<PipelineOp> one_forward_one_backward(std::int32_t num_stages, std::int32_t num_micro_batches, std::int32_t stage) {
  if (stage < 0 || stage >= num_stages || num_micro_batches < 1) {
    throw std::invalid_argument("1F1B needs a stage of the pipeline and at least one micro-batch");
  }
  const bool first = stage == 0, last = stage == num_stages - 1;
  std::vector<PipelineOp> ops;
  const auto forward = [&](std::int32_t micro_batch) {
    if (!first) ops.push_back({PipelineOpKind::kReceiveActivation, micro_batch});
    ops.push_back({PipelineOpKind::kForward, micro_batch});
    if (!last) ops.push_back({PipelineOpKind::kSendActivation, micro_batch});
  };
  const auto backward = [&](std::int32_t micro_batch) {
    if (!last) ops.push_back({PipelineOpKind::kReceiveGradient, micro_batch});
    ops.push_back({PipelineOpKind::kBackward, micro_batch});
    if (!first) ops.push_back({PipelineOpKind::kSendGradient, micro_batch});
  };
  const std::int32_t warm_up = std::min(num_stages - 1 - stage, num_micro_batches);
  for (std::int32_t i = 0; i < warm_up; ++i) forward(i);
  for (std::int32_t i = warm_up; i < num_micro_batches; ++i) {
    forward(i);
    backward(i - warm_up);
  }
  for (std::int32_t i = num_micro_batches - warm_up; i < num_micro_batches; ++i) backward(i);
  return ops;
}

std::vector<PipelineOp> forward_only(std::int32_t num_stages, std::int32_t num_micro_batches, std::int32_t stage) {
  std::vector<PipelineOp> ops;
  for (std::int32_t i = 0; i < num_micro_batches; ++i) {
    if (stage > 0) ops.push_back({PipelineOpKind::kReceiveActivation, i});
    ops.push_back({PipelineOpKind::kForward, i});
    if (stage < num_stages - 1) ops.push_back({PipelineOpKind::kSendActivation, i});
  }
  return ops;
}

}  // namespace trainyard::plan
