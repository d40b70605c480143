#include "worker/trainer/progress_meter.h"

#include <cmath>

#include "worker/plan/cost.h"
#include "worker/plan/device.h"
#include "worker/plan/head_cost.h"

namespace trainyard::trainer {
namespace {

constexpr std::size_t kWindow = 32;

}  // namespace

ProgressMeter::ProgressMeter(const contract::TrainingJobSpec& spec, std::int32_t world_size, const std::string& device_name)
    : size_(*spec.model.size),
      tokens_per_step_(static_cast<double>(spec.training.globalBatchSize) * spec.data.sequenceLength),
      recomputation_(spec.training.activationCheckpointing.mode),
      sequence_(spec.parallelism.sequence),
      repeated_head_(plan::recomputed_head_flops_per_token(spec)),
      world_size_(world_size),
      device_name_(device_name),
      peak_flops_(plan::peak_flops(device_name, spec.training.precision.compute)) {}

void ProgressMeter::start(double seconds) {
  ends_ = {seconds};
  lengths_.clear();
}

void ProgressMeter::step_done(double seconds, std::int32_t sequence_length) {
  ends_.push_back(seconds);
  lengths_.push_back(sequence_length);
  if (ends_.size() > kWindow + 1) {
    ends_.pop_front();
    lengths_.pop_front();
  }
}

double ProgressMeter::model_work(std::int32_t sequence_length) const {
  return tokens_per_step_ * plan::flops_per_token(size_, sequence_length);
}

double ProgressMeter::repeated_work(std::int32_t sequence_length) const {
  return tokens_per_step_ *
         (plan::recomputed_flops_per_token(size_, sequence_length, recomputation_, sequence_) + repeated_head_);
}

std::optional<double> ProgressMeter::tokens_per_second() const {
  if (ends_.size() < 2 || seconds_in_window() <= 0) return std::nullopt;
  return tokens_per_step_ * static_cast<double>(ends_.size() - 1) / seconds_in_window();
}

std::optional<std::int64_t> ProgressMeter::remaining_seconds(const std::vector<plan::Stretch>& ahead) const {
  const auto speed = model_flops();
  if (!speed) return std::nullopt;
  double work = 0;
  for (const auto& stretch : ahead) work += static_cast<double>(stretch.steps) * model_work(stretch.sequence_length);
  constexpr double kHundredYears = 100.0 * 365 * 86400;  // as long as a job may last; beyond, whoever stops it knows better
  const double seconds = work / world_size_ / *speed;
  if (seconds > kHundredYears) return std::nullopt;
  return std::llround(std::ceil(seconds * (1 - 1e-12)));  // what is rounded in the division makes no second more
}

std::optional<double> ProgressMeter::model_flops() const {
  if (!tokens_per_second()) return std::nullopt;
  double work = 0;
  for (const auto length : lengths_) work += model_work(length);
  return work / seconds_in_window() / world_size_;
}

std::optional<double> ProgressMeter::hardware_flops() const {
  const auto model = model_flops();
  if (!model) return std::nullopt;
  double work = 0;
  for (const auto length : lengths_) work += repeated_work(length);
  return *model + work / seconds_in_window() / world_size_;
}

std::optional<double> ProgressMeter::mfu() const {
  const auto flops = model_flops();
  if (!flops || !peak_flops_ || is_impossible()) return std::nullopt;
  return *flops / *peak_flops_;
}

std::optional<double> ProgressMeter::hfu() const {
  const auto flops = hardware_flops();
  if (!flops || !peak_flops_ || is_impossible()) return std::nullopt;
  return *flops / *peak_flops_;
}

/// MFU is at most HFU: with the one the other is wrong.
bool ProgressMeter::is_impossible() const {
  const auto flops = hardware_flops();
  return flops && peak_flops_ && *flops > *peak_flops_;
}

std::optional<std::string> ProgressMeter::impossible() const {
  if (!is_impossible()) return std::nullopt;
  const auto tera = [](double flops) { return std::to_string(std::llround(flops / 1e12)) + " TFLOP/s"; };
  return "each " + device_name_ + " would have done " + tera(*hardware_flops()) + ", but can do " + tera(*peak_flops_) +
         ": the peak that is known of it, the count of operations or the clock is wrong. mfu is left out while this is so, and "
         "tokensPerSecond may be wrong";
}

}  // namespace trainyard::trainer
