#pragma once
// What the model does between its products, one kernel each: a GPU computes these in the time in which memory is read and written, so
// that each pass over a tensor counts. All take FP32, BF16 and FP16, compute in FP32 and run on the current stream. Every result is
// rounded where the operations one by one would round it, and nothing is added in an order that may change: results are deterministic.
// Only in builds with TRAINYARD_CUDA.
// Letters: N tokens, F feed-forward width, V classes, T tokens of a sequence, H head width, D model width.

#include <ATen/core/Tensor.h>

#include "worker/model/dropout.h"

namespace trainyard::model {

/// The same numbers as the kernels read them: contiguous, and beginning at a whole piece of 16 bytes, as a view need not. Mostly `x` itself.
at::Tensor for_kernels(const at::Tensor& x);

/// out = silu(gate) · up, of contiguous tensors of one shape.
void swiglu_forward_on_gpu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out);
/// With s = 1 / (1 + e^(-gate)): d_up = gradient · gate · s, d_gate = gradient · up · s · (1 + gate · (1 - s)).
void swiglu_backward_on_gpu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient, const at::Tensor& d_gate,
                            const at::Tensor& d_up);

/// Whether the two below take rows of this width: whole 16-byte pieces.
bool can_norm_on_gpu(const at::Tensor& x_ND);
/// inverse_N = 1 / sqrt(mean of x² + epsilon) in FP32; out = x · inverse · weight, rounded once. Contiguous.
void rms_norm_forward_on_gpu(const at::Tensor& x_ND, const at::Tensor& weight_D, double epsilon, const at::Tensor& out_ND,
                             const at::Tensor& inverse_N);
/// With n = x · inverse and g = gradient · weight: d_x = inverse · (g - n · mean of n · g); d_weight, FP32 [G, D], one row for each
/// group of kNormRows tokens: their sum of gradient · n.
inline constexpr std::int64_t kNormRows = 64;
void rms_norm_backward_on_gpu(const at::Tensor& x_ND, const at::Tensor& weight_D, const at::Tensor& inverse_N,
                              const at::Tensor& gradient_ND, const at::Tensor& d_x_ND, const at::Tensor& d_weight_GD);

/// Whether rotate_on_gpu() takes heads of this width: halves of whole 16-byte pieces.
bool can_rotate_on_gpu(const at::Tensor& x);
/// out = x · cosine + (second half, first half) · sine, of contiguous tensors; position t's row of the tables for all heads of token t.
/// `back`: the transposed map, out = x · cosine + swapped halves of (x · sine).
void rotate_on_gpu(const at::Tensor& x_BTNH, const at::Tensor& cosine_TH, const at::Tensor& sine_TH, const at::Tensor& out_BTNH,
                   bool back);

/// losses_N = logsumexp(logits) - logits[target], FP32. `with_gradient`: logits become the gradient of head_loss.h's loss_of_logits(), without
/// terms softmax(logits) - [class = target], rounded once. Contiguous. Reads logits twice and writes them once. Source of the one-pass
/// maximum and sum: Milakov and Gimelshein, arXiv:1805.02867.
void cross_entropy_on_gpu(const at::Tensor& logits_NV, const at::Tensor& targets_N, const at::Tensor& losses_N,
                          bool with_gradient, double label_smoothing = 0, double z_loss = 0);

/// dropout.h's, of contiguous tensors.
void dropout_on_gpu(const at::Tensor& x_BTD, const at::Tensor& out_BTD, const DropoutNumbers& numbers, const DropoutPlace& place);

}  // namespace trainyard::model
