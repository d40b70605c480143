#pragma once
// What training a model costs, from its sizes alone: floating-point operations a token, and bytes a rank.
// Letters: L layers, D model width, A query heads, G key-value heads, H head width, F feed-forward width, V vocabulary, T tokens.

#include <cstdint>

#include "crds/contract/job.h"
#include "crds/contract/layout.h"

namespace trainyard::plan {

/// keyValueHeads, or heads where it is left out.
std::int32_t key_value_heads(const contract::ModelSize& size);
/// D / A.
std::int32_t head_width(const contract::ModelSize& size);

/// Parameters of one layer that are multiplied with every token: D·A·H + 2·D·G·H + A·H·D + 3·D·F.
double layer_matmul_parameters(const contract::ModelSize& size);
/// V·D: the head, tied or not. The embedding is a look-up.
double head_matmul_parameters(const contract::ModelSize& size);

/// Floating-point operations of forward and backward for one token of a sequence of `sequence_length`: 6 for each matmul parameter
/// (2 forward, 4 backward), and 6·T·L·A·H for causal attention, which looks at half of the T x T pairs. Recomputation is not counted.
/// Source: Narayanan et al., arXiv:2104.04473, appendix, with the causal half.
double flops_per_token(const contract::ModelSize& size, std::int32_t sequence_length);

/// What backward computes again for one token (worker/model/recompute.h: a block runs again up to the last operation that something is kept
/// of): of Full the layers but for their last product, 2·(D·A·H + 2·D·G·H + A·H·D + 2·D·F) + 2·T·A·H a layer; of Selective the products for
/// q, k and gate, and attention, 2·(D·A·H + D·G·H + D·F) + 2·T·A·H. With parallelism.sequence, `sequence`, Selective does attention alone: products
/// with one input are one operation, which keeps nothing else. What is done again of the head: head_cost.h.
double recomputed_flops_per_token(const contract::ModelSize& size, std::int32_t sequence_length, contract::RecomputeMode mode,
                                  bool sequence = false);

/// All parameters of the model: the global number of elements; a tied head counts once.
std::int64_t num_parameters(const contract::ModelSize& size);

/// Of a data rank in an optimizer step; at least 1.
std::int64_t micro_batches_per_step(const contract::TrainingJobSpec& spec);

struct RankBytes {
  std::int64_t parameters = 0;  // what forward and backward read: FP32 or BF16; in BF16 the FP32 master stands under `master`
  std::int64_t master = 0;
  std::int64_t gradients = 0;    // sums, and a micro-batch's own (gradient_cost.h)
  std::int64_t optimizer = 0;    // AdamW's two moments (moments.h)
  std::int64_t activations = 0;  // of the micro-batches in flight, what backward computes again at a time, and logits
  std::int64_t host = 0;         // what is offloaded from a GPU; all else is on the device
  std::int64_t total() const { return parameters + master + gradients + optimizer + activations; }  // of the device
  bool operator==(const RankBytes&) const = default;
};

/// Parameters, masters, gradients and optimizer's states are those of zero_cost.h with ZeRO.
/// The bytes that the tensors of pipeline stage `stage` take on each of its ranks when they take most. Gradients grow while activations go, so
/// both are those of one moment: of the beginnings and ends of the micro-batches' backward passes, and the reduction after them, the one with
/// the largest sum. Activations are what autograd keeps of the layers (activations.h), and the last stage's logits and what the loss makes
/// of them (head_cost.h); a curriculum's micro-batches have as many tokens as others. What offload moves to the host: offload_cost.h.
RankBytes bytes_per_rank(const contract::TrainingJobSpec& spec, std::int32_t stage);

/// Of the activations alone, when they are most: as a backward pass begins with all micro-batches in flight that ever are.
std::int64_t most_activation_bytes(const contract::TrainingJobSpec& spec, std::int32_t stage);

/// Of the stage whose ranks hold most on the device, but `host` of that whose hosts do.
RankBytes most_bytes_per_rank(const contract::TrainingJobSpec& spec);

}  // namespace trainyard::plan
