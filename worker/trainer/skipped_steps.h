#pragma once
// What is made of steps whose gradients were not finite, so that they changed nothing (Engine::step()). Pure.

#include <cstdint>
#include <optional>
#include <string>

#include "crds/contract/job.h"
#include "worker/trainer/engine_state.h"

namespace trainyard::trainer {

/// So many in a row end a training. With FP32 and BF16 the weights stay as they are from one to the next, so it is not the data, which is
/// another each time. With FP16 the loss scale halves with each: after so many there is nothing left of a gradient that was too large.
std::int64_t most_skipped_in_a_row(contract::ComputePrecision compute);

/// Throws contract::UserError (GradientNotFinite) where so many were skipped in a row.
void end_if_none_is_finite(const EngineState& state, contract::ComputePrecision compute);

/// After the last step. Throws the same where not one step changed the model: that is no training that has succeeded.
void end_if_all_were_skipped(const EngineState& state, contract::ComputePrecision compute);

/// What people should hear of the step that was just skipped: of the first, the second, the fourth and so on, so that many don't drown
/// all else. Nothing with FP16, whose loss scale is found by skipping: the count in the progress tells of them.
std::optional<std::string> notice_of_skipped(const EngineState& state, contract::ComputePrecision compute);

}  // namespace trainyard::trainer
