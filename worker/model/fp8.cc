#include "worker/model/fp8.h"

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

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight_NK, std::int64_t number) {
    context->save_for_backward({x});
    // Not as saved variable, of which a second run of a block would wait for the end of this product.
    context->saved_data["weight"] = weight_NK;
    context->saved_data["recipe"] = number;
    return fp8_multiply(x, weight_NK, static_cast<contract::Fp8Recipe>(number));
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0], weight_NK = context->saved_data["weight"].toTensor();
    const auto recipe = static_cast<contract::Fp8Recipe>(context->saved_data["recipe"].toInt());
    const at::Tensor gradient_MN = gradients[0].reshape({-1, weight_NK.size(0)}), x_MK = x.reshape({-1, x.size(-1)});
    const at::Tensor of_x = fp8_gradient_of_input(gradient_MN, weight_NK, recipe);
    return {of_x.reshape(x.sizes()), fp8_gradient_of_weight(gradient_MN, x_MK, recipe), {}};
  }
};

}  // namespace

Fp8Matrix to_fp8(const at::Tensor& x_RK, Fp8Blocks blocks) {
  const at::NoGradGuard no_grad;
  const at::Tensor parts = in_blocks(x_RK.to(at::kFloat), size_of(blocks, x_RK));
  // By a tensor: GPUs multiply with the reciprocal of a plain number instead.
  const at::Tensor largest = at::full({1}, kLargest, parts.options());
  const at::Tensor scales = parts.abs().amax({1, 3}, /*keepdim=*/true).clamp_min(kSmallestScaled).div(largest);
  const at::Tensor values = parts.div(scales).clamp(-kLargest, kLargest);  // the cast alone would make NaN of what is beyond
  return {.values_RK = out_of_blocks(values, x_RK.size(0), x_RK.size(1)).to(at::kFloat8_e4m3fn).contiguous(),
          .scales = scales.reshape({scales.size(0), scales.size(2)}),
          .blocks = blocks};
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

at::Tensor fp8_multiply(const at::Tensor& x, const at::Tensor& weight_NK, contract::Fp8Recipe recipe) {
  const Fp8Matrix x_MK = to_fp8(x.reshape({-1, x.size(-1)}), blocks_of_activations(recipe));
  auto sizes = x.sizes().vec();
  sizes.back() = weight_NK.size(0);
  // Not a view of the product, which whoever sums it over ranks in place could not change.
  return at::_unsafe_view(fp8_product(x_MK, to_fp8(weight_NK, blocks_of_weights(recipe)), x.scalar_type()), sizes);
}

at::Tensor fp8_gradient_of_input(const at::Tensor& gradient_MN, const at::Tensor& weight_NK, contract::Fp8Recipe recipe) {
  return fp8_product(to_fp8(gradient_MN, blocks_of_activations(recipe)), to_fp8(weight_NK.t(), blocks_of_weights(recipe)),
                     gradient_MN.scalar_type());
}

at::Tensor fp8_gradient_of_weight(const at::Tensor& gradient_MN, const at::Tensor& x_MK, contract::Fp8Recipe recipe) {
  const auto along = blocks_of_activations(recipe);
  return fp8_product(to_fp8(gradient_MN.t(), along), to_fp8(x_MK.t(), along), x_MK.scalar_type());
}

at::Tensor fp8_linear(const at::Tensor& x, const at::Tensor& weight_NK, contract::Fp8Recipe recipe) {
  keep_first(x);
  return Linear::apply(x, weight_NK, static_cast<std::int64_t>(recipe));
}

void check_fp8([[maybe_unused]] at::Device device, [[maybe_unused]] contract::Fp8Recipe recipe) {
#ifdef TRAINYARD_CUDA
  if (!device.is_cuda()) return;
  const auto* const properties = at::cuda::getDeviceProperties(device.index());
  const int capability = 10 * properties->major + properties->minor;
  const int needed = recipe == contract::Fp8Recipe::kBlockwise ? 90 : 89;  // Hopper; Ada
  if (capability >= needed) return;
  throw contract::UserError("Fp8NotSupported", "training.precision.compute FP8 with recipe " +
                                                   std::string(contract::name_of(recipe)) +
                                                   " needs a GPU of compute capability " + std::to_string(needed / 10) + "." +
                                                   std::to_string(needed % 10) + ", and " + properties->name + " has " +
                                                   std::to_string(properties->major) + "." + std::to_string(properties->minor) +
                                                   ": compute in BF16, or place the job on other GPUs");
#endif
}

}  // namespace trainyard::model
