#include "worker/optim/adamw.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>

#include "worker/optim/adamw_on_cpu.h"
#include "worker/optim/offloaded_adamw.h"
#include "worker/plan/moments.h"

#ifdef TRAINYARD_CUDA
#include "worker/optim/adamw_kernels.h"
#endif

namespace trainyard::optim {
namespace {

bool is_code(const at::Tensor& moment) { return moment.scalar_type() == at::kByte; }

}  // namespace

AdamW::AdamW(contract::Optimizer options, std::vector<Trained> trained, at::ScalarType states)
    : options_(options), trained_(std::move(trained)) {
  make_moments(states, [](const Trained& of, at::IntArrayRef sizes, at::ScalarType type) {
    return at::empty(sizes, of.master.options().dtype(type));
  });
  const bool has_codes =
      std::any_of(averages_.begin(), averages_.end(), [](const at::Tensor& each) { return each.is_cpu() && is_code(each); });
  if (has_codes) cores_ = std::make_unique<Cores>();
}

AdamW::AdamW(contract::Optimizer options, std::vector<Trained> trained, const HostSide& host, at::ScalarType states)
    : options_(options), trained_(std::move(trained)) {
  make_moments(states,
               [&host](const Trained&, at::IntArrayRef sizes, at::ScalarType type) { return host.link->memory(sizes, type); });
  std::vector<at::Tensor> masters;
  std::vector<std::int64_t> segments;
  at::ScalarType weight_type = at::kFloat;
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    masters.push_back(trained_[i].master);
    segments.push_back(is_code(averages_[i]) ? trained_[i].segment : 0);
    if (trained_[i].weight.defined()) weight_type = trained_[i].weight.scalar_type();
  }
  offloaded_ = std::make_unique<OffloadedAdamW>(*host.link, masters, segments, weight_type, host.weights);
}

void AdamW::make_moments(at::ScalarType states, const Memory& memory) {
  for (const auto& each : trained_) {
    const auto sizes = each.master.sizes();
    const bool codes = states == at::kByte && each.segment > 0;
    const auto type = states == at::kByte && !codes ? at::kFloat : states;
    averages_.push_back(memory(each, sizes, type).fill_(codes ? plan::moment_table(true).zero : 0));
    squares_.push_back(memory(each, sizes, type).fill_(codes ? plan::moment_table(false).zero : 0));
    at::Tensor average_scales, square_scales;
    if (codes) {
      const auto scales = plan::scales_of({.offsets = {0, 0}, .sizes = sizes.vec()}, each.segment).sizes;
      average_scales = memory(each, scales, at::kFloat).zero_();
      square_scales = memory(each, scales, at::kFloat).zero_();
    }
    average_scales_.push_back(average_scales);
    square_scales_.push_back(square_scales);
  }
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
    if (tensors[i].segment == 0) adamw_step_on_cpu(tensors[i], numbers[i]);
  }
  if (cores_) step_in_codes(tensors, numbers);
}

/// On a CPU that is the device. In pieces, so that few numbers at a time are FP32.
void AdamW::step_in_codes(const std::vector<AdamWTensors>& tensors, const std::vector<AdamWNumbers>& numbers) {
  struct Piece {
    std::size_t tensor = 0;
    std::int64_t first = 0, count = 0;
  };
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].segment == 0) continue;
    const std::int64_t elements = tensors[i].master.numel(), piece = adamw_piece(tensors[i].segment);
    for (std::int64_t first = 0; first < elements; first += piece) {
      pieces.push_back({.tensor = i, .first = first, .count = std::min(piece, elements - first)});
    }
  }
  cores_->share(std::ssize(pieces), [&](std::int64_t i) {
    const auto& [tensor, first, count] = pieces[static_cast<std::size_t>(i)];
    adamw_step_on_cpu(some_of(tensors[tensor], first, count), numbers[tensor]);
  });
}

/// The CPU takes gradients of any strides, and scales them where they are; with codes it wants them one behind the other.
AdamWTensors AdamW::tensors_of(std::size_t i, const at::Tensor& gradient) const {
  const bool anywhere = trained_[i].master.is_cpu() && !offloaded_ && !is_code(averages_[i]);
  return {.master = trained_[i].master,
          .average = averages_[i],
          .square = squares_[i],
          .gradient = anywhere ? gradient : gradient.contiguous(),
          .weight = trained_[i].weight,
          .average_scales = average_scales_[i],
          .square_scales = square_scales_[i],
          .segment = is_code(averages_[i]) ? trained_[i].segment : 0};
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
