#pragma once
// The kernel of adamw_kernels.h. Static: a test that compiles it for the CPU must not be linked with the GPU's.

#include <cmath>
#include <cstdint>

#include "worker/optim/adamw_numbers.h"

namespace trainyard::optim {

inline constexpr int kAdamWThreads = 256;
/// Elements a thread: 16 bytes of FP32 at once.
inline constexpr int kAdamWEach = 4;

template <class T>
struct alignas(sizeof(T) * kAdamWEach) AdamWPack {
  T at[kAdamWEach];
};

static __device__ void adamw_element(float& master, float& average, float& square, float gradient, const AdamWNumbers& numbers) {
  gradient *= numbers.gradient_scale;
  master *= numbers.decay;
  // PyTorch's lerp, from the nearer end, and its addcmul: fused on every CPU that can.
  const bool is_near = numbers.average_weight < 0.5F;
  average =
      fmaf(is_near ? numbers.average_weight : numbers.average_weight - 1.0F, gradient - average, is_near ? average : gradient);
  square = fmaf(numbers.square_weight * gradient, gradient, square * numbers.square_decay);
  const float denominator = sqrtf(square) / numbers.correction_root + numbers.epsilon;
  master += -numbers.step_size * average / denominator;
}

/// `weight` may be null. Block b has elements from b · 1024 on. `aligned`: all pointers are, to four elements; a shard may begin anywhere.
template <class Gradient, class Weight>
static __global__ void adamw_step(float* master, float* average, float* square, const Gradient* gradient, Weight* weight,
                                  std::int64_t count, AdamWNumbers numbers, bool aligned) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kAdamWThreads + threadIdx.x) * kAdamWEach;
  if (aligned && first + kAdamWEach <= count) {
    auto m = *reinterpret_cast<const AdamWPack<float>*>(master + first);
    auto a = *reinterpret_cast<const AdamWPack<float>*>(average + first);
    auto s = *reinterpret_cast<const AdamWPack<float>*>(square + first);
    const auto g = *reinterpret_cast<const AdamWPack<Gradient>*>(gradient + first);
    AdamWPack<Weight> w;
    for (int i = 0; i < kAdamWEach; ++i) {
      adamw_element(m.at[i], a.at[i], s.at[i], static_cast<float>(g.at[i]), numbers);
      w.at[i] = static_cast<Weight>(m.at[i]);
    }
    *reinterpret_cast<AdamWPack<float>*>(master + first) = m;
    *reinterpret_cast<AdamWPack<float>*>(average + first) = a;
    *reinterpret_cast<AdamWPack<float>*>(square + first) = s;
    if (weight != nullptr) *reinterpret_cast<AdamWPack<Weight>*>(weight + first) = w;
    return;
  }
  for (std::int64_t i = first; i < count && i < first + kAdamWEach; ++i) {
    adamw_element(master[i], average[i], square[i], static_cast<float>(gradient[i]), numbers);
    if (weight != nullptr) weight[i] = static_cast<Weight>(master[i]);
  }
}

}  // namespace trainyard::optim
