#include "worker/model/head_loss.h"

#include <algorithm>

#include <torch/torch.h>

#ifdef TRAINYARD_CUDA
#include "worker/model/fused_kernels.h"
#endif

namespace trainyard::model {

#ifdef TRAINYARD_CUDA
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The gradients of a loss that is summed, in FP32.
struct Gradients {
  Gradients(const at::Tensor& x, const at::Tensor& weight)
      : x_ND(at::empty(x.sizes(), x.options().dtype(at::kFloat))),
        weight_VD(at::empty(weight.sizes(), x.options().dtype(at::kFloat))) {}
  at::Tensor x_ND, weight_VD;

  /// Adds what the tokens of a chunk give: rows [first, …) of x, and their logits' gradient.
  void add(std::int64_t first, const at::Tensor& d_logits_NV, const at::Tensor& x, const at::Tensor& weight) {
    at::Tensor rows = x_ND.narrow(0, first, x.size(0));
    const at::Tensor across = d_logits_NV.t();
    if (x.scalar_type() == at::kFloat) {
      at::mm_out(rows, d_logits_NV, weight);
      first == 0 ? at::mm_out(weight_VD, across, x) : weight_VD.addmm_(across, x);
    } else {
      at::mm_out(rows, d_logits_NV, weight, at::kFloat);
      first == 0 ? at::mm_out(weight_VD, across, x, at::kFloat) : at::addmm_out(weight_VD, weight_VD, across, x, at::kFloat);
    }
  }
};

at::Tensor chunked(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const contract::Loss& terms,
                   Gradients* gradients) {
  const std::int64_t count = x.size(0), chunk = loss_chunk(x.size(1));
  const at::Tensor losses = at::empty({count}, x.options().dtype(at::kFloat));
  for (std::int64_t first = 0; first < count; first += chunk) {
    const std::int64_t rows = std::min(chunk, count - first);
    const at::Tensor part = x.narrow(0, first, rows), logits = at::mm(part, weight.t());
    cross_entropy_on_gpu(logits, targets.narrow(0, first, rows), losses.narrow(0, first, rows), gradients != nullptr,
                         terms.labelSmoothing, terms.zLoss);
    if (gradients != nullptr) gradients->add(first, logits, part, weight);
  }
  return losses.sum();
}

struct HeadLoss : torch::autograd::Function<HeadLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets,
                            const contract::Loss& terms, bool in_backward) {
    context->saved_data["in backward"] = in_backward;
    if (in_backward) {
      context->save_for_backward({x, weight, targets});
      context->saved_data["smoothing"] = terms.labelSmoothing;
      context->saved_data["z"] = terms.zLoss;
      return chunked(x, weight, targets, terms, nullptr);
    }
    Gradients gradients(x, weight);
    const at::Tensor loss = chunked(x, weight, targets, terms, &gradients);
    context->save_for_backward({gradients.x_ND, gradients.weight_VD});
    context->saved_data["type"] = x.scalar_type();
    return loss;
  }
  static variable_list backward(AutogradContext* context, variable_list upstream) {
    const auto saved = context->get_saved_variables();
    if (!context->saved_data["in backward"].toBool()) {
      return scaled(saved[0], saved[1], context->saved_data["type"].toScalarType(), upstream[0]);
    }
    const at::NoGradGuard no_grad;
    Gradients gradients(saved[0], saved[1]);
    const contract::Loss terms{.labelSmoothing = context->saved_data["smoothing"].toDouble(),
                               .zLoss = context->saved_data["z"].toDouble()};
    chunked(saved[0], saved[1], saved[2], terms, &gradients);
    return scaled(gradients.x_ND, gradients.weight_VD, saved[0].scalar_type(), upstream[0]);
  }

 private:
  /// In FP32 and rounded once, in one pass.
  static variable_list scaled(const at::Tensor& x_ND, const at::Tensor& weight_VD, at::ScalarType type, const at::Tensor& by) {
    const auto times = [&](const at::Tensor& gradient) {
      at::Tensor out = at::empty(gradient.sizes(), gradient.options().dtype(type));
      return at::mul_out(out, gradient, by);
    };
    return {times(x_ND), times(weight_VD), {}, {}, {}};
  }
};

}  // namespace
#endif

namespace {

/// The value of one scalar with the gradient of another.
struct Shown : torch::autograd::Function<Shown> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& /*minimized*/, const at::Tensor& value) {
    return value.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0], {}};
  }
};

}  // namespace

at::Tensor head_loss(const at::Tensor& x, const at::Tensor& weight_VD, const at::Tensor& targets_N, const contract::Loss& terms,
                     [[maybe_unused]] bool in_backward) {
#ifdef TRAINYARD_CUDA
  // The fused kernel rounds the logits' gradient before the loss scale comes in: FP16 would make nothing of most classes of a large
  // vocabulary.
  if (x.is_cuda() && (x.scalar_type() != at::kHalf || !at::GradMode::is_enabled())) {
    const bool trains = at::GradMode::is_enabled() && (x.requires_grad() || weight_VD.requires_grad());
    const at::Tensor x_ND = x.flatten(0, -2).contiguous(), targets = targets_N.contiguous();
    return trains ? HeadLoss::apply(x_ND, weight_VD, targets, terms, in_backward)
                  : chunked(x_ND, weight_VD, targets, terms, nullptr);
  }
#endif
  return loss_of_logits(at::linear(x, weight_VD).flatten(0, -2).to(at::kFloat), targets_N, terms);
}

at::Tensor loss_of_logits(const at::Tensor& logits_NV, const at::Tensor& targets_N, const contract::Loss& terms) {
  if (terms == contract::Loss{} || !at::GradMode::is_enabled()) {
    return at::cross_entropy_loss(logits_NV, targets_N, {}, at::Reduction::Sum);
  }
  // As cross_entropy_loss() does it with label smoothing, operation by operation.
  const at::Tensor log_shares_NV = at::log_softmax(logits_NV, 1);
  const at::Tensor cross_entropy = at::nll_loss(log_shares_NV, targets_N, {}, at::Reduction::Sum);
  at::Tensor minimized = cross_entropy;
  if (terms.labelSmoothing > 0) {
    const auto classes = static_cast<double>(logits_NV.size(1));
    minimized = (1 - terms.labelSmoothing) * cross_entropy + (-log_shares_NV.sum(1)).sum() * (terms.labelSmoothing / classes);
  }
  if (terms.zLoss > 0) minimized = minimized + logits_NV.logsumexp(1).square().sum() * terms.zLoss;
  return Shown::apply(minimized, cross_entropy.detach());
}

}  // namespace trainyard::model
