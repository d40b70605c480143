#pragma once
// AdamW's step on a CPU: torch.optim.AdamW's operations one by one, so that results are PyTorch's to the bit. In pieces that stay in a
// core's cache the operations pass over memory once instead of eight times, and pieces need not wait for each other.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/optim/adamw_numbers.h"
#include "worker/optim/adamw_tensors.h"

namespace c10 {
class ThreadPool;
}

namespace trainyard::optim {

/// Elements of a piece: 16 bytes each, with the temporary 20, of a core's second cache. So few that an operation is of one thread.
inline constexpr std::int64_t kAdamWPiece = 1 << 14;

/// The same of moments in codes of 8 bits: whole segments, and where vectors end is where they end in the whole tensor. 0: in no codes.
std::int64_t adamw_piece(std::int64_t segment);

/// Elements of all tensors, seen as vectors. `first` is a multiple of adamw_piece(tensors.segment), as is `count` but for the last one's.
AdamWTensors some_of(const AdamWTensors& tensors, std::int64_t first, std::int64_t count);

/// As AdamW::step() of adamw.h has them, of the gradient times numbers.gradient_scale, which the gradient then is. Moments in BF16 or codes
/// are made FP32 before, and rounded to the nearest after, in BF16 ties to even.
void adamw_step_on_cpu(const AdamWTensors& tensors, const AdamWNumbers& numbers);

/// The cores that train for a while at something else than LibTorch's operations. at::parallel_for is a plain loop in a program that is
/// not compiled for OpenMP. Lives on the training thread.
class Cores {
 public:
  /// at::get_num_threads() of them, the caller's included.
  Cores();
  ~Cores();
  Cores(const Cores&) = delete;
  Cores& operator=(const Cores&) = delete;

  /// Calls task(0) to task(count - 1), in any order, each on one core, without recording gradients; returns when all are done. Throws
  /// what one of them threw, once the others are done or called off.
  void share(std::int64_t count, const std::function<void(std::int64_t)>& task);

 private:
  std::int64_t others_;
  std::unique_ptr<c10::ThreadPool> pool_;  // null where there is one core
};

}  // namespace trainyard::optim
