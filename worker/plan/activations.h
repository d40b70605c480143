#pragma once
// What autograd keeps of the decoder layers between forward and backward, counted tensor by tensor.
// Letters: D model width, A query heads, G key-value heads, H head width, F feed-forward width, t tensor-parallel ranks, e bytes of a
// number in the compute format.

#include <cstdint>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// Bytes of one layer on one rank, of a micro-batch of `tokens`; a token has
///
///   None        layer input, both norms' outputs, middle: 4·D; q, attention output: 2·D/t; k, v: 2·G·H/t; gate, up, silu, product: 4·F/t,
///               all times e; 4·A/t for the softmax's sums and 8 for the norms' in FP32. In FP32 on GPUs k and v are repeated for each of
///               the A heads (worker/model/attention.h), so that they have 2·D/t
///   Full        the layer's input: e·D
///   Selective   the layer's input and middle, q, k, v, gate, up: e·(2·D + (D + 2·G·H + 2·F)/t)
///
/// On CPUs LibTorch has no fused RMSNorm: None has e·2·D more in FP32; in the other formats 16·D more, in FP32 numbers, but e·2·D less,
/// since the norms keep their inputs in FP32.
/// With parallelism.sequence a rank has the residual stream of one in t tokens: what has no 1/t above, the norms' 8 too, is divided by t then.
/// Source: Korthikanti et al., arXiv:2205.05198, section 4, for SwiGLU, grouped queries and flash attention.
std::int64_t kept_activation_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens);

/// The same of what backward computes again at a time, beyond what is kept: of Full the rest of one layer, of Selective the rest of the
/// largest of its parts.
std::int64_t recomputed_activation_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens);

/// What a layer's backward works with beside those and stream_bytes(), when it takes most: as SwiGLU's ends, the gradients of gate and up, 2·F/t times
/// e. (That of the product takes the place of the product.)
std::int64_t layer_work_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens);

/// The residual stream of a micro-batch, e·D: a layer's input and output, what pipeline stages hand on, and the gradient of each.
std::int64_t stream_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens);

/// Between the halves of a split backward, what the products with a layer's weights are computed of: their inputs, those of both norms' outputs, D,
/// attention's, D/t, and the product, F/t; the gradients of their outputs, q and attention's 2·D, k and v 2·G·H/t, gate and up 2·F/t, and
/// that of the residual stream, D; all times e.
std::int64_t late_activation_bytes(const contract::TrainingJobSpec& spec, std::int64_t tokens);

/// The tables of the rotary embedding, which a chunk of a stage keeps from its first micro-batch on: 2·H·e for each token of a sequence.
std::int64_t rotary_bytes(const contract::TrainingJobSpec& spec);

}  // namespace trainyard::plan
