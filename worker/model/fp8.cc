#include "worker/model/fp8.h"

#include <limits>
#include <utility>

#include <ATen/BlasBackend.h>
#include <torch/torch.h>
#ifdef TRAINYARD_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

#include "crds/contract/user_error.h"
#include "worker/model/recompute.h"

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLargest = 448.0, kSmallestScaled = 1e-4;
constexpr std::int64_t kBlock = 128;

struct BlockSize {
  std::int64_t rows = 1, columns = 1;
};
BlockSize size_of(Fp8Blocks blocks, const at::Tensor& x_RK) {
  switch (blocks) {
    case Fp8Blocks::kTensor: return {.rows = x_RK.size(0), .columns = x_RK.size(1)};
    case Fp8Blocks::kRow: return {.rows = 1, .columns = x_RK.size(1)};
    case Fp8Blocks::k1x128: return {.rows = 1, .columns = kBlock};
    case Fp8Blocks::k128x128: break;
  }
  return {.rows = kBlock, .columns = kBlock};
}

/// [blocks down, rows of one, blocks across, columns of one] of a matrix that is filled up with zeros to whole blocks.
at::Tensor in_blocks(const at::Tensor& x_RK, const BlockSize& block) {
  const auto missing = [](std::int64_t size, std::int64_t of) { return (of - size % of) % of; };
  const std::int64_t rows = missing(x_RK.size(0), block.rows), columns = missing(x_RK.size(1), block.columns);
  const at::Tensor whole = rows + columns == 0 ? x_RK : at::constant_pad_nd(x_RK, {0, columns, 0, rows});
  return whole.reshape({whole.size(0) / block.rows, block.rows, whole.size(1) / block.columns, block.columns});
}

/// Back to [R, K].
at::Tensor out_of_blocks(const at::Tensor& blocks, std::int64_t rows, std::int64_t columns) {
  const at::Tensor whole = blocks.reshape({blocks.size(0) * blocks.size(1), blocks.size(2) * blocks.size(3)});
  return whole.narrow(0, 0, rows).narrow(1, 0, columns);
}

Fp8Blocks blocks_of_activations(contract::Fp8Recipe recipe) {
  switch (recipe) {
    case contract::Fp8Recipe::kTensorwise: return Fp8Blocks::kTensor;
    case contract::Fp8Recipe::kRowwise: return Fp8Blocks::kRow;
    case contract::Fp8Recipe::kBlockwise: break;
  }
  return Fp8Blocks::k1x128;
}
Fp8Blocks blocks_of_weights(contract::Fp8Recipe recipe) {
  return recipe == contract::Fp8Recipe::kBlockwise ? Fp8Blocks::k128x128 : blocks_of_activations(recipe);
}

/// The scales of a factor as cuBLASLt reads those of blocks of 128: for 1 × 128 column after column; for 128 × 128 the columns' number is
/// filled up to a multiple of 4, and row after row.
at::Tensor scales_for_gpu(const Fp8Matrix& x) {
  if (x.blocks == Fp8Blocks::k1x128) return x.scales.t().contiguous().t();
  const std::int64_t missing = (4 - x.scales.size(1) % 4) % 4;
  return (missing == 0 ? x.scales : at::constant_pad_nd(x.scales, {0, missing})).contiguous().t();
}

at::Tensor product_in_blocks(const Fp8Matrix& a_MK, const Fp8Matrix& b_NK, at::ScalarType type) {
  const auto recipe = [](const Fp8Matrix& x) {
    const auto scaling =
        x.blocks == Fp8Blocks::k1x128 ? at::blas::ScalingType::BlockWise1x128 : at::blas::ScalingType::BlockWise128x128;
    return static_cast<std::int64_t>(scaling);
  };
  constexpr auto kPlain = static_cast<std::int64_t>(at::blas::SwizzleType::NO_SWIZZLE);
  return at::_scaled_mm_v2(a_MK.values_RK, b_NK.values_RK.t(), {scales_for_gpu(a_MK)}, {recipe(a_MK)}, {kPlain},
                           {scales_for_gpu(b_NK)}, {recipe(b_NK)}, {kPlain}, {}, type);
}

struct Fp8Linear : torch::autograd::Function<Fp8Linear> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, at::TensorList weights, std::int64_t number) {
    context->save_for_backward({x});
    // Not as saved variables, of which a second run of a block would wait for the end of these products.
    context->saved_data["weights"] = weights.vec();
    context->saved_data["recipe"] = number;
    return fp8_multiply(x, weights, static_cast<contract::Fp8Recipe>(number));
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0];
    const auto weights = context->saved_data["weights"].toTensorVector();
    const auto recipe = static_cast<contract::Fp8Recipe>(context->saved_data["recipe"].toInt());
    const Fp8Matrix x_KM = fp8_along_rows(x.reshape({-1, x.size(-1)}), recipe);
    variable_list out(1 + weights.size() + 1);
    at::Tensor of_x;
    for (std::size_t i = weights.size(); i-- > 0;) {
      const Fp8Factor gradient = fp8_gradient(gradients[i].reshape({-1, weights[i].size(0)}), recipe);
      at::Tensor of_one = fp8_gradient_of_input(gradient, weights[i], recipe, gradients[i].scalar_type());
      of_x = of_x.defined() ? of_x.add_(of_one) : std::move(of_one);
      out[1 + i] = fp8_gradient_of_weight(gradient, x_KM, x.scalar_type());
      gradients[i].reset();
    }
    out[0] = of_x.reshape(x.sizes());
    return out;
  }
};

}  // namespace

// Each operation is a pass over memory: the largest is found, and the quotient made, from the numbers as they come, without an FP32 copy of them.
// Quotients need not be cut: at most an ulp or two beyond 448 they are rounded to it, and only 464 and more would become NaN.
Fp8Matrix to_fp8(const at::Tensor& x_RK, Fp8Blocks blocks) {
  const at::NoGradGuard no_grad;
  const at::Tensor parts = in_blocks(x_RK, size_of(blocks, x_RK));
  const at::Tensor most =
      at::linalg_vector_norm(parts, std::numeric_limits<double>::infinity(), at::IntArrayRef{1, 3}, /*keepdim=*/true);
  // By a tensor: GPUs multiply with the reciprocal of a plain number instead.
  const at::Tensor largest = at::full({1}, kLargest, most.options().dtype(at::kFloat));
  const at::Tensor scales = most.to(at::kFloat).clamp_min(kSmallestScaled).div(largest);
  const at::Tensor values = at::div(parts, scales);
  return {.values_RK = out_of_blocks(values, x_RK.size(0), x_RK.size(1)).to(at::kFloat8_e4m3fn).contiguous(),
          .scales = scales.reshape({scales.size(0), scales.size(2)}),
          .blocks = blocks};
}

Fp8Matrix transposed(const Fp8Matrix& x_RK) {
  TORCH_CHECK(x_RK.blocks == Fp8Blocks::kTensor || x_RK.blocks == Fp8Blocks::k128x128,
              "FP8: rows have scales of their own, and the transpose has others");
  return {.values_RK = x_RK.values_RK.t().contiguous(), .scales = x_RK.scales.t().contiguous(), .blocks = x_RK.blocks};
}

at::Tensor from_fp8(const Fp8Matrix& x) {
  const at::Tensor parts = in_blocks(x.values_RK.to(at::kFloat), size_of(x.blocks, x.values_RK));
  const at::Tensor scales = x.scales.reshape({x.scales.size(0), 1, x.scales.size(1), 1});
  return out_of_blocks(parts.mul(scales), x.values_RK.size(0), x.values_RK.size(1));
}

at::Tensor fp8_product(const Fp8Matrix& a_MK, const Fp8Matrix& b_NK, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  if (!a_MK.values_RK.is_cuda()) return from_fp8(a_MK).matmul(from_fp8(b_NK).t()).to(type);
  switch (a_MK.blocks) {
    case Fp8Blocks::kTensor:
      return at::_scaled_mm(a_MK.values_RK, b_NK.values_RK.t(), a_MK.scales.reshape({}), b_NK.scales.reshape({}), {}, {}, type);
    case Fp8Blocks::kRow: return at::_scaled_mm(a_MK.values_RK, b_NK.values_RK.t(), a_MK.scales, b_NK.scales.t(), {}, {}, type);
    case Fp8Blocks::k1x128:
    case Fp8Blocks::k128x128: break;
  }
  return product_in_blocks(a_MK, b_NK, type);
}

std::vector<at::Tensor> fp8_multiply(const at::Tensor& x, at::TensorList weights, contract::Fp8Recipe recipe) {
  const Fp8Matrix x_MK = to_fp8(x.reshape({-1, x.size(-1)}), blocks_of_activations(recipe));
  std::vector<at::Tensor> out;
  for (const auto& weight_NK : weights) {
    auto sizes = x.sizes().vec();
    sizes.back() = weight_NK.size(0);
    // Not a view of the product, which whoever sums it over ranks in place could not change.
    out.push_back(at::_unsafe_view(fp8_product(x_MK, to_fp8(weight_NK, blocks_of_weights(recipe)), x.scalar_type()), sizes));
  }
  return out;
}

Fp8Factor fp8_gradient(const at::Tensor& gradient_MN, contract::Fp8Recipe recipe, bool rows) {
  Fp8Factor out{.along_columns = to_fp8(gradient_MN, blocks_of_activations(recipe)), .along_rows = {}};
  if (!rows) return out;
  out.along_rows =
      recipe == contract::Fp8Recipe::kTensorwise ? transposed(out.along_columns) : fp8_along_rows(gradient_MN, recipe);
  return out;
}

Fp8Matrix fp8_along_rows(const at::Tensor& x_MK, contract::Fp8Recipe recipe) {
  return to_fp8(x_MK.t(), blocks_of_activations(recipe));
}

at::Tensor fp8_gradient_of_input(const Fp8Factor& gradient, const at::Tensor& weight_NK, contract::Fp8Recipe recipe,
                                 at::ScalarType type) {
  return fp8_product(gradient.along_columns, to_fp8(weight_NK.t(), blocks_of_weights(recipe)), type);
}

at::Tensor fp8_gradient_of_weight(const Fp8Factor& gradient, const Fp8Matrix& x_KM, at::ScalarType type) {
  return fp8_product(gradient.along_rows, x_KM, type);
}

std::vector<at::Tensor> fp8_linear(const at::Tensor& x, const std::vector<at::Tensor>& weights, contract::Fp8Recipe recipe) {
  keep_first(x);
  return Fp8Linear::apply(x, at::TensorList(weights), static_cast<std::int64_t>(recipe));
}

void check_fp8([[maybe_unused]] at::Device device, [[maybe_unused]] contract::Fp8Recipe recipe) {
#ifdef TRAINYARD_CUDA
  if (!device.is_cuda()) return;
  const auto* const properties = at::cuda::getDeviceProperties(device.index());
  const int capability = 10 * properties->major + properties->minor;
  const int needed = recipe == contract::Fp8Recipe::kBlockwise ? 90 : 89;  // Hopper; Ada
  if (capability >= needed) return;
  throw contract::UserError("Fp8NotSupported", "spec.training.precision.compute FP8 with recipe " +
                                                   std::string(contract::name_of(recipe)) +
                                                   " needs a GPU of compute capability " + std::to_string(needed / 10) + "." +
                                                   std::to_string(needed % 10) + ", and " + properties->name + " has " +
                                                   std::to_string(properties->major) + "." + std::to_string(properties->minor) +
                                                   ": compute in BF16, or place the job on other GPUs");
#endif
}

}  // namespace trainyard::model
