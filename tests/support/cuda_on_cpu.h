#pragma once
// Runs CUDA kernels on a CPU, so that their arithmetic is tested where there is no GPU: the threads of a block are threads, the blocks
// of a grid come one after the other, shared memory is static, and a warp's lanes wait for each other with the whole block. Include it
// before the .cuh file with the kernels, in one source alone.

#include <barrier>
#include <bit>
#include <cstdint>
#include <thread>
#include <vector>

namespace trainyard::cuda_on_cpu {

struct Index {
  unsigned x = 0;
};

inline thread_local Index thread_index;
inline thread_local Index block_index;
inline thread_local std::barrier<>* block_barrier = nullptr;

/// kernel(...) for a grid of `blocks` blocks of `threads` threads.
template <class Kernel>
void launch(unsigned blocks, unsigned threads, Kernel kernel) {
  std::barrier barrier(static_cast<std::ptrdiff_t>(threads));
  std::vector<std::jthread> block;
  for (unsigned thread = 0; thread < threads; ++thread) {
    block.emplace_back([&, thread] {
      thread_index.x = thread;
      block_barrier = &barrier;
      for (block_index.x = 0; block_index.x < blocks; ++block_index.x) {
        kernel();
        barrier.arrive_and_wait();
      }
    });
  }
}

/// What the lane has whose number differs in the bits of `lanes`. All threads of the block call it.
inline std::uint32_t shuffle_xor(std::uint32_t value, int lanes) {
  static std::uint32_t of_thread[1024];
  of_thread[thread_index.x] = value;
  block_barrier->arrive_and_wait();
  const std::uint32_t other = of_thread[thread_index.x ^ static_cast<unsigned>(lanes)];
  block_barrier->arrive_and_wait();
  return other;
}

}  // namespace trainyard::cuda_on_cpu

// The words of CUDA that the kernels use.
// NOLINTBEGIN(bugprone-reserved-identifier)
#define __global__
#define __device__
#define __shared__ static
#define __syncthreads() trainyard::cuda_on_cpu::block_barrier->arrive_and_wait()
#define __shfl_xor_sync(mask, value, lanes) trainyard::cuda_on_cpu::shuffle_xor(value, lanes)
#define __float_as_uint(number) std::bit_cast<std::uint32_t>(number)
#define __uint_as_float(bits) std::bit_cast<float>(bits)
// NOLINTEND(bugprone-reserved-identifier)
#define threadIdx trainyard::cuda_on_cpu::thread_index
#define blockIdx trainyard::cuda_on_cpu::block_index
