#pragma once
// Dynamic loss scaling for FP16, whose smallest normal number is 6e-5: the loss is multiplied by a scale before the backward pass, and the
// gradients are divided by it before they are used. The scale halves when a gradient overflowed, and doubles after many that did not.
// Source: Micikevicius et al., "Mixed precision training", arXiv:1710.03740, section 3.2.

#include <cstdint>

namespace trainyard::optim {

/// Equal on all ranks, and part of a checkpoint.
struct LossScale {
  float scale = 65536.0F;           // FP32, as PyTorch keeps it
  std::int64_t growth_tracker = 0;  // steps without an overflow since the last change
  bool operator==(const LossScale&) const = default;
};

inline constexpr std::int64_t kLossScaleGrowthInterval = 2000;

/// What follows from a step: equal step for step to torch.amp.GradScaler.update() at its defaults (initial scale 65536, growth 2 after 2000
/// steps, backoff 0.5; aten/src/ATen/native/cuda/AmpKernels.cu, amp_update_scale_cuda_kernel). A growth that would not be finite is
/// left out.
LossScale after_step(LossScale before, bool overflowed);

/// What the gradients are multiplied with: 1 / scale in FP64, rounded to FP32, as GradScaler.unscale_() does.
float inverse(const LossScale& scale);

}  // namespace trainyard::optim
