#include "worker/model/rotary.h"

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
