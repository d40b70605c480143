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

template <class State>
static __device__ void adamw_element_of(float& master, State& average, State& square, float gradient,
                                        const AdamWNumbers& numbers) {
  float a = static_cast<float>(average), s = static_cast<float>(square);
  adamw_element(master, a, s, gradient, numbers);
  average = static_cast<State>(a);
  square = static_cast<State>(s);
}

/// Moments in BF16 are rounded to it after the step, which has them in FP32. `weight` may be null. Block b has elements from b · 1024 on. `aligned`: all pointers are, to four elements; a shard may begin anywhere.
template <class State, class Gradient, class Weight>
static __global__ void adamw_step(float* master, State* average, State* square, const Gradient* gradient, Weight* weight,
                                  std::int64_t count, AdamWNumbers numbers, bool aligned) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kAdamWThreads + threadIdx.x) * kAdamWEach;
  if (aligned && first + kAdamWEach <= count) {
    auto m = *reinterpret_cast<const AdamWPack<float>*>(master + first);
    auto a = *reinterpret_cast<const AdamWPack<State>*>(average + first);
    auto s = *reinterpret_cast<const AdamWPack<State>*>(square + first);
    const auto g = *reinterpret_cast<const AdamWPack<Gradient>*>(gradient + first);
    AdamWPack<Weight> w;
    for (int i = 0; i < kAdamWEach; ++i) {
      adamw_element_of(m.at[i], a.at[i], s.at[i], static_cast<float>(g.at[i]), numbers);
      w.at[i] = static_cast<Weight>(m.at[i]);
    }
    *reinterpret_cast<AdamWPack<float>*>(master + first) = m;
    *reinterpret_cast<AdamWPack<State>*>(average + first) = a;
    *reinterpret_cast<AdamWPack<State>*>(square + first) = s;
    if (weight != nullptr) *reinterpret_cast<AdamWPack<Weight>*>(weight + first) = w;
    return;
  }
  for (std::int64_t i = first; i < count && i < first + kAdamWEach; ++i) {
    adamw_element_of(master[i], average[i], square[i], static_cast<float>(gradient[i]), numbers);
    if (weight != nullptr) weight[i] = static_cast<Weight>(master[i]);
  }
}

}  // namespace trainyard::optim
