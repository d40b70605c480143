#pragma once
// Linear layers whose three products, of forward and backward, multiply numbers of 8 bits (E4M3: 4 bits of exponent, 3 of mantissa, the
// largest 448), scaled so that their largest is 448. Masters, gradients' sums, and all that is no linear layer keep their formats.
// Letters: R rows, K columns, over which products add up; M, N rows of the two factors.
// Sources: Micikevicius et al., "FP8 formats for deep learning", arXiv:2209.05433; DeepSeek-V3, arXiv:2412.19437, section 3.3.

#include <cstdint>
#include <vector>

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

/// The transpose, without a cast: what to_fp8() makes of the transposed matrix where blocks are kTensor or k128x128, whose scales are the same.
Fp8Matrix transposed(const Fp8Matrix& x_RK);

/// In FP32.
at::Tensor from_fp8(const Fp8Matrix& x);

/// a · bᵀ in `type`. On GPUs by their FP8 units (at::_scaled_mm), which need K and N that are multiples of 16, and blocks of 128 that are
/// whole; on CPUs the same product in FP32.
at::Tensor fp8_product(const Fp8Matrix& a_MK, const Fp8Matrix& b_NK, at::ScalarType type);

/// at::linear without a bias in FP8, with a backward pass in FP8, of one x with each of `weights`, which are leaves [N, K]. Tensorwise has one scale a
/// matrix; Rowwise one for each row of both factors; Blockwise one for 1 × 128 of activations and their gradients, and for 128 × 128 of the weight. Each
/// product scales its factors along the dimension that it adds up over. A cast is passes over memory of its own: x is cast once in either pass for all
/// weights, and with Tensorwise a gradient for both of its products. The bits are those of a call for each weight, whose gradients of x autograd adds
/// up from the last to the first. `x` [..., K].
std::vector<at::Tensor> fp8_linear(const at::Tensor& x, const std::vector<at::Tensor>& weights, contract::Fp8Recipe recipe);

/// Its products, not differentiable. x · weightᵀ of each weight, in the type of x.
std::vector<at::Tensor> fp8_multiply(const at::Tensor& x, at::TensorList weights, contract::Fp8Recipe recipe);

/// A factor of the products of backward, as they add up over its columns, N or K, and over its rows, M.
struct Fp8Factor {
  Fp8Matrix along_columns, along_rows;  // the latter transposed
};
/// Of a gradient of an output. With `rows` false without along_rows.
Fp8Factor fp8_gradient(const at::Tensor& gradient_MN, contract::Fp8Recipe recipe, bool rows = true);
/// x for all gradients of weights: along its rows, transposed.
Fp8Matrix fp8_along_rows(const at::Tensor& x_MK, contract::Fp8Recipe recipe);
/// gradient · weight, and gradientᵀ · x.
at::Tensor fp8_gradient_of_input(const Fp8Factor& gradient, const at::Tensor& weight_NK, contract::Fp8Recipe recipe,
                                 at::ScalarType type);
at::Tensor fp8_gradient_of_weight(const Fp8Factor& gradient, const Fp8Matrix& x_KM, at::ScalarType type);

/// Throws contract::UserError (Fp8NotSupported) where the device is a GPU that has no such units.
void check_fp8(at::Device device, contract::Fp8Recipe recipe);

}  // namespace trainyard::model
