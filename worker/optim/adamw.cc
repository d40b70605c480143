#include "worker/optim/adamw.h"

#include <cmath>

#include <ATen/core/grad_mode.h>

namespace trainyard::optim {

AdamW::AdamW(contract::Optimizer options, std::vector<Trained> trained) : options_(options), trained_(std::move(trained)) {
  for (const auto& [master, decays] : trained_) {
    averages_.push_back(at::zeros_like(master));
    squares_.push_back(at::zeros_like(master));
  }
}

void AdamW::step(const std::vector<at::Tensor>& gradients, double learning_rate) {
  const at::NoGradGuard no_grad;
  ++steps_;
  const double beta1 = options_.beta1, beta2 = options_.beta2;
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(steps_));
  const double correction2 = 1.0 - std::pow(beta2, static_cast<double>(steps_));
  const double step_size = learning_rate / correction1, correction2_root = std::pow(correction2, 0.5);
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    at::Tensor& master = trained_[i].master;
    if (trained_[i].decays && options_.weightDecay != 0.0) master.mul_(1.0 - learning_rate * options_.weightDecay);
    averages_[i].lerp_(gradients[i], 1.0 - beta1);
    squares_[i].mul_(beta2).addcmul_(gradients[i], gradients[i], 1.0 - beta2);
    const at::Tensor denominator = squares_[i].sqrt().div_(correction2_root).add_(options_.epsilon);
    master.addcdiv_(averages_[i], denominator, -step_size);
  }
}

}  // namespace trainyard::optim
