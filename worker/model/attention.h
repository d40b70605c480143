#pragma once
// Causal attention with grouped queries, by a fused kernel wherever PyTorch has one.
// Letters: B sequences, N query heads, G key-value heads (G divides N), T tokens, H head width.

#include <cstdint>

#include <ATen/ATen.h>

namespace trainyard::model {

/// softmax(q · kᵀ / √H, of no later token) · v, where each key-value head serves N/G query heads that follow each other.
///   q_BNTH, k_BGTH, v_BGTH   of one type and device
///   return [B, N, T, H]
/// PyTorch's scaled_dot_product_attention. In FP32 on a GPU k and v are repeated for all heads first: the one fused kernel for FP32 there, the
/// memory-efficient one, takes as many heads of all three, and without a kernel scores of all pairs of tokens would be kept. It takes widths
/// that divide by 4. Source: Rabe and Staats, arXiv:2112.05682; Dao et al., arXiv:2205.14135, for the others.
at::Tensor causal_attention(const at::Tensor& q_BNTH, const at::Tensor& k_BGTH, const at::Tensor& v_BGTH);

/// Each head N/G times, one behind the other: [B, N, T, H]. Its backward pass adds up in one order, always.
at::Tensor repeated_heads(const at::Tensor& x_BGTH, std::int64_t heads);

}  // namespace trainyard::model
