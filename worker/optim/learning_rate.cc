#include "worker/optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trainyard::optim {

double learning_rate(const contract::Training& training, std::int64_t step, std::int64_t steps) {
  const double peak = training.optimizer.learningRate;
  const auto& schedule = training.learningRateSchedule;
  if (step <= schedule.warmupSteps) return peak * static_cast<double>(step) / static_cast<double>(schedule.warmupSteps);
  const auto progress_since = [&](std::int64_t begin) {
    if (steps <= begin) return 1.0;
    return std::min(1.0, static_cast<double>(step - begin) / static_cast<double>(steps - begin));
  };
  const auto falling = [&](double progress) { return schedule.minimum + (peak - schedule.minimum) * (1.0 - progress); };
  const double progress = progress_since(schedule.warmupSteps);
  switch (schedule.name) {
    case contract::ScheduleName::kCosine:
      return schedule.minimum + (peak - schedule.minimum) * (1.0 + std::cos(std::numbers::pi * progress)) / 2.0;
    case contract::ScheduleName::kLinear: return falling(progress);
    case contract::ScheduleName::kConstant: return peak;
    case contract::ScheduleName::kWarmupStableDecay: {
      const std::int64_t decay = schedule.decaySteps.value_or(steps / 10 + (steps % 10 > 0 ? 1 : 0));
      const std::int64_t begin = std::max(schedule.warmupSteps, steps - decay);
      return step <= begin ? peak : falling(progress_since(begin));
    }
  }
  return peak;
}

}  // namespace trainyard::optim
