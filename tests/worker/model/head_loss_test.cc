#include "worker/model/head_loss.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace trainyard::model {
namespace {

at::Tensor sines(const std::vector<std::int64_t>& shape, double phase) {
  return at::arange(at::empty(shape).numel(), at::kFloat).mul(0.37).add(phase).sin().mul(3).view(shape);
}

struct Case {
  contract::Loss terms;
  const char* name;
};
const Case kCases[] = {{{}, "none"},
                       {{.labelSmoothing = 0.1}, "label smoothing"},
                       {{.labelSmoothing = 0.0, .zLoss = 1e-2}, "z-loss"},
                       {{.labelSmoothing = 0.2, .zLoss = 1e-2}, "both"}};

TEST(HeadLoss, HasTheGradientOfPyTorchsFunctionsAndTheValueOfTheCrossEntropyAlone) {
  const at::Tensor targets = at::tensor({0, 9, 4, 4, 7, 1}, at::kLong);
  for (const auto& [terms, name] : kCases) {
    const at::Tensor x = sines({6, 8}, 0).requires_grad_(), weight = sines({10, 8}, 1).requires_grad_();
    const at::Tensor again = x.detach().clone().requires_grad_(), weight_again = weight.detach().clone().requires_grad_();
    const at::Tensor logits = at::linear(again, weight_again);
    const at::Tensor wanted = at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum, -100, terms.labelSmoothing) +
                              (terms.zLoss > 0 ? logits.logsumexp(1).square().sum() * terms.zLoss : at::zeros({}));
    (wanted / 6).backward();
    const at::Tensor found = head_loss(x, weight, targets, terms);
    (found / 6).backward();
    EXPECT_TRUE(at::equal(x.grad(), again.grad())) << name;
    EXPECT_TRUE(at::equal(weight.grad(), weight_again.grad())) << name;
    EXPECT_EQ(found.item<float>(), at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum).item<float>()) << name;
    const at::NoGradGuard no_grad;
    EXPECT_EQ(head_loss(x, weight, targets, terms).item<float>(), found.item<float>()) << name;
  }
}

TEST(HeadLoss, OfLogitsIsTheFormulaThatItsHeaderHas) {
  const at::Tensor targets = at::tensor({2, 0, 4}, at::kLong);
  for (const auto& [terms, name] : kCases) {
    const at::Tensor logits = sines({3, 5}, 2).requires_grad_();
    loss_of_logits(logits, targets, terms).backward();
    const at::Tensor shares = at::softmax(logits.detach(), 1), log_sum = logits.detach().logsumexp(1, true);
    const at::Tensor wanted = shares * (1 + 2 * terms.zLoss * log_sum) -
                              (1 - terms.labelSmoothing) * at::one_hot(targets, 5).to(at::kFloat) - terms.labelSmoothing / 5;
    EXPECT_TRUE(at::allclose(logits.grad(), wanted, 1e-5, 1e-6)) << name;
  }
}

}  // namespace
}  // namespace trainyard::model
