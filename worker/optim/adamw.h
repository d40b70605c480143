#pragma once
// AdamW with decoupled weight decay. Source: Loshchilov and Hutter, arXiv:1711.05101.

#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"

namespace trainyard::optim {

/// A tensor that is trained. Matrices decay; norms (tensors of one dimension) do not, as is usual for language models:
/// torch.optim.AdamW decays all unless it is given such parameter groups.
struct Trained {
  at::Tensor master;  // FP32
  bool decays = true;
};

/// The same operations in the same order as torch.optim.AdamW of one group for matrices and one for norms, with foreach and fused off
/// (torch/optim/adam.py, _single_tensor_adam), so that FP32 results are equal bit for bit. Works on shards as on whole tensors, since
/// every operation is element by element. Lives on the training thread.
class AdamW {
 public:
  AdamW(contract::Optimizer options, std::vector<Trained> trained);

  /// One step: `gradients` has one FP32 tensor for each trained one, in their order.
  void step(const std::vector<at::Tensor>& gradients, double learning_rate);

  /// Steps done. Part of a checkpoint's state, as are the moments.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// First and second moments, FP32, in the order of the trained tensors; zero at first.
  const std::vector<at::Tensor>& averages() const { return averages_; }
  const std::vector<at::Tensor>& squares() const { return squares_; }

 private:
  contract::Optimizer options_;
  std::vector<Trained> trained_;
  std::vector<at::Tensor> averages_;
  std::vector<at::Tensor> squares_;
  std::int64_t steps_ = 0;
};

}  // namespace trainyard::optim
