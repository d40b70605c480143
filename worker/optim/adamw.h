#pragma once
// AdamW with decoupled weight decay. Source: Loshchilov and Hutter, arXiv:1711.05101.

#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/optim/adamw_numbers.h"

namespace trainyard::optim {

/// A tensor that is trained. Matrices decay; norms (tensors of one dimension) do not, as is usual for language models:
/// torch.optim.AdamW decays all unless it is given such parameter groups.
struct Trained {
  at::Tensor master;  // FP32
  bool decays = true;
  at::Tensor weight;  // BF16 or FP16 copy that forward reads, of the master's shape; may be undefined
};

/// The same operations in the same order as torch.optim.AdamW of one group for matrices and one for norms, with foreach and fused off
/// (torch/optim/adam.py, _single_tensor_adam), so that FP32 results are equal bit for bit. Works on shards as on whole tensors, since
/// every operation is element by element. On a GPU one kernel does all of it (adamw_kernels.h), within the last bits of these results.
/// Lives on the training thread.
class AdamW {
 public:
  AdamW(contract::Optimizer options, std::vector<Trained> trained);

  /// One step: `gradients` has one FP32 tensor for each trained one, in their order. They count times `gradient_scale`, rounded to FP32,
  /// for clipping: on a CPU they are changed so, on a GPU they stay as they are, since that would cost a pass.
  void step(const std::vector<at::Tensor>& gradients, double learning_rate, double gradient_scale = 1.0);

  /// Whether step() also gives the trained tensors' weights their new values: on a GPU alone, where that costs no pass of its own.
  bool writes_weights() const;

  /// Steps done. Part of a checkpoint's state, as are the moments.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// First and second moments, FP32, in the order of the trained tensors; zero at first.
  const std::vector<at::Tensor>& averages() const { return averages_; }
  const std::vector<at::Tensor>& squares() const { return squares_; }

 private:
  void step_by_operations(std::size_t i, const at::Tensor& gradient, double learning_rate);
  void step_by_kernel(std::size_t i, const at::Tensor& gradient, double learning_rate, double gradient_scale);
  /// 1 - beta^steps: what the averages lack of their full weight.
  double correction(double beta) const;

  contract::Optimizer options_;
  std::vector<Trained> trained_;
  std::vector<at::Tensor> averages_;
  std::vector<at::Tensor> squares_;
  std::int64_t steps_ = 0;
};

/// Of step `step`, counted from 1.
AdamWNumbers adamw_numbers(const contract::Optimizer& options, std::int64_t step, double learning_rate, bool decays);

}  // namespace trainyard::optim
