#include "worker/optim/adamw.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>

#ifdef TRAINYARD_CUDA
#include "worker/optim/adamw_kernels.h"
#endif

namespace trainyard::optim {

AdamW::AdamW(contract::Optimizer options, std::vector<Trained> trained) : options_(options), trained_(std::move(trained)) {
  for (const auto& [master, decays, weight] : trained_) {
    averages_.push_back(at::zeros_like(master));
    squares_.push_back(at::zeros_like(master));
  }
}

bool AdamW::writes_weights() const {
  return std::all_of(trained_.begin(), trained_.end(),
                     [](const Trained& each) { return each.master.is_cuda() && each.weight.defined(); });
}

void AdamW::step(const std::vector<at::Tensor>& gradients, double learning_rate, double gradient_scale) {
  const at::NoGradGuard no_grad;
  ++steps_;
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    if (trained_[i].master.is_cuda()) {
      step_by_kernel(i, gradients[i], learning_rate, gradient_scale);
    } else {
      if (gradient_scale != 1.0) at::Tensor(gradients[i]).mul_(gradient_scale);
      step_by_operations(i, gradients[i], learning_rate);
    }
  }
}

double AdamW::correction(double beta) const { return 1.0 - std::pow(beta, static_cast<double>(steps_)); }

void AdamW::step_by_operations(std::size_t i, const at::Tensor& gradient, double learning_rate) {
  const double step_size = learning_rate / correction(options_.beta1),
               correction2_root = std::pow(correction(options_.beta2), 0.5);
  at::Tensor& master = trained_[i].master;
  if (trained_[i].decays && options_.weightDecay != 0.0) master.mul_(1.0 - learning_rate * options_.weightDecay);
  averages_[i].lerp_(gradient, 1.0 - options_.beta1);
  squares_[i].mul_(options_.beta2).addcmul_(gradient, gradient, 1.0 - options_.beta2);
  const at::Tensor denominator = squares_[i].sqrt().div_(correction2_root).add_(options_.epsilon);
  master.addcdiv_(averages_[i], denominator, -step_size);
}

void AdamW::step_by_kernel([[maybe_unused]] std::size_t i, [[maybe_unused]] const at::Tensor& gradient,
                           [[maybe_unused]] double learning_rate, [[maybe_unused]] double gradient_scale) {
#ifdef TRAINYARD_CUDA
  AdamWNumbers numbers = adamw_numbers(options_, steps_, learning_rate, trained_[i].decays);
  numbers.gradient_scale = static_cast<float>(gradient_scale);
  adamw_step_on_gpu({trained_[i].master, averages_[i], squares_[i], gradient.contiguous(), trained_[i].weight}, numbers);
#endif
}

AdamWNumbers adamw_numbers(const contract::Optimizer& options, std::int64_t step, double learning_rate, bool decays) {
  const double correction1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  AdamWNumbers numbers;
  if (decays) numbers.decay = static_cast<float>(1.0 - learning_rate * options.weightDecay);
  numbers.average_weight = static_cast<float>(1.0 - options.beta1);
  numbers.square_decay = static_cast<float>(options.beta2);
  numbers.square_weight = static_cast<float>(1.0 - options.beta2);
  numbers.correction_root = static_cast<float>(std::sqrt(correction2));
  numbers.epsilon = static_cast<float>(options.epsilon);
  numbers.step_size = static_cast<float>(learning_rate / correction1);
  return numbers;
}

}  // namespace trainyard::optim
