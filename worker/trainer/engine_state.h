#pragma once
// What an engine's state has besides tensors.

#include <cstdint>
#include <optional>

#include "worker/optim/loss_scaler.h"

namespace trainyard::trainer {

/// Equal on all ranks, and part of a checkpoint.
struct EngineState {
  std::int64_t steps = 0;                      // done, with those that were skipped since their gradient was not finite
  std::int64_t skipped = 0;                    // of these
  std::int64_t skipped_in_a_row = 0;           // the last ones; 0 after a step that was not skipped
  std::optional<optim::LossScale> loss_scale;  // of the next step; FP16 alone
  bool operator==(const EngineState&) const = default;
};

}  // namespace trainyard::trainer
