#include "worker/model/rotary.h"

#include <ATen/TensorIterator.h>
#include <torch/torch.h>

#ifdef TRAINYARD_CUDA
#include "worker/model/fused_kernels.h"
#endif

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// (first half, second half) -> (second half, first half) of the last dimension, without autograd.
at::Tensor swap_halves(const at::Tensor& x) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[1], halves[0]}, -1);
}

/// Whether a plain loop is the fastest way on a CPU: in FP32, each head's numbers side by side, of tensors so small that calls are what takes
/// the time and LibTorch's own loops are one thread's.
bool can_rotate_by_a_loop(const at::Tensor& x, const at::Tensor& cosine) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && cosine.scalar_type() == at::kFloat && x.dim() == 4 && x.stride(3) == 1 &&
         x.is_non_overlapping_and_dense() && cosine.is_contiguous() && x.numel() <= at::internal::GRAIN_SIZE;
}

/// What the operations below compute, each rounding where they do, in one pass instead of six calls: where models are small, calls are what
/// takes the time. [B, N, T, H] of any order in memory, which the result has too.
at::Tensor turned_by_a_loop(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine, bool back) {
  at::Tensor out = at::empty_like(x);
  const std::int64_t tokens = x.size(2), width = x.size(3), half = width / 2;
  for (std::int64_t row = 0; row < x.size(0) * x.size(1); ++row) {
    const std::int64_t b = row / x.size(1), n = row % x.size(1);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float* const in = x.const_data_ptr<float>() + b * x.stride(0) + n * x.stride(1) + t * x.stride(2);
      float* const to = out.data_ptr<float>() + b * out.stride(0) + n * out.stride(1) + t * out.stride(2);
      const float* const c = cosine.const_data_ptr<float>() + t * width;
      const float* const s = sine.const_data_ptr<float>() + t * width;
      const float* const low = back ? s + half : s;  // the sine that goes with the first half of the result
      const float* const high = back ? s : s + half;
      for (std::int64_t i = 0; i < half; ++i) {
        to[i] = in[i] * c[i] + in[i + half] * low[i];
        to[i + half] = in[i + half] * c[i + half] + in[i] * high[i];
      }
    }
  }
  return out;
}

/// The map forward, or with `back` its transpose.
at::Tensor turned(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine, bool back) {
#ifdef TRAINYARD_CUDA
  // Heads lie beside each other in memory, as projections leave them and attention takes them.
  if (can_rotate_on_gpu(x)) {
    const at::Tensor x_BTNH = for_kernels(x.transpose(1, 2));
    at::Tensor out_BTNH = at::empty_like(x_BTNH);
    rotate_on_gpu(x_BTNH, cosine, sine, out_BTNH, back);
    return out_BTNH.transpose(1, 2);
  }
#endif
  if (can_rotate_by_a_loop(x, cosine)) return turned_by_a_loop(x, cosine, sine, back);
  return (x * cosine).add_(back ? swap_halves(x * sine) : swap_halves(x).mul_(sine));
}

// As one node of the graph: the pieces of the formula would each keep their inputs, and backward would be twice as long.
struct Rotate : torch::autograd::Function<Rotate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
    context->save_for_backward({cosine, sine});
    return turned(x, cosine, sine, false);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    return {turned(gradients[0], saved[0], saved[1], true), {}, {}};
  }
};

}  // namespace

RotaryTable rotary_table(std::int64_t tokens, std::int64_t head_width, double theta, const at::TensorOptions& options) {
  const at::NoGradGuard no_grad;
  const auto full = options.dtype(at::kFloat);
  const at::Tensor exponents = at::arange(0, head_width, 2, full) / static_cast<double>(head_width);
  const at::Tensor frequencies = 1.0 / at::pow(at::Scalar(theta), exponents);
  const at::Tensor angles = at::outer(at::arange(0, tokens, full), frequencies);
  const at::Tensor cosine = angles.cos(), sine = angles.sin();
  return {.cosine_TH = at::cat({cosine, cosine}, -1).to(options.dtype()),
          .sine_TH = at::cat({-sine, sine}, -1).to(options.dtype())};
}

at::Tensor rotate(const at::Tensor& x_BNTH, const RotaryTable& table) {
  return Rotate::apply(x_BNTH, table.cosine_TH, table.sine_TH);
}

}  // namespace trainyard::model
