#include "worker/trainer/skipped_steps.h"

#include "crds/contract/user_error.h"

namespace trainyard::trainer {

using std::to_string;

namespace {

[[noreturn]] void end(const EngineState& state, contract::ComputePrecision compute) {
  throw contract::UserError(
      "GradientNotFinite",
      "the gradients of " + to_string(state.skipped_in_a_row) + " steps in a row, the last of them step " +
          to_string(state.steps) +
          ", are not finite, so that none of these steps changed the model: lower "
          "training.optimizer.learningRate, lengthen learningRateSchedule.warmupSteps, or set "
          "training.gradientClipping" +
          (compute == contract::ComputePrecision::kFP16 ? ", or compute in BF16 (training.precision.compute)" : "") +
          "; where a checkpoint of steps that were finite is there, begin again from one well before them");
}

}  // namespace

std::int64_t most_skipped_in_a_row(contract::ComputePrecision compute) {
  return compute == contract::ComputePrecision::kFP16 ? 32 : 10;
}

void end_if_none_is_finite(const EngineState& state, contract::ComputePrecision compute) {
  if (state.skipped_in_a_row >= most_skipped_in_a_row(compute)) end(state, compute);
}

void end_if_all_were_skipped(const EngineState& state, contract::ComputePrecision compute) {
  if (state.skipped > 0 && state.skipped == state.steps) end(state, compute);
}

std::optional<std::string> notice_of_skipped(const EngineState& state, contract::ComputePrecision compute) {
  const bool is_power_of_two = (state.skipped & (state.skipped - 1)) == 0;
  if (compute == contract::ComputePrecision::kFP16 || state.skipped == 0 || !is_power_of_two) return std::nullopt;
  return "the gradient of step " + to_string(state.steps) +
         " is not finite, so that the step changed nothing; training goes on with the next batch, and ends after " +
         to_string(most_skipped_in_a_row(compute)) + " such steps in a row; skipped until now: " + to_string(state.skipped);
}

}  // namespace trainyard::trainer
