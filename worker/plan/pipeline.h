#pragma once
// A pipeline schedule as data: what one stage does in one optimizer step, in order. worker/schedule runs it; tests execute every
// schedule of small worlds in virtual time.
//
// The model is cut into p·v parts. Part c·p + s is chunk c of stage s: with v = 1 a stage is one part, with more the way through the
// model goes v times around the stages. Letters: p stages, v chunks a stage, m micro-batches, s a stage; F, B and W the time of a
// micro-batch's forward, of the gradient of the inputs and of that of the weights, on all chunks of a stage.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::plan {

enum class PipelineOpKind {
  kReceiveActivation,  // from the part before
  kForward,
  kSendActivation,   // to the part after
  kReceiveGradient,  // from the part after
  kBackward,         // of inputs and weights
  kBackwardInput,    // of the inputs alone; what the weights' gradients need is kept
  kBackwardWeight,   // and now these
  kSendGradient      // to the part before
};

struct PipelineOp {
  PipelineOpKind kind = PipelineOpKind::kForward;
  std::int32_t micro_batch = 0;  // within this data rank's step, from 0
  std::int32_t chunk = 0;        // of this stage
  bool operator==(const PipelineOp&) const = default;
};

struct PipelineShape {
  std::int32_t stages = 1;
  std::int32_t chunks = 1;  // a stage; more than 1 with Interleaved alone
  std::int32_t micro_batches = 1;
};

/// What stage `stage` does. In all of them a chunk's gradients come micro-batch after micro-batch, so that their sum has one order.
///
///   schedule               order of a stage                                       idle               micro-batches in flight
///   GPipe                  all forwards, then all backwards                       (p − 1)(F + B + W)    m
///   OneForwardOneBackward  p − 1 − s forwards, then one of each in turn           (p − 1)(F + B + W)    min(m, p − s)
///   Interleaved            the same over chunks, p micro-batches of one and       (p − 1)(F + B + W)/v  min(m·v, 2(p − 1 − s) + (v − 1)p + 1)
///                          then of the next; 2(p − 1 − s) + (v − 1)p first                              chunks of a micro-batch
///   ZeroBubble             1F1B, whose weights' gradients begin s backwards late  (p − 1)(F + B − W)    min(m, p)
///
/// The idle time is that of a stage from the first op of the step to the last, exactly, where sending takes no time. ZeroBubble's holds for
/// m >= p, W <= F and W <= B; with fewer micro-batches it is (p − 1)(F + B) − (m − 1)W.
/// Sources: GPipe, arXiv:1811.06965, section 2.3. 1F1B and Interleaved: Narayanan et al., arXiv:2104.04473, section 2.2, in the order of
/// Megatron-LM. ZeroBubble is ZB-H1: Qi et al., arXiv:2401.10241, section 2.
///
/// Two stages send to each other at the same time, so a send must not wait for its receiver; but each waits for the one that was started
/// kSendsOnTheirWay earlier on the same link.
/// Throws std::invalid_argument unless 0 <= stage < stages, micro_batches >= 1, and where there are chunks, the schedule is Interleaved,
/// stages >= 2 and micro_batches divides by it.
std::vector<PipelineOp> pipeline_program(contract::PipelineScheduleName schedule, const PipelineShape& shape, std::int32_t stage);

/// Forward alone, as an evaluation does, of any number of micro-batches.
std::vector<PipelineOp> forward_only(const PipelineShape& shape, std::int32_t stage);

/// The most chunks of micro-batches that are between their forward and the end of their backward on a stage at one time.
std::int32_t most_in_flight(contract::PipelineScheduleName schedule, const PipelineShape& shape, std::int32_t stage);

/// The chunk whose `forward`-th forward of a step this is, counted from 0; the same on all stages.
std::int32_t chunk_of_forward(const PipelineShape& shape, std::int32_t forward);

/// The sends that a stage may have on their way on one link: in none of these programs does a receiver fall further behind than it can
/// catch up without its sender.
inline constexpr std::int32_t kSendsOnTheirWay = 16;

/// Where an op sends to or receives from.
struct PipelineLink {
  std::int32_t peer = 0;  // the other stage
  bool around = false;    // between the last stage and the first, from a chunk to the next
  std::int32_t tag = 0;   // the same at both ends, and no other transfer's of the step on this link
};
/// Of a send or a receive of `stage`.
PipelineLink link_of(const PipelineOp& op, const PipelineShape& shape, std::int32_t stage);

}  // namespace trainyard::plan
