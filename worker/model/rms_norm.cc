#include "worker/model/rms_norm.h"

#include <torch/torch.h>

#ifdef TRAINYARD_CUDA
#include "worker/model/fused_kernels.h"
#endif

namespace trainyard::model {

#ifdef TRAINYARD_CUDA
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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

}  // namespace
#endif

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight_D, double epsilon) {
#ifdef TRAINYARD_CUDA
  if (can_norm_on_gpu(x)) return RmsNorm::apply(for_kernels(x), for_kernels(weight_D), epsilon);
#endif
  return at::rms_norm(x, {x.size(-1)}, weight_D, epsilon);
}

}  // namespace trainyard::model
