#pragma once
// What the head and its loss take on the last stage (worker/model/head_loss.h), tensor by tensor.
// Letters: N tokens of a micro-batch, V classes of the rank, D model width, c bytes of a number in the compute format.

#include <cstdint>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// Whether the loss is computed with its gradients for some tokens at a time: on GPUs with the whole vocabulary on each rank, but for FP16.
bool has_fused_loss(const contract::TrainingJobSpec& spec);

/// 2·V·D where the logits are made twice, else 0: by the fused loss in a pipeline whose schedule has all forwards first (GPipe), which computes
/// the loss in forward, and its gradients in backward from the logits once more.
double recomputed_head_flops_per_token(const contract::TrainingJobSpec& spec);

/// In bytes.
struct HeadBytes {
  std::int64_t kept = 0;  // of a micro-batch from its forward to its backward
  std::int64_t work = 0;  // beside what is kept, as its backward begins
  std::int64_t late =
      0;  // of a micro-batch between the halves of a split backward; where the weight's gradient comes then, also c·N·D, its input
};

///                    kept      work                                                 late
///   PyTorch's        4·N·V     8·N·V, or d_logits and the weight's gradient         c·N·V, on GPUs c·V·D
///   with zLoss       8·N·V     12·N·V
///   tensor > 1       4·N·V     4·N·V, or the same                                   c·N·V
///   fused            0         max of c·min(N, 2·D)·V + 4·(V·D + N·D)               c·V·D
///                              and (4 + c)·(V·D + N·D)
///
/// Kept are also the last norm's input, output and what a layer's norm keeps: 2·c·N·D, and on CPUs 4·N·D more, below FP32 8·N·D.
/// Fused, forward is followed by backward at once, or, where a schedule has all forwards first, computes the loss alone: then backward has
/// the work. On GPUs a rank with the whole vocabulary has the weight's gradient with the first half of a split backward, in every format.
HeadBytes head_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens);

}  // namespace trainyard::plan
