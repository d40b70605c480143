#include "worker/trainer/progress_meter.h"

#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "worker/plan/cost.h"

namespace trainyard::trainer {
namespace {

constexpr std::size_t kWindow = 32;

}  // namespace

std::optional<double> peak_bf16_flops(const std::string& device_name) {
  constexpr auto kPeaks = std::to_array<std::pair<std::string_view, double>>(
      {{"A100", 312e12}, {"H100 PCIe", 756e12}, {"H100 NVL", 835e12}, {"H100", 989e12}, {"H200", 989e12}, {"B200", 2250e12}});
  for (const auto& [name, peak] : kPeaks) {
    if (device_name.find(name) != std::string::npos) return peak;
  }
  return std::nullopt;
}

ProgressMeter::ProgressMeter(const contract::TrainingJobSpec& spec, std::int64_t steps, std::int32_t world_size,
                             const std::string& device_name)
    : tokens_per_step_(static_cast<double>(spec.training.globalBatchSize) * spec.data.sequenceLength),
      flops_per_token_(plan::flops_per_token(*spec.model.size, spec.data.sequenceLength)),
      steps_(steps) {
  const auto peak = peak_bf16_flops(device_name);
  const auto compute =
      spec.training.precision.compute;  // FP16 is as fast as BF16 on all of them; of FP8 too little is in FP8 to tell
  if (peak && (compute == contract::ComputePrecision::kBF16 || compute == contract::ComputePrecision::kFP16))
    peak_flops_ = *peak * world_size;
}

void ProgressMeter::start(double seconds) { ends_ = {seconds}; }

void ProgressMeter::step_done(double seconds) {
  ends_.push_back(seconds);
  if (ends_.size() > kWindow + 1) ends_.pop_front();
}

std::optional<double> ProgressMeter::tokens_per_second() const {
  if (ends_.size() < 2 || ends_.back() <= ends_.front()) return std::nullopt;
  return tokens_per_step_ * static_cast<double>(ends_.size() - 1) / (ends_.back() - ends_.front());
}

std::optional<std::int64_t> ProgressMeter::remaining_seconds(std::int64_t step) const {
  const auto speed = tokens_per_second();
  if (!speed) return std::nullopt;
  constexpr double kHundredYears = 100.0 * 365 * 86400;  // as long as a job may last; beyond, whoever stops it knows better
  const double seconds = std::ceil(static_cast<double>(steps_ - step) * tokens_per_step_ / *speed);
  if (seconds > kHundredYears) return std::nullopt;
  return std::llround(seconds);
}

std::optional<double> ProgressMeter::mfu() const {
  const auto speed = tokens_per_second();
  if (!speed || !peak_flops_) return std::nullopt;
  return *speed * flops_per_token_ / *peak_flops_;
}

}  // namespace trainyard::trainer
