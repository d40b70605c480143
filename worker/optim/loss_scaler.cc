#include "worker/optim/loss_scaler.h"

#include <cmath>

namespace trainyard::optim {

LossScale after_step(LossScale before, bool overflowed) {
  constexpr float kGrowth = 2.0F, kBackoff = 0.5F;
  if (overflowed) return {.scale = before.scale * kBackoff, .growth_tracker = 0};
  const std::int64_t successes = before.growth_tracker + 1;
  if (successes < kLossScaleGrowthInterval) return {.scale = before.scale, .growth_tracker = successes};
  const float grown = before.scale * kGrowth;
  return {.scale = std::isfinite(grown) ? grown : before.scale, .growth_tracker = 0};
}

float inverse(const LossScale& scale) { return static_cast<float>(1.0 / static_cast<double>(scale.scale)); }

}  // namespace trainyard::optim
