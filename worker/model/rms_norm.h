#pragma once
// Source: Zhang and Sennrich, "Root mean square layer normalization", arXiv:1910.07467.

#include <ATen/ATen.h>

namespace trainyard::model {

/// x / sqrt(mean of x² over the last dimension + epsilon) · weight, differentiable. On a GPU one kernel forward, whose sums are FP32; in
/// the backward pass one for x, one for the weight with its sums over groups of rows. On a CPU the bits of PyTorch's operation,
/// of small tensors by loops of our own, where its calls would take the time.
///   x […, D], weight_D of one type
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight_D, double epsilon);

}  // namespace trainyard::model
