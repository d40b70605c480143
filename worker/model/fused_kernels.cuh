#pragma once
// The kernels of fused_kernels.h. Static: a test that compiles them for the CPU must not be linked with the GPU's.

#include <cmath>
#include <cstdint>

#include "worker/model/philox.h"

namespace trainyard::model {

/// Threads a block of the grid, in all kernels.
inline constexpr int kFusedThreads = 256;

/// Neighbouring elements that a thread reads at once: 16 bytes.
template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T at[kSize];
};

template <class T>
static __device__ float rounded(float value) {
  return static_cast<float>(static_cast<T>(value));
}

static __device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T>
static __device__ T swiglu(T gate, T up) {
  const float x = static_cast<float>(gate);
  return static_cast<T>(rounded<T>(x / (1.0f + expf(-x))) * static_cast<float>(up));
}

template <class T>
static __device__ void swiglu_back(T gate, T up, T gradient, T& d_gate, T& d_up) {
  const float x = static_cast<float>(gate), dy = static_cast<float>(gradient), s = sigmoid(x);
  d_up = static_cast<T>(dy * rounded<T>(x / (1.0f + expf(-x))));
  d_gate = static_cast<T>(rounded<T>(dy * static_cast<float>(up)) * s * (1.0f + x * (1.0f - s)));
}

template <class T>
static __global__ void swiglu_forward(const T* gate, const T* up, T* out, std::int64_t count) {
  constexpr int kSize = Pack<T>::kSize;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kFusedThreads + threadIdx.x) * kSize;
  if (first + kSize <= count) {
    const auto g = *reinterpret_cast<const Pack<T>*>(gate + first), u = *reinterpret_cast<const Pack<T>*>(up + first);
    Pack<T> o;
    for (int i = 0; i < kSize; ++i) o.at[i] = swiglu(g.at[i], u.at[i]);
    *reinterpret_cast<Pack<T>*>(out + first) = o;
    return;
  }
  for (std::int64_t i = first; i < count; ++i) out[i] = swiglu(gate[i], up[i]);
}

template <class T>
static __global__ void swiglu_backward(const T* gate, const T* up, const T* gradient, T* d_gate, T* d_up, std::int64_t count) {
  constexpr int kSize = Pack<T>::kSize;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kFusedThreads + threadIdx.x) * kSize;
  if (first + kSize <= count) {
    const auto g = *reinterpret_cast<const Pack<T>*>(gate + first), u = *reinterpret_cast<const Pack<T>*>(up + first);
    const auto dy = *reinterpret_cast<const Pack<T>*>(gradient + first);
    Pack<T> dg, du;
    for (int i = 0; i < kSize; ++i) swiglu_back(g.at[i], u.at[i], dy.at[i], dg.at[i], du.at[i]);
    *reinterpret_cast<Pack<T>*>(d_gate + first) = dg;
    *reinterpret_cast<Pack<T>*>(d_up + first) = du;
    return;
  }
  for (std::int64_t i = first; i < count; ++i) swiglu_back(gate[i], up[i], gradient[i], d_gate[i], d_up[i]);
}

/// The sum over the threads of the block, for all of them; `parts` is shared memory. All threads call it.
static __device__ float block_sum(float value, float* parts) {
  const int me = static_cast<int>(threadIdx.x);
  __syncthreads();  // an earlier sum may still be read
  parts[me] = value;
  for (int half = kFusedThreads / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (me < half) parts[me] += parts[me + half];
  }
  __syncthreads();
  return parts[0];
}

/// One block of the grid a row.
template <class T>
static __global__ void rms_norm_forward(const T* x, const T* weight, T* out, float* inverses, std::int64_t width, float epsilon) {
  constexpr int kSize = Pack<T>::kSize;
  __shared__ float parts[kFusedThreads];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * width, me = static_cast<std::int64_t>(threadIdx.x) * kSize;
  float squares = 0;
  for (std::int64_t at = me; at < width; at += kFusedThreads * kSize) {
    const auto in = *reinterpret_cast<const Pack<T>*>(x + row + at);
    for (int i = 0; i < kSize; ++i) squares += static_cast<float>(in.at[i]) * static_cast<float>(in.at[i]);
  }
  const float inverse = 1.0f / sqrtf(block_sum(squares, parts) / static_cast<float>(width) + epsilon);
  if (threadIdx.x == 0) inverses[blockIdx.x] = inverse;
  for (std::int64_t at = me; at < width; at += kFusedThreads * kSize) {
    const auto in = *reinterpret_cast<const Pack<T>*>(x + row + at), w = *reinterpret_cast<const Pack<T>*>(weight + at);
    Pack<T> o;
    for (int i = 0; i < kSize; ++i) {
      o.at[i] = static_cast<T>(static_cast<float>(in.at[i]) * inverse * static_cast<float>(w.at[i]));
    }
    *reinterpret_cast<Pack<T>*>(out + row + at) = o;
  }
}

/// One block of the grid a row.
template <class T>
static __global__ void rms_norm_backward(const T* x, const T* weight, const float* inverses, const T* gradient, T* d_x,
                                         std::int64_t width) {
  constexpr int kSize = Pack<T>::kSize;
  __shared__ float parts[kFusedThreads];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * width, me = static_cast<std::int64_t>(threadIdx.x) * kSize;
  const float inverse = inverses[blockIdx.x];
  float products = 0;
  for (std::int64_t at = me; at < width; at += kFusedThreads * kSize) {
    const auto in = *reinterpret_cast<const Pack<T>*>(x + row + at), w = *reinterpret_cast<const Pack<T>*>(weight + at);
    const auto g = *reinterpret_cast<const Pack<T>*>(gradient + row + at);
    for (int i = 0; i < kSize; ++i) {
      products += static_cast<float>(in.at[i]) * inverse * (static_cast<float>(g.at[i]) * static_cast<float>(w.at[i]));
    }
  }
  const float mean = block_sum(products, parts) / static_cast<float>(width);
  for (std::int64_t at = me; at < width; at += kFusedThreads * kSize) {
    const auto in = *reinterpret_cast<const Pack<T>*>(x + row + at), w = *reinterpret_cast<const Pack<T>*>(weight + at);
    const auto g = *reinterpret_cast<const Pack<T>*>(gradient + row + at);
    Pack<T> o;
    for (int i = 0; i < kSize; ++i) {
      const float n = static_cast<float>(in.at[i]) * inverse;
      o.at[i] = static_cast<T>(inverse * (static_cast<float>(g.at[i]) * static_cast<float>(w.at[i]) - n * mean));
    }
    *reinterpret_cast<Pack<T>*>(d_x + row + at) = o;
  }
}

/// d_weight[group] = the sum over the group's rows of gradient · x · inverse, row after row. A thread has one piece of the columns of one
/// group; `column_blocks`: blocks of the grid that a group takes.
template <class T>
static __global__ void rms_norm_weight_backward(const T* x, const float* inverses, const T* gradient, float* d_weight,
                                                std::int64_t rows, std::int64_t width, std::int64_t column_blocks,
                                                std::int64_t rows_a_group) {
  constexpr int kSize = Pack<T>::kSize;
  const std::int64_t group = blockIdx.x / column_blocks;
  const std::int64_t at = (blockIdx.x % column_blocks * kFusedThreads + threadIdx.x) * kSize;
  if (at >= width) return;
  float sums[kSize];
  for (int i = 0; i < kSize; ++i) sums[i] = 0;
  const std::int64_t end = (group + 1) * rows_a_group < rows ? (group + 1) * rows_a_group : rows;
  for (std::int64_t row = group * rows_a_group; row < end; ++row) {
    const auto in = *reinterpret_cast<const Pack<T>*>(x + row * width + at);
    const auto g = *reinterpret_cast<const Pack<T>*>(gradient + row * width + at);
    for (int i = 0; i < kSize; ++i) sums[i] += static_cast<float>(g.at[i]) * (static_cast<float>(in.at[i]) * inverses[row]);
  }
  for (int i = 0; i < kSize; ++i) d_weight[group * width + at + i] = sums[i];
}

/// A thread turns one piece of a first half and the piece of the second half that rotates with it. `pieces`: those of a half, of all heads
/// of all tokens.
template <class T>
static __global__ void rotate_halves(const T* x, const T* cosine, const T* sine, T* out, std::int64_t pieces, std::int64_t heads,
                                     std::int64_t tokens, std::int64_t head_width, bool back) {
  constexpr int kSize = Pack<T>::kSize;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x) * kFusedThreads + threadIdx.x;
  if (piece >= pieces) return;
  const std::int64_t half = head_width / 2, each = half / kSize;  // pieces of a half
  const std::int64_t head = piece / each, in_half = piece % each * kSize;
  const std::int64_t low_at = head * head_width + in_half, table_at = head / heads % tokens * head_width + in_half;
  const auto low = *reinterpret_cast<const Pack<T>*>(x + low_at), high = *reinterpret_cast<const Pack<T>*>(x + low_at + half);
  const auto cos_low = *reinterpret_cast<const Pack<T>*>(cosine + table_at);
  const auto cos_high = *reinterpret_cast<const Pack<T>*>(cosine + table_at + half);
  const auto sin_low = *reinterpret_cast<const Pack<T>*>(sine + table_at);
  const auto sin_high = *reinterpret_cast<const Pack<T>*>(sine + table_at + half);
  Pack<T> out_low, out_high;
  for (int i = 0; i < kSize; ++i) {
    const float a = static_cast<float>(low.at[i]), b = static_cast<float>(high.at[i]);
    const float sine_of_b = static_cast<float>(back ? sin_high.at[i] : sin_low.at[i]);
    const float sine_of_a = static_cast<float>(back ? sin_low.at[i] : sin_high.at[i]);
    out_low.at[i] = static_cast<T>(rounded<T>(a * static_cast<float>(cos_low.at[i])) + rounded<T>(b * sine_of_b));
    out_high.at[i] = static_cast<T>(rounded<T>(b * static_cast<float>(cos_high.at[i])) + rounded<T>(a * sine_of_a));
  }
  *reinterpret_cast<Pack<T>*>(out + low_at) = out_low;
  *reinterpret_cast<Pack<T>*>(out + low_at + half) = out_high;
}

/// A thread has four neighbouring features of a token, the words of one philox(). See dropout.h.
template <class T>
static __global__ void drop(const T* x, T* out, std::int64_t rows, std::int64_t width, std::uint32_t threshold, float scale,
                            std::int64_t first_token, std::uint32_t site, std::uint64_t seed) {
  const std::int64_t fours = (width + 3) / 4, thread = static_cast<std::int64_t>(blockIdx.x) * kFusedThreads + threadIdx.x;
  if (thread >= rows * fours) return;
  const std::int64_t row = thread / fours, four = thread % fours;
  const auto token = static_cast<std::uint64_t>(first_token + row);
  const PhiloxWords words = philox(
      {{static_cast<std::uint32_t>(token), static_cast<std::uint32_t>(token >> 32), static_cast<std::uint32_t>(four), site}},
      seed);
  for (std::int64_t i = 0; i < 4 && 4 * four + i < width; ++i) {
    const std::int64_t at = row * width + 4 * four + i;
    out[at] = words.at[i] < threshold ? static_cast<T>(0.0f) : static_cast<T>(static_cast<float>(x[at]) * scale);
  }
}

/// The largest of some numbers, and the sum of e^(number - largest), where NaN shows; of nothing but -∞ the sum is 0.
struct LogSum {
  float most;
  float sum;
};
static __device__ LogSum of_nothing() { return {-INFINITY, 0.0f}; }
static __device__ LogSum joined(const LogSum& a, const LogSum& b) {
  const float most = fmaxf(a.most, b.most);
  if (most == -INFINITY) return {most, a.sum + b.sum};  // -∞ - -∞ would be NaN
  return {most, a.sum * expf(a.most - most) + b.sum * expf(b.most - most)};
}

template <class T, int kEach>
struct alignas(sizeof(T) * kEach) Piece {
  T at[kEach];
};

/// One block of the grid a token. kEach: neighbouring classes that a thread reads at once; V must be a multiple of it.
/// The gradient is softmax · (1 + 2z · logsumexp) − (1 − smoothing) · [class = target] − smoothing / classes.
template <class T, int kEach>
static __global__ void cross_entropy(T* logits, const std::int64_t* targets, float* losses, std::int64_t classes,
                                     bool with_gradient, float smoothing, float z) {
  __shared__ LogSum parts[kFusedThreads];
  T* const row = logits + static_cast<std::int64_t>(blockIdx.x) * classes;
  const std::int64_t target = targets[blockIdx.x];
  const int me = static_cast<int>(threadIdx.x);
  LogSum mine = of_nothing();
  for (std::int64_t at = static_cast<std::int64_t>(me) * kEach; at < classes; at += std::int64_t{kFusedThreads} * kEach) {
    const auto piece = *reinterpret_cast<const Piece<T, kEach>*>(row + at);
    LogSum here = of_nothing();
    for (int i = 0; i < kEach; ++i) here.most = fmaxf(here.most, static_cast<float>(piece.at[i]));
    for (int i = 0; i < kEach; ++i) {
      const float logit = static_cast<float>(piece.at[i]);
      here.sum += here.most == -INFINITY && logit == -INFINITY ? 0.0f : expf(logit - here.most);
    }
    mine = joined(mine, here);
  }
  parts[me] = mine;
  for (int half = kFusedThreads / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (me < half) parts[me] = joined(parts[me], parts[me + half]);
  }
  __syncthreads();
  const LogSum all = parts[0];
  // The target's logit is read before any thread writes.
  if (me == 0) losses[blockIdx.x] = logf(all.sum) - (static_cast<float>(row[target]) - all.most);
  __syncthreads();
  if (!with_gradient) return;
  const float inverse = 1.0f / all.sum, of_share = 1.0f + 2.0f * z * (all.most + logf(all.sum));
  const float of_target = 1.0f - smoothing, of_each = smoothing / static_cast<float>(classes);
  for (std::int64_t at = static_cast<std::int64_t>(me) * kEach; at < classes; at += std::int64_t{kFusedThreads} * kEach) {
    auto piece = *reinterpret_cast<const Piece<T, kEach>*>(row + at);
    for (int i = 0; i < kEach; ++i) {
      const float share = expf(static_cast<float>(piece.at[i]) - all.most) * inverse;
      piece.at[i] = static_cast<T>(share * of_share - (at + i == target ? of_target : 0.0f) - of_each);
    }
    *reinterpret_cast<Piece<T, kEach>*>(row + at) = piece;
  }
}

}  // namespace trainyard::model
