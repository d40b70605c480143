#include "worker/trainer/progress_meter.h"

#include <array>
#include <cmath>
#include <numeric>
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

ProgressMeter::ProgressMeter(const contract::TrainingJobSpec& spec, std::int32_t world_size, const std::string& device_name)
    : size_(*spec.model.size),
      tokens_per_step_(static_cast<double>(spec.training.globalBatchSize) * spec.data.sequenceLength),
      flops_per_token_(plan::flops_per_token(size_, spec.data.sequenceLength)) {
  const auto peak = peak_bf16_flops(device_name);
  const auto compute =
      spec.training.precision.compute;  // FP16 is as fast as BF16 on all of them; of FP8 too little is in FP8 to tell
  if (peak && (compute == contract::ComputePrecision::kBF16 || compute == contract::ComputePrecision::kFP16))
    peak_flops_ = *peak * world_size;
}

void ProgressMeter::start(double seconds) {
  ends_ = {seconds};
  works_.clear();
}

void ProgressMeter::step_done(double seconds, std::int32_t sequence_length) {
  ends_.push_back(seconds);
  works_.push_back(work_of(sequence_length));
  if (ends_.size() > kWindow + 1) {
    ends_.pop_front();
    works_.pop_front();
  }
}

double ProgressMeter::work_of(std::int32_t sequence_length) const {
  return plan::flops_per_token(size_, sequence_length) / flops_per_token_;
}

double ProgressMeter::work_in_window() const { return std::accumulate(works_.begin(), works_.end(), 0.0); }

std::optional<double> ProgressMeter::tokens_per_second() const {
  if (ends_.size() < 2 || ends_.back() <= ends_.front()) return std::nullopt;
  return tokens_per_step_ * static_cast<double>(ends_.size() - 1) / (ends_.back() - ends_.front());
}

std::optional<std::int64_t> ProgressMeter::remaining_seconds(const std::vector<plan::Stretch>& ahead) const {
  if (!tokens_per_second()) return std::nullopt;
  double work = 0;
  for (const auto& stretch : ahead) work += static_cast<double>(stretch.steps) * work_of(stretch.sequence_length);
  constexpr double kHundredYears = 100.0 * 365 * 86400;  // as long as a job may last; beyond, whoever stops it knows better
  const double seconds = std::ceil(work * (ends_.back() - ends_.front()) / work_in_window());
  if (seconds > kHundredYears) return std::nullopt;
  return std::llround(seconds);
}

std::optional<double> ProgressMeter::mfu() const {
  if (!tokens_per_second() || !peak_flops_) return std::nullopt;
  const double flops = work_in_window() * tokens_per_step_ * flops_per_token_;
  return flops / (ends_.back() - ends_.front()) / *peak_flops_;
}

}  // namespace trainyard::trainer
