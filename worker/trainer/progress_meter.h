#pragma once
// Speed and time left, from the times at which steps ended.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
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
  /// Operations a second of one device: the model's own (plan::flops_per_token), and all, those that were computed again with them
  /// (plan::recomputed_flops_per_token, and of the head plan::recomputed_head_flops_per_token).
  std::optional<double> model_flops() const;
  std::optional<double> hardware_flops() const;
  /// The shares of the device's peak that these take, in the format that products are computed in (with FP8: of the peak of FP8, though not
  /// all products are); only where the peak is known (plan::peak_flops), and not where impossible().
  std::optional<double> mfu() const;
  std::optional<double> hfu() const;
  /// Where a device would have done more than it can: for people, what was measured. Then the peak, the clock or the count is wrong, and no
  /// share is told, since one that is wrong by less would look right.
  std::optional<std::string> impossible() const;

 private:
  /// Operations of a step, of all devices: the model's own, and those that are computed again.
  double model_work(std::int32_t sequence_length) const;
  double repeated_work(std::int32_t sequence_length) const;
  bool is_impossible() const;
  double seconds_in_window() const { return ends_.back() - ends_.front(); }

  contract::ModelSize size_;
  double tokens_per_step_;
  contract::RecomputeMode recomputation_;
  bool sequence_;
  double repeated_head_;  // operations a token
  std::int32_t world_size_;
  std::string device_name_;
  std::optional<double> peak_flops_;  // of one device
  std::deque<double> ends_;           // of the last steps, and the start of the first of them
  std::deque<std::int32_t> lengths_;  // of the sequences of these steps
};

}  // namespace trainyard::trainer
