#pragma once
// The head's product and its cross entropy as one differentiable function, for ranks that have the whole vocabulary.

#include <ATen/ATen.h>

#include "crds/contract/job.h"

namespace trainyard::model {

/// Tokens whose logits are in memory at once, on a GPU: as many as take no more bytes in BF16 than the FP32 gradient of the weight takes.
inline std::int64_t loss_chunk(std::int64_t width) { return 2 * width; }

/// The sum over tokens of −ln softmax(x · weightᵀ)[target] in nats, an FP32 scalar; logits are rounded to x's type, then taken as FP32.
///   x […, D], weight_VD of one type, targets_N int64
/// With `terms` its value is the same, which is what people compare, and its gradient is that of what is minimized (loss_of_logits()).
/// On a CPU PyTorch's operations, as on a GPU in FP16, whose gradients need the loss scale before they are rounded. On a GPU else the logits
/// of loss_chunk() tokens at a time, whose gradient takes their place, so that memory holds one copy of them in BF16 at the most: for 8,192
/// tokens and 128,256 classes 2 GiB instead of 14. The gradients of x and of the weight are computed on the way, from unscaled logits, summed
/// in FP32, and scaled when the backward pass comes; in what autograd records, they are what is kept.
/// Source: Wijmans et al., "Cut your losses in large-vocabulary language models", arXiv:2411.09009; Liger kernel, arXiv:2410.10989.
/// `in_backward`: they are computed when the backward pass comes, from the logits once more, to the same bits: for schedules that have the
/// forwards of many micro-batches first, of each of which the weight's gradient would be kept else.
at::Tensor head_loss(const at::Tensor& x, const at::Tensor& weight_VD, const at::Tensor& targets_N,
                     const contract::Loss& terms = {}, bool in_backward = false);

/// The sum over tokens of the cross entropy, an FP32 scalar, by PyTorch's operations. Its gradient, with V classes, e = labelSmoothing and
/// c = zLoss, is that of the sum over tokens of
///   (1 − e) · −ln p[target] + e / V · Σ −ln p + c · (ln Σ exp(logits))²,   p = softmax(logits):
/// softmax(logits) · (1 + 2c · ln Σ exp(logits)) − (1 − e) · [class = target] − e / V.
/// Sources: Szegedy et al., arXiv:1512.00567, section 7; Chowdhery et al. (PaLM), arXiv:2204.02311, section 5.
at::Tensor loss_of_logits(const at::Tensor& logits_NV, const at::Tensor& targets_N, const contract::Loss& terms);

}  // namespace trainyard::model
