#include "worker/optim/loss_scaler.h"

#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace trainyard::optim {
namespace {

/// PyTorch's own kernel, which GradScaler.update() calls.
class Torch {
 public:
  LossScale after_step(bool overflowed) {
    at::_amp_update_scale_(scale_, tracker_, at::full({}, overflowed ? 1.0 : 0.0, at::kFloat), 2.0, 0.5,
                           kLossScaleGrowthInterval);
    return {.scale = scale_.item<float>(), .growth_tracker = tracker_.item<std::int32_t>()};
  }
  void set(const LossScale& state) {
    scale_.fill_(state.scale);
    tracker_.fill_(state.growth_tracker);
  }

 private:
  at::Tensor scale_ = at::full({}, 65536.0, at::kFloat);
  at::Tensor tracker_ = at::zeros({}, at::kInt);
};

TEST(LossScale, IsPyTorchsStepForStep) {
  Torch torch;
  LossScale ours;
  std::uint64_t state = 1;
  int overflows = 0, growths = 0;
  for (int step = 0; step < 100'000; ++step) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const bool overflowed = step < 20 || (state >> 33) % 3000 == 0;
    const LossScale before = ours;
    ours = after_step(ours, overflowed);
    ASSERT_EQ(ours, torch.after_step(overflowed)) << "step " << step;
    overflows += ours.scale < before.scale ? 1 : 0;
    growths += ours.scale > before.scale ? 1 : 0;
  }
  EXPECT_GT(overflows, 30);
  EXPECT_GT(growths, 10);
}

TEST(LossScale, NeitherGrowsBeyondTheNumbersNorIsStuckAtItsEnds) {
  for (const float extreme : {std::numeric_limits<float>::max(), 0x1p127F, 0x1p-149F, 0x1p-126F}) {
    Torch torch;
    LossScale ours{.scale = extreme, .growth_tracker = kLossScaleGrowthInterval - 2};
    torch.set(ours);
    for (const bool overflowed : {false, false, true, false}) {
      ours = after_step(ours, overflowed);
      EXPECT_EQ(ours, torch.after_step(overflowed)) << extreme;
    }
  }
}

TEST(LossScale, IsTakenOutOfGradientsExactly) {
  for (float scale = 0x1p-20F; scale < 0x1p40F; scale *= 2) EXPECT_EQ(inverse({.scale = scale}) * scale, 1.0F);
}

}  // namespace
}  // namespace trainyard::optim
