#pragma once

#include <cstdint>

#include <ATen/ATen.h>

namespace trainyard::test {

/// Of FP32 tensors on the CPU, the most floats that lie between two elements of the same place, the farther end counted.
inline std::int64_t ulps_between(const at::Tensor& a, const at::Tensor& b) {
  if (a.numel() == 0) return 0;
  // Whole numbers in the order of the floats; both zeros are 0.
  const auto ordered = [](const at::Tensor& x) {
    const at::Tensor bits = x.contiguous().view(at::kInt).to(at::kLong);
    return at::where(bits.lt(0), -(bits.bitwise_and(0x7fffffff)), bits);
  };
  return (ordered(a) - ordered(b)).abs().max().item<std::int64_t>();
}

}  // namespace trainyard::test
