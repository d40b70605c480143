#include "worker/optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace trainyard::optim {

double learning_rate(const contract::Training& training, std::int64_t step, std::int64_t steps) {
  const double peak = training.optimizer.learningRate;
  const auto& schedule = training.learningRateSchedule;
  if (step <= schedule.warmupSteps) return peak * static_cast<double>(step) / static_cast<double>(schedule.warmupSteps);
  const auto after_warmup = [&](std::int64_t at) { return static_cast<double>(at - schedule.warmupSteps); };
  const double progress = steps > schedule.warmupSteps ? std::min(1.0, after_warmup(step) / after_warmup(steps)) : 1.0;
  switch (schedule.name) {
    case contract::ScheduleName::kCosine:
      return schedule.minimum + (peak - schedule.minimum) * (1.0 + std::cos(std::numbers::pi * progress)) / 2.0;
    case contract::ScheduleName::kLinear: return schedule.minimum + (peak - schedule.minimum) * (1.0 - progress);
    case contract::ScheduleName::kConstant: return peak;
    case contract::ScheduleName::kWarmupStableDecay: break;  // refused by validate()
  }
  throw std::invalid_argument("learningRateSchedule.name is not supported yet");
}

}  // namespace trainyard::optim
