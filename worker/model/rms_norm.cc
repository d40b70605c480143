#include "worker/model/rms_norm.h"

#include <cmath>

#include <ATen/ExpandUtils.h>
#include <ATen/TensorIterator.h>
#include <torch/torch.h>

#ifdef TRAINYARD_CUDA
#include "worker/model/fused_kernels.h"
#endif

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Whether plain loops are the fastest way on a CPU: in FP32, of tensors so small that calls are what takes the time and LibTorch's own loops
/// are one thread's. Larger ones its vectors of the processor's whole width go through faster.
bool can_norm_by_loops(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && x.is_contiguous() &&
         weight.is_contiguous() && x.numel() <= at::internal::GRAIN_SIZE;
}

/// What at::rms_norm and its graph compute on a CPU, bit for bit: sums are LibTorch's own, since their order is, and everything between them,
/// twenty calls, is a few loops that round where it does. It keeps the same tensors. x is an input twice: its gradient comes in two parts,
/// which autograd adds to those of x's other uses one after the other.
struct SmallRmsNorm : torch::autograd::Function<SmallRmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& /*again*/, const at::Tensor& weight,
                            double epsilon) {
    const std::int64_t width = x.size(-1), rows = x.numel() / width;
    const at::Tensor scaled = at::empty_like(x);
    at::Tensor out = at::empty_like(x);
    const float* const in = x.const_data_ptr<float>();
    const float* const w = weight.const_data_ptr<float>();
    auto* const s = scaled.data_ptr<float>();
    auto* const y = out.data_ptr<float>();
    for (std::int64_t i = 0; i < rows * width; ++i) s[i] = in[i] * in[i];
    const at::Tensor inverse = at::sum(scaled, -1, /*keepdim=*/true);
    auto* const inverses = inverse.data_ptr<float>();
    for (std::int64_t row = 0; row < rows; ++row) {
      const float mean = inverses[row] / static_cast<float>(width);
      const float r = inverses[row] = 1.0F / std::sqrt(mean + static_cast<float>(epsilon));
      for (std::int64_t i = row * width, column = 0; column < width; ++i, ++column) {
        s[i] = in[i] * r;
        y[i] = s[i] * w[column];
      }
    }
    context->save_for_backward({x, inverse, scaled, weight});
    return out;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[3], gradient = gradients[0].contiguous();
    const std::int64_t width = x.size(-1), rows = x.numel() / width;
    const at::Tensor by_scaled = at::empty_like(x), by_mean = at::empty_like(x);
    const float *const in = x.const_data_ptr<float>(), *const r = saved[1].const_data_ptr<float>();
    const float *const s = saved[2].const_data_ptr<float>(), *const w = weight.const_data_ptr<float>();
    const auto* const g = gradient.const_data_ptr<float>();
    float *const first = by_scaled.data_ptr<float>(), *const second = by_mean.data_ptr<float>();
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = row * width, column = 0; column < width; ++i, ++column) {
        first[i] = g[i] * s[i];
        second[i] = (g[i] * w[column]) * in[i];
      }
    }
    const at::Tensor d_weight = at::sum_to(by_scaled, weight.sizes()), d_inverse = at::sum(by_mean, -1, /*keepdim=*/true);
    const auto* const d_r = d_inverse.const_data_ptr<float>();
    for (std::int64_t row = 0; row < rows; ++row) {
      const float d_mean = (-0.5F * d_r[row]) * ((r[row] * r[row]) * r[row]) / static_cast<float>(width);
      for (std::int64_t i = row * width, column = 0; column < width; ++i, ++column) {
        first[i] = (g[i] * w[column]) * r[row];
        second[i] = d_mean * (2.0F * in[i]);
      }
    }
    return {by_scaled, by_mean, d_weight, {}};
  }
};

#ifdef TRAINYARD_CUDA
struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double epsilon) {
    const at::Tensor x_ND = x.reshape({-1, x.size(-1)}), inverse_N = at::empty({x_ND.size(0)}, x.options().dtype(at::kFloat));
    at::Tensor out = at::empty_like(x);
    rms_norm_forward_on_gpu(x_ND, weight, epsilon, out.view(x_ND.sizes()), inverse_N);
    context->save_for_backward({x, weight, inverse_N});
    return out;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor x_ND = x.reshape({-1, x.size(-1)}), gradient_ND = for_kernels(gradients[0]).view(x_ND.sizes());
    at::Tensor d_x = at::empty_like(x);
    const std::int64_t groups = (x_ND.size(0) + kNormRows - 1) / kNormRows;
    const at::Tensor d_weight_GD = at::empty({groups, x.size(-1)}, x.options().dtype(at::kFloat));
    rms_norm_backward_on_gpu(x_ND, saved[1], saved[2], gradient_ND, d_x.view(x_ND.sizes()), d_weight_GD);
    return {d_x, d_weight_GD.sum(0).to(saved[1].scalar_type()), {}};
  }
};
#endif

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight_D, double epsilon) {
#ifdef TRAINYARD_CUDA
  if (can_norm_on_gpu(x)) return RmsNorm::apply(for_kernels(x), for_kernels(weight_D), epsilon);
#endif
  if (can_norm_by_loops(x, weight_D)) return SmallRmsNorm::apply(x, x, weight_D, epsilon);
  return at::rms_norm(x, {x.size(-1)}, weight_D, epsilon);
}

}  // namespace trainyard::model
