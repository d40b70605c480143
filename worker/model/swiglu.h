#pragma once
// The gated activation of the feed-forward part. Source: Shazeer, "GLU variants improve transformer", arXiv:2002.05202.

#include <ATen/ATen.h>

namespace trainyard::model {

/// silu(gate) · up, of tensors of one shape, differentiable. On a GPU one kernel each way, which keeps gate and up alone for the
/// backward pass; on a CPU PyTorch's two operations.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace trainyard::model
