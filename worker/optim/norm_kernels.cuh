#pragma once
// The two sums of the gradient norm on a GPU, bit for bit those of the CPU (docs/numerics.md): the order of the additions is the
// definition's, and the square of an FP32 number is exact in FP64, so that a fused multiply-add cannot round otherwise either.
// Static: a test that compiles them for the CPU must not be linked with the GPU's.

#include "worker/optim/norm_cut.h"

namespace trainyard::optim {

/// Threads a block of the grid, in both kernels. A power of two that divides kNormBlock.
inline constexpr int kNormThreads = 256;

/// Adds the second half of `values` to the first until one is left. All threads of the block call it; `values` is shared memory.
static __device__ void halve(double* values, int count) {
  for (int half = count / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) values[threadIdx.x] += values[threadIdx.x + half];
  }
}

/// sums[b] = the halving sum of the squares of block b of the unsharded tensor; what is not on this rank counts as zero. One block of
/// the grid a block of the tensor. A thread holds the elements t, t + 256, t + 512, …: the first four halvings need no other thread.
static __global__ void sum_blocks(const float* gradient, NormCut cut, double* sums) {
  constexpr int kEach = static_cast<int>(kNormBlock) / kNormThreads;
  __shared__ double rest[kNormThreads];
  double squares[kEach];
  for (int i = 0; i < kEach; ++i) {
    const std::int64_t place = cut.place_of(blockIdx.x * kNormBlock + i * kNormThreads + threadIdx.x);
    const double value = place < 0 ? 0.0 : gradient[place];
    squares[i] = value * value;
  }
  for (int half = kEach / 2; half >= 1; half /= 2) {
    for (int i = 0; i < half; ++i) squares[i] += squares[i + half];
  }
  rest[threadIdx.x] = squares[0];
  halve(rest, kNormThreads);
  if (threadIdx.x == 0) sums[blockIdx.x] = rest[0];
}

/// *sum = the halving sum of `values`, which it overwrites. One block of the grid: a tensor of a billion elements has 244,141 blocks.
/// As long as the half is a multiple of the threads, a thread adds only to what it wrote itself, so nobody waits.
static __global__ void sum_halving(double* values, std::int64_t count, double* sum) {
  __shared__ double rest[kNormThreads];
  std::int64_t half = 1;
  while (2 * half < count) half *= 2;
  for (; half >= kNormThreads; half /= 2) {
    for (std::int64_t i = threadIdx.x; i < half; i += kNormThreads) values[i] += i + half < count ? values[i + half] : 0.0;
    if (half < count) count = half;
  }
  rest[threadIdx.x] = threadIdx.x < count ? values[threadIdx.x] : 0.0;
  halve(rest, kNormThreads);
  if (threadIdx.x == 0) *sum = rest[0];
}

}  // namespace trainyard::optim
