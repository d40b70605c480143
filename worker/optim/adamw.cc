#include "worker/optim/adamw.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>

#include "worker/optim/adamw_on_cpu.h"
#include "worker/optim/offloaded_adamw.h"

#ifdef TRAINYARD_CUDA
#include "worker/optim/adamw_kernels.h"
#endif

namespace trainyard::optim {

AdamW::AdamW(contract::Optimizer options, std::vector<Trained> trained, at::ScalarType states)
    : options_(options), trained_(std::move(trained)) {
  for (const auto& each : trained_) {
    averages_.push_back(at::zeros_like(each.master, states));
    squares_.push_back(at::zeros_like(each.master, states));
  }
}

AdamW::AdamW(contract::Optimizer options, std::vector<Trained> trained, const HostSide& host, at::ScalarType states)
    : options_(options), trained_(std::move(trained)) {
  std::vector<at::Tensor> masters;
  at::ScalarType weight_type = at::kFloat;
  for (const auto& each : trained_) {
    averages_.push_back(host.link->memory(each.master.sizes(), states).zero_());
    squares_.push_back(host.link->memory(each.master.sizes(), states).zero_());
    masters.push_back(each.master);
    if (each.weight.defined()) weight_type = each.weight.scalar_type();
  }
  offloaded_ = std::make_unique<OffloadedAdamW>(*host.link, masters, weight_type, host.weights);
}

AdamW::~AdamW() = default;
AdamW::AdamW(AdamW&&) noexcept = default;

bool AdamW::writes_weights() const {
  return offloaded_ || std::all_of(trained_.begin(), trained_.end(),
                                   [](const Trained& each) { return each.master.is_cuda() && each.weight.defined(); });
}

void AdamW::step(const std::vector<at::Tensor>& gradients, double learning_rate, double gradient_scale) {
  const at::NoGradGuard no_grad;
  ++steps_;
  std::vector<AdamWTensors> tensors;
  std::vector<AdamWNumbers> numbers;
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    tensors.push_back(tensors_of(i, gradients[i]));
    numbers.push_back(adamw_numbers(options_, steps_, learning_rate, trained_[i].decays));
    numbers.back().gradient_scale = static_cast<float>(gradient_scale);
  }
  if (offloaded_) return offloaded_->step(tensors, numbers);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
#ifdef TRAINYARD_CUDA
    if (tensors[i].master.is_cuda()) {
      adamw_step_on_gpu(tensors[i], numbers[i]);
      continue;
    }
#endif
    tensors[i].weight.reset();
    adamw_step_on_cpu(tensors[i], numbers[i]);
  }
}

/// The CPU takes gradients of any strides, and scales them where they are.
AdamWTensors AdamW::tensors_of(std::size_t i, const at::Tensor& gradient) const {
  const bool anywhere = trained_[i].master.is_cpu() && !offloaded_;
  return {.master = trained_[i].master,
          .average = averages_[i],
          .square = squares_[i],
          .gradient = anywhere ? gradient : gradient.contiguous(),
          .weight = trained_[i].weight};
}

AdamWNumbers adamw_numbers(const contract::Optimizer& options, std::int64_t step, double learning_rate, bool decays) {
  const double correction1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  AdamWNumbers numbers;
  if (decays) numbers.decay = static_cast<float>(1.0 - learning_rate * options.weightDecay);
  numbers.average_weight = static_cast<float>(1.0 - options.beta1);
  numbers.square_decay = static_cast<float>(options.beta2);
  numbers.square_weight = static_cast<float>(1.0 - options.beta2);
  numbers.correction_root = static_cast<float>(std::pow(correction2, 0.5));  // PyTorch's ** 0.5
  numbers.epsilon = static_cast<float>(options.epsilon);
  numbers.step_size = static_cast<float>(learning_rate / correction1);
  return numbers;
}

}  // namespace trainyard::optim
