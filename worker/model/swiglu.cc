#include "worker/model/swiglu.h"

#include <torch/torch.h>

#ifdef TRAINYARD_CUDA
#include "worker/model/fused_kernels.h"
#endif

namespace trainyard::model {

#ifdef TRAINYARD_CUDA
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SwiGlu : torch::autograd::Function<SwiGlu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    context->save_for_backward({gate, up});
    at::Tensor out = at::empty_like(gate);
    swiglu_forward_on_gpu(gate, up, out);
    return out;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    at::Tensor d_gate = at::empty_like(saved[0]), d_up = at::empty_like(saved[0]);
    swiglu_backward_on_gpu(saved[0], saved[1], for_kernels(gradients[0]), d_gate, d_up);
    return {d_gate, d_up};
  }
};

}  // namespace
#endif

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
#ifdef TRAINYARD_CUDA
  if (gate.is_cuda()) return SwiGlu::apply(for_kernels(gate), for_kernels(up));
#endif
  return at::silu(gate) * up;
}

}  // namespace trainyard::model
