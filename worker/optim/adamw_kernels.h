#pragma once
// AdamW's step on a GPU in one pass: every tensor is read once and written once, and the weight that forward reads is written beside
// its master. 30 bytes a parameter with BF16 weights, where the operations one by one move about 100. Only in builds with TRAINYARD_CUDA.

#include <ATen/core/Tensor.h>

#include "worker/optim/adamw_numbers.h"

namespace trainyard::optim {

/// One tensor of the optimizer, all of one size, contiguous, on one GPU.
struct AdamWTensors {
  at::Tensor master, average, square;  // FP32, changed in place
  at::Tensor gradient;                 // FP32, BF16 or FP16
  at::Tensor weight;                   // BF16 or FP16, becomes the rounded master; undefined where there is none
};

/// master, average and square as AdamW::step() of adamw.h has them, of the gradient times numbers.gradient_scale. Element by element, so
/// deterministic; of the CPU's results it may differ in the last bits, where the GPU fuses a product with a sum. On the current stream.
void adamw_step_on_gpu(const AdamWTensors& tensors, const AdamWNumbers& numbers);

}  // namespace trainyard::optim
