#include "worker/model/rotary.h"

#include <torch/torch.h>

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// (first half, second half) -> (second half, first half) of the last dimension, without autograd.
at::Tensor swap_halves(const at::Tensor& x) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[1], halves[0]}, -1);
}

// As one node of the graph: the pieces of the formula would each keep their inputs, and backward would be twice as long.
struct Rotate : torch::autograd::Function<Rotate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
    context->save_for_backward({cosine, sine});
    return (x * cosine).add_(swap_halves(x).mul_(sine));
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    return {(gradients[0] * saved[0]).add_(swap_halves(gradients[0] * saved[1])), {}, {}};
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
