#pragma once

#include <ATen/core/Tensor.h>

namespace trainyard::optim {

/// One tensor of the optimizer: all of one size, contiguous.
struct AdamWTensors {
  at::Tensor master;           // FP32, changed in place
  at::Tensor average, square;  // FP32 or both BF16, changed in place
  at::Tensor gradient;         // FP32; on a GPU also BF16 or FP16
  at::Tensor weight;           // becomes the master, rounded to its type; undefined where there is none
};

}  // namespace trainyard::optim
