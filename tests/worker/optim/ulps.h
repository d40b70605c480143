#pragma once

#include <cstdint>
#include <limits>

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

/// The most that `a` and `b` differ by, in units in the last place of the largest of both and what they were before: where a number passes zero, the
/// rounding of what was added to it is large beside it.
inline double ulps_of_step(const at::Tensor& a, const at::Tensor& b, const at::Tensor& before) {
  if (a.numel() == 0) return 0;
  const at::Tensor largest = at::maximum(at::maximum(a.abs(), b.abs()), before.abs());
  const at::Tensor ulp = at::nextafter(largest, at::full_like(largest, std::numeric_limits<float>::infinity())) - largest;
  return ((a - b).abs() / ulp).max().item<double>();
}

/// How far a step of AdamW may be off, as ulps_of_step() counts, from one whose square root is the nearest number: by a rounding; more where
/// LibTorch's is MKL's, which on processors with AVX-512 is an ulp off in 7 of 1,000 numbers, on one of AMD in 150. That is the step's 2^-23 of
/// itself, or twice that after the division's rounding, and the step at most twice the largest of before and after.
inline double ulps_by_the_root() {
  const at::Tensor numbers = at::arange(1, 100'000, at::kFloat).mul(0.37);
  const bool is_nearest = at::equal(numbers.sqrt(), numbers.to(at::kDouble).sqrt().to(at::kFloat));
  return is_nearest ? 1 : 8;
}

}  // namespace trainyard::test
