#pragma once
// Speed and time left, from the times at which steps ended.

#include <cstdint>
#include <deque>
#include <optional>

#include "crds/contract/job.h"

namespace trainyard::trainer {

/// Pure: the caller reads the clock.
class ProgressMeter {
 public:
  /// `device_name`: as the driver has it ("NVIDIA H200"), empty on a CPU.
  ProgressMeter(const contract::TrainingJobSpec& spec, std::int64_t steps, std::int32_t world_size,
                const std::string& device_name);

  /// The training's last step, where it is another than at first was planned.
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// At the start, and after each step: `seconds` of a clock that does not go back.
  void start(double seconds);
  void step_done(double seconds);

  /// Tokens of all ranks a second, over the last 32 steps, evaluations and checkpoints between them included. Nothing before a step.
  std::optional<double> tokens_per_second() const;
  /// Until `step` has become the last step, at that speed. Nothing where that is more than 100 years.
  std::optional<std::int64_t> remaining_seconds(std::int64_t step) const;
  /// The share of the devices' peak that the model's operations take (plan::flops_per_token); only where the peak is known.
  std::optional<double> mfu() const;

 private:
  double tokens_per_step_;
  double flops_per_token_;
  std::int64_t steps_;
  std::optional<double> peak_flops_;  // of all devices together
  std::deque<double> ends_;           // of the last steps, and the start of the first of them
};

/// Dense BF16 operations a second of one device, without sparsity, from NVIDIA's data sheets; nothing for a device that is not listed.
std::optional<double> peak_bf16_flops(const std::string& device_name);

}  // namespace trainyard::trainer
