#pragma once
// The sums of the gradient norm for tensors on a GPU: one launch each, where tensor operations would need dozens. Only in builds with
// TRAINYARD_CUDA.

#include <ATen/ATen.h>

#include "worker/optim/norm_cut.h"

namespace trainyard::optim {

/// As block_sums() of gradient_norm.h, on the tensor's device and current stream, without a copy of the unsharded tensor.
at::Tensor block_sums_on_gpu(const at::Tensor& gradient, const NormCut& cut);

/// As halving_sum() of gradient_norm.h.
at::Tensor halving_sum_on_gpu(const at::Tensor& values);

}  // namespace trainyard::optim
