#pragma once
// Runs CUDA kernels on a CPU, so that their arithmetic is tested where there is no GPU: the threads of a block are threads, the blocks
// of a grid come one after the other, shared memory is static. Include it before the .cuh file with the kernels, in one source alone.

#include <barrier>
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

}  // namespace trainyard::cuda_on_cpu

// The words of CUDA that the kernels use.
// NOLINTBEGIN(bugprone-reserved-identifier)
#define __global__
#define __device__
#define __shared__ static
#define __syncthreads() trainyard::cuda_on_cpu::block_barrier->arrive_and_wait()
// NOLINTEND(bugprone-reserved-identifier)
#define threadIdx trainyard::cuda_on_cpu::thread_index
#define blockIdx trainyard::cuda_on_cpu::block_index
