#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace trainyard::optim {

/// One tensor of the optimizer: all of one size, contiguous.
struct AdamWTensors {
  at::Tensor master;           // FP32, changed in place
  at::Tensor average, square;  // both FP32, BF16, or codes of 8 bits (worker/plan/moments.h); changed in place
  at::Tensor gradient;         // FP32; on a GPU also BF16 or FP16
  at::Tensor weight;           // becomes the master, rounded to its type; undefined where there is none
  /// Of codes: the scales of their blocks, FP32, changed in place, and plan::moment_segment(). The tensors are whole segments.
  at::Tensor average_scales = {}, square_scales = {};
  std::int64_t segment = 0;
};

}  // namespace trainyard::optim
