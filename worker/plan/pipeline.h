#pragma once
// A pipeline schedule as data: what one stage does in one optimizer step, in order. worker/schedule runs it; tests prove for small
// worlds that every micro-batch goes through every stage once each way, and that no stage waits for ever.

#include <cstdint>
#include <vector>

namespace trainyard::plan {

enum class PipelineOpKind {
  kReceiveActivation,  // from the stage before
  kForward,
  kSendActivation,   // to the stage after
  kReceiveGradient,  // from the stage after
  kBackward,
  kSendGradient  // to the stage before
};

struct PipelineOp {
  PipelineOpKind kind = PipelineOpKind::kForward;
  std::int32_t micro_batch = 0;  // within this data rank's step, from 0
  bool operator==(const PipelineOp&) const = default;
};

/// 1F1B: stage s first runs min(p − 1 − s, m) forwards, then alternates one forward and one backward, then runs the backwards that
/// remain; so at most min(p − s, m) micro-batches are in flight on it. Source: Narayanan et al., arXiv:2104.04473, section 2.2.
/// Neighbours send to each other at the same time, so a send must not wait for its receiver.
/// Throws std::invalid_argument unless 0 <= stage < num_stages and num_micro_batches >= 1.
std::vector<PipelineOp> one_forward_one_backward(std::int32_t num_stages, std::int32_t num_micro_batches, std::int32_t stage);

/// Forward alone, as an evaluation does: micro-batch after micro-batch.
std::vector<PipelineOp> forward_only(std::int32_t num_stages, std::int32_t num_micro_batches, std::int32_t stage);

}  // namespace trainyard::plan
