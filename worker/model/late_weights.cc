#include "worker/model/late_weights.h"

#include <torch/torch.h>

#include "worker/model/sequence_parallel.h"

namespace trainyard::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Address : torch::CustomClassHolder {
  explicit Address(LateWeights* address) : late(address) {}
  LateWeights* late;
};

// The products below are those of autograd's own formulas for the matrix product, with the same operands in the same order of memory.
struct LinearWithLateWeight : torch::autograd::Function<LinearWithLateWeight> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight_NK, LateWeights* late) {
    context->save_for_backward({x});
    context->saved_data["weight"] =
        weight_NK;  // not as saved variable: that might be packed away, and come back as another tensor
    context->saved_data["late"] = c10::IValue::make_capsule(c10::make_intrusive<Address>(late));
    return at::linear(x, weight_NK);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0], weight_NK = context->saved_data["weight"].toTensor();
    const at::Tensor gradient_MN = gradients[0].reshape({-1, weight_NK.size(0)});
    c10::static_intrusive_pointer_cast<Address>(context->saved_data["late"].toCapsule())
        ->late->keep({.weight_NK = weight_NK, .gradient_MN = gradient_MN, .x_MK = x.reshape({-1, weight_NK.size(1)})});
    return {gradient_MN.mm(weight_NK).reshape(x.sizes()), {}, {}};
  }
};

}  // namespace

at::Tensor LateWeights::linear(const at::Tensor& x, const at::Tensor& weight_NK) {
  return LinearWithLateWeight::apply(x, weight_NK, this);
}

void LateWeights::finish(std::vector<Product> products) {
  const at::NoGradGuard no_grad;
  at::Tensor shard, whole;
  for (auto& [weight_NK, gradient_MN, x_MK, shared_among] : products) {
    if (!x_MK.is_same(shard)) {
      shard = x_MK;
      whole = shared_among == nullptr ? x_MK : gathered(x_MK, *shared_among);
    }
    const at::Tensor gradient_NK = gradient_MN.t().mm(whole);
    at::Tensor& sum = weight_NK.mutable_grad();
    sum = sum.defined() ? sum + gradient_NK : gradient_NK;
    gradient_MN.reset();
    x_MK.reset();
  }
}

}  // namespace trainyard::model
