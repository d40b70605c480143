#pragma once
// What `kubectl logs` tells of the training, from the agent's states: progress, checkpoints, notices and the failure.

#include <chrono>
#include <optional>

#include "crds/contract/state.h"
#include "worker/agent/agent_core.h"
#include "worker/agent/log.h"

namespace trainyard::agent {

class PodLog {
 public:
  /// Progress comes after every step; the log has a line of it this often, and of each validation and the last step.
  static constexpr std::chrono::seconds kInterval{10};

  explicit PodLog(Log log) : log_(std::move(log)) {}
  /// Writes what is new since the last state. `now` is of a clock that never goes back. Progress comes with what was measured of it.
  void state(const contract::State& state, const Measured& measured, std::chrono::milliseconds now);

 private:
  void progress(const contract::Progress& progress, const Measured& measured, std::chrono::milliseconds now);

  const Log log_;
  std::int64_t last_notice_ = 0;
  std::optional<contract::CheckpointStatus> last_checkpoint_;
  std::optional<contract::Progress> last_progress_;
  std::chrono::milliseconds last_progress_at_{0};
  std::optional<contract::Failure> last_failure_;
};

}  // namespace trainyard::agent
