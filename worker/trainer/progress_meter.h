#pragma once
// Speed and time left, from the times at which steps ended.

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "crds/contract/job.h"
#include "worker/plan/curriculum.h"

namespace trainyard::trainer {

/// Pure: the caller reads the clock.
class ProgressMeter {
 public:
  /// `device_name`: as the driver has it ("NVIDIA H200"), empty on a CPU.
  ProgressMeter(const contract::TrainingJobSpec& spec, std::int32_t world_size, const std::string& device_name);

  /// At the start, and after each step: `seconds` of a clock that does not go back; what the step's sequences had.
  void start(double seconds);
  void step_done(double seconds, std::int32_t sequence_length);

  /// Tokens of all ranks a second, over the last 32 steps, evaluations and checkpoints between them included. Nothing before a step.
  std::optional<double> tokens_per_second() const;
  /// For the steps `ahead`, at the speed of the same steps, in the model's operations: those of longer sequences take more. Nothing where
  /// that is more than 100 years.
  std::optional<std::int64_t> remaining_seconds(const std::vector<plan::Stretch>& ahead) const;
  /// The share of the devices' peak that the model's operations take (plan::flops_per_token); only where the peak is known.
  std::optional<double> mfu() const;

 private:
  /// The operations of a step, where those of one whose sequences are of data.sequenceLength are 1.
  double work_of(std::int32_t sequence_length) const;
  double work_in_window() const;

  contract::ModelSize size_;
  double tokens_per_step_;
  double flops_per_token_;            // of data.sequenceLength
  std::optional<double> peak_flops_;  // of all devices together
  std::deque<double> ends_;           // of the last steps, and the start of the first of them
  std::deque<double> works_;          // of these steps
};

/// Dense BF16 operations a second of one device, without sparsity, from NVIDIA's data sheets; nothing for a device that is not listed.
std::optional<double> peak_bf16_flops(const std::string& device_name);

}  // namespace trainyard::trainer
