#pragma once
// The kernels of adamw_kernels.h. Static: a test that compiles it for the CPU must not be linked with the GPU's.

#include <cmath>
#include <cstdint>

#include "worker/optim/adamw_numbers.h"
#include "worker/plan/dynamic_code.h"

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

// Moments in codes of 8 bits (worker/plan/moments.h): a warp has a block of numbers with a scale.

inline constexpr int kWarp = 32;
inline constexpr int kCodedEach = static_cast<int>(plan::kCodedBlock) / kWarp;

static __device__ constexpr plan::DynamicTable kAverageTable = plan::dynamic_table(true);
static __device__ constexpr plan::DynamicTable kSquareTable = plan::dynamic_table(false);

/// A lane's elements, in packs of four. Behind the `count` of a block are zeros.
template <class T>
static __device__ void read_of_block(const T* block, int lane, int count, bool aligned, T (&out)[kCodedEach]) {
  for (int pack = 0; pack < kCodedEach / kAdamWEach; ++pack) {
    const int first = (pack * kWarp + lane) * kAdamWEach;
    if (aligned && first + kAdamWEach <= count) {
      const auto read = *reinterpret_cast<const AdamWPack<T>*>(block + first);
      for (int i = 0; i < kAdamWEach; ++i) out[pack * kAdamWEach + i] = read.at[i];
    } else {
      for (int i = 0; i < kAdamWEach; ++i) out[pack * kAdamWEach + i] = first + i < count ? block[first + i] : T(0);
    }
  }
}

template <class T>
static __device__ void write_of_block(T* block, int lane, int count, bool aligned, const T (&in)[kCodedEach]) {
  for (int pack = 0; pack < kCodedEach / kAdamWEach; ++pack) {
    const int first = (pack * kWarp + lane) * kAdamWEach;
    if (aligned && first + kAdamWEach <= count) {
      AdamWPack<T> written;
      for (int i = 0; i < kAdamWEach; ++i) written.at[i] = in[pack * kAdamWEach + i];
      *reinterpret_cast<AdamWPack<T>*>(block + first) = written;
    } else {
      for (int i = 0; i < kAdamWEach && first + i < count; ++i) block[first + i] = in[pack * kAdamWEach + i];
    }
  }
}

/// Of the elements of all lanes. Bits in the order of sizes, with what is no number above all, as plan::encode() takes them.
static __device__ float largest_of_warp(const float (&numbers)[kCodedEach]) {
  std::uint32_t largest = 0;
  for (int i = 0; i < kCodedEach; ++i) {
    const std::uint32_t size = __float_as_uint(numbers[i]) & 0x7fffffffU;
    if (size > largest) largest = size;
  }
  for (int distance = kWarp / 2; distance >= 1; distance /= 2) {
    const std::uint32_t other = __shfl_xor_sync(0xffffffffU, largest, distance);
    if (other > largest) largest = other;
  }
  return __uint_as_float(largest);
}

static __device__ void encode_of_block(const plan::DynamicTable& table, float scale, const float (&numbers)[kCodedEach],
                                       std::uint8_t (&codes)[kCodedEach]) {
  for (int i = 0; i < kCodedEach; ++i) {
    const float part = scale == 0.0F ? 0.0F : numbers[i] / scale;
    codes[i] = plan::code_of(table, part, __float_as_uint(part));
  }
}

/// `count` is whole segments (AdamWTensors::segment). `aligned`: all pointers are, to four elements, as are segments. Warp w of the grid
/// has block w; all lanes of a warp stay to the end, also where there is none.
template <class Gradient, class Weight>
static __global__ void adamw_step_in_codes(float* master, std::uint8_t* average, std::uint8_t* square, float* average_scales,
                                           float* square_scales, const Gradient* gradient, Weight* weight, std::int64_t count,
                                           std::int64_t segment, AdamWNumbers numbers, bool aligned) {
  const std::int64_t each = plan::blocks_of_segment(segment);
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * (kAdamWThreads / kWarp) + threadIdx.x / kWarp;
  const std::int64_t in_segment = block % each * plan::kCodedBlock, first = block / each * segment + in_segment;
  const std::int64_t left = first < count ? segment - in_segment : 0;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  constexpr int kFull = kCodedEach * kWarp;
  const int size = left < kFull ? static_cast<int>(left) : kFull;
  float m[kCodedEach], a[kCodedEach], s[kCodedEach];
  Gradient g[kCodedEach];
  Weight w[kCodedEach];
  std::uint8_t average_codes[kCodedEach], square_codes[kCodedEach];
  read_of_block(master + first, lane, size, aligned, m);
  read_of_block(gradient + first, lane, size, aligned, g);
  read_of_block(average + first, lane, size, aligned, average_codes);
  read_of_block(square + first, lane, size, aligned, square_codes);
  const float average_scale = size > 0 ? average_scales[block] : 0.0F, square_scale = size > 0 ? square_scales[block] : 0.0F;
  for (int i = 0; i < kCodedEach; ++i) {
    a[i] = kAverageTable.values[average_codes[i]] * average_scale;
    s[i] = kSquareTable.values[square_codes[i]] * square_scale;
    adamw_element(m[i], a[i], s[i], static_cast<float>(g[i]), numbers);
    w[i] = static_cast<Weight>(m[i]);
  }
  // What is behind the block's end was read as zero, the average's code too.
  for (int i = 0; i < kCodedEach; ++i) {
    const int place = (i / kAdamWEach * kWarp + lane) * kAdamWEach + i % kAdamWEach;
    if (place >= size) a[i] = s[i] = 0.0F;
  }
  const float largest_average = largest_of_warp(a), largest_square = largest_of_warp(s);
  encode_of_block(kAverageTable, largest_average, a, average_codes);
  encode_of_block(kSquareTable, largest_square, s, square_codes);
  write_of_block(master + first, lane, size, aligned, m);
  write_of_block(average + first, lane, size, aligned, average_codes);
  write_of_block(square + first, lane, size, aligned, square_codes);
  if (weight != nullptr) write_of_block(weight + first, lane, size, aligned, w);
  if (lane == 0 && size > 0) {
    average_scales[block] = largest_average;
    square_scales[block] = largest_square;
  }
}

}  // namespace trainyard::optim
