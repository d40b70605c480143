#include "worker/plan/curriculum.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "worker/plan/steps_for.h"

namespace trainyard::plan {
namespace {

/// The steps after `done` that the stage still has, if those before it have ended.
std::int64_t steps_left(const contract::CurriculumStage& stage, const contract::TrainingJobSpec& spec, const StepsDone& done,
                        std::int64_t samples_per_epoch) {
  const std::int64_t batch = spec.training.globalBatchSize, length = spec.data.sequenceLength;
  if (stage.untilStep) return std::max<std::int64_t>(0, *stage.untilStep - done.steps);
  if (stage.untilTokens) return steps_for(*stage.untilTokens - done.samples * length, batch * length);
  return steps_for(samples_of(stage.untilEpoch.value(), samples_per_epoch) - done.samples, batch);
}

}  // namespace

std::int64_t samples_of(double epochs, std::int64_t samples_per_epoch) {
  constexpr double kMost = 4611686018427387904.0;  // 2^62
  return static_cast<std::int64_t>(std::min(kMost, std::ceil(epochs * static_cast<double>(samples_per_epoch))));
}

std::int32_t next_sequence_length(const contract::TrainingJobSpec& spec, const StepsDone& done, std::int64_t samples_per_epoch) {
  return steps_ahead(spec, done, done.steps + 1, samples_per_epoch).front().sequence_length;
}

MicroBatchShape micro_batch_shape(const contract::TrainingJobSpec& spec, std::int32_t sequence_length) {
  if (sequence_length < 1 || spec.data.sequenceLength % sequence_length != 0) {
    throw std::invalid_argument("a sample of " + std::to_string(spec.data.sequenceLength) +
                                " tokens does not cut into sequences of " + std::to_string(sequence_length));
  }
  const std::int64_t pieces = spec.data.sequenceLength / sequence_length;
  return {.sequences = spec.parallelism.microBatchSize * pieces, .sequence_length = sequence_length};
}

std::vector<Stretch> steps_ahead(const contract::TrainingJobSpec& spec, const StepsDone& done, std::int64_t last,
                                 std::int64_t samples_per_epoch) {
  std::vector<Stretch> out;
  std::int64_t planned = 0;
  const std::int64_t steps = last - done.steps;
  const auto add = [&](std::int64_t until, std::int32_t length) {
    const std::int64_t more = std::min(until, steps) - planned;
    if (more <= 0) return;
    out.push_back({.steps = more, .sequence_length = length});
    planned += more;
  };
  if (spec.data.curriculum) {
    for (const auto& stage : spec.data.curriculum->stages) {
      add(steps_left(stage, spec, done, samples_per_epoch), stage.sequenceLength);
    }
  }
  add(steps, spec.data.sequenceLength);
  return out;
}

}  // namespace trainyard::plan
