#pragma once
// Rotary position embedding in Hugging Face's convention: pair i of a head is elements (i, i + H/2).
// Source: Su et al., "RoFormer", arXiv:2104.09864; transformers, modeling_llama.py, apply_rotary_pos_emb.

#include <ATen/ATen.h>

namespace trainyard::model {

/// Letters: T tokens, H head width. The angle of position t and pair i is t · theta^(−2i/H), in FP32; both halves of a head have it.
struct RotaryTable {
  at::Tensor cosine_TH;
  at::Tensor sine_TH;  // its first half negated, so that rotate() can swap halves without a negation
};
RotaryTable rotary_table(std::int64_t tokens, std::int64_t head_width, double theta, const at::TensorOptions& options);

/// x · cosine + (−second half, first half) · sine, of x_BNTH. Differentiable; the gradient is the rotation back.
at::Tensor rotate(const at::Tensor& x_BNTH, const RotaryTable& table);

}  // namespace trainyard::model
