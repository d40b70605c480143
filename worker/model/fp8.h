#pragma once
// Linear layers whose three products, of forward and backward, multiply numbers of 8 bits (E4M3: 4 bits of exponent, 3 of mantissa, the
// largest 448), scaled so that their largest is 448. Masters, gradients' sums, and all that is no linear layer keep their formats.
// Letters: R rows, K columns, over which products add up; M, N rows of the two factors.
// Sources: Micikevicius et al., "FP8 formats for deep learning", arXiv:2209.05433; DeepSeek-V3, arXiv:2412.19437, section 3.3.

#include <cstdint>

#include <ATen/ATen.h>

#include "crds/contract/job.h"

namespace trainyard::model {

/// The parts of a matrix that have a scale of their own.
enum class Fp8Blocks { kTensor, kRow, k1x128, k128x128 };

/// values · scales, each scale over its block.
struct Fp8Matrix {
  at::Tensor values_RK;  // at::kFloat8_e4m3fn, contiguous
  at::Tensor scales;     // FP32, one a block: [1, 1]; [R, 1]; [R, ⌈K/128⌉]; [⌈R/128⌉, ⌈K/128⌉]
  Fp8Blocks blocks = Fp8Blocks::kTensor;
};

/// A block's scale is max(its largest magnitude, 1e-4) / 448; values are x / scale in FP32, cut to ±448, rounded to the nearest, ties to even.
/// The same bits on CPUs and GPUs. What is not finite makes its block not finite.
Fp8Matrix to_fp8(const at::Tensor& x_RK, Fp8Blocks blocks);

/// In FP32.
at::Tensor from_fp8(const Fp8Matrix& x);

/// a · bᵀ in `type`. On GPUs by their FP8 units (at::_scaled_mm), which need K and N that are multiples of 16, and blocks of 128 that are
/// whole; on CPUs the same product in FP32.
at::Tensor fp8_product(const Fp8Matrix& a_MK, const Fp8Matrix& b_NK, at::ScalarType type);

/// at::linear without a bias in FP8, with a backward pass in FP8. Tensorwise has one scale a matrix; Rowwise one for each row of both
/// factors; Blockwise one for 1 × 128 of activations and their gradients, and for 128 × 128 of the weight. Each of the three products scales
/// its factors anew, along the dimension that it adds up over. `x` [..., K], `weight_NK` a leaf.
at::Tensor fp8_linear(const at::Tensor& x, const at::Tensor& weight_NK, contract::Fp8Recipe recipe);

/// Its three products, not differentiable, in the type of x: x · weightᵀ, and of a gradient of that those of x, gradient · weight, and of
/// the weight, gradientᵀ · x.
at::Tensor fp8_multiply(const at::Tensor& x, const at::Tensor& weight_NK, contract::Fp8Recipe recipe);
at::Tensor fp8_gradient_of_input(const at::Tensor& gradient_MN, const at::Tensor& weight_NK, contract::Fp8Recipe recipe);
at::Tensor fp8_gradient_of_weight(const at::Tensor& gradient_MN, const at::Tensor& x_MK, contract::Fp8Recipe recipe);

/// Throws contract::UserError (Fp8NotSupported) where the device is a GPU that has no such units.
void check_fp8(at::Device device, contract::Fp8Recipe recipe);

}  // namespace trainyard::model
