#pragma once
// AdamW's step on a GPU in one pass: every tensor is read once and written once, and the weight that forward reads is written beside
// its master. 30 bytes a parameter with BF16 weights, with moments in codes of 8 bits 18, where the operations one by one move about 100.
// Only in builds with TRAINYARD_CUDA.

#include "worker/optim/adamw_numbers.h"
#include "worker/optim/adamw_tensors.h"

namespace trainyard::optim {

/// master, average and square as AdamW::step() of adamw.h has them, of the gradient times numbers.gradient_scale, which stays as it is.
/// All on one GPU; the weight BF16 or FP16. Element by element, with the roundings of LibTorch's operations on CPUs that fuse a product
/// with a sum (AVX2, AVX512), but for the square root, which MKL rounds to a neighbour now and then. On the current stream.
void adamw_step_on_gpu(const AdamWTensors& tensors, const AdamWNumbers& numbers);

}  // namespace trainyard::optim
