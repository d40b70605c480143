#pragma once
// AdamW with decoupled weight decay. Source: Loshchilov and Hutter, arXiv:1711.05101.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/host_link.h"
#include "worker/optim/adamw_numbers.h"
#include "worker/optim/adamw_tensors.h"

namespace trainyard::optim {

class Cores;
class OffloadedAdamW;

/// A tensor that is trained. Matrices decay; norms (tensors of one dimension) do not, as is usual for language models:
/// torch.optim.AdamW decays all unless it is given such parameter groups.
struct Trained {
  at::Tensor master;  // FP32
  bool decays = true;
  at::Tensor weight;  // copy that forward reads, of the master's shape: BF16 or FP16, offloaded also FP32; may be undefined
  /// plan::moment_segment(): how its moments are cut into blocks where moments are kept in codes of 8 bits; 0: they stay in FP32.
  std::int64_t segment = 0;
};

/// Where masters, moments and gradients lie in the host's memory: the way there, and whether the weights lie there too.
struct HostSide {
  mesh::HostLink* link = nullptr;
  bool weights = false;
};

/// The same operations in the same order as torch.optim.AdamW of one group for matrices and one for norms, with foreach and fused off
/// (torch/optim/adam.py, _single_tensor_adam), so that FP32 results are equal bit for bit. Works on shards as on whole tensors, since
/// every operation is element by element. Moments that are kept in BF16 or in codes (worker/plan/moments.h) are rounded at the end of
/// each step; with codes, a CPU's cores share the step. On a GPU one kernel does all of it (adamw_kernels.h), within 1 ulp of these
/// results.
/// Lives on the training thread.
class AdamW {
 public:
  /// `states`: the type of the moments between steps, FP32 or BF16; a byte: codes, where a tensor has a segment.
  AdamW(contract::Optimizer options, std::vector<Trained> trained, at::ScalarType states = at::kFloat);
  /// Offloaded: the CPU computes it (offloaded_adamw.h). `host.link` must outlive it.
  AdamW(contract::Optimizer options, std::vector<Trained> trained, const HostSide& host, at::ScalarType states = at::kFloat);
  ~AdamW();
  AdamW(AdamW&&) noexcept;

  /// One step: `gradients` has one FP32 tensor for each trained one, in their order. They count times `gradient_scale`, rounded to FP32,
  /// for clipping: on a CPU they may be changed so; on a GPU and offloaded they stay as they are, since that would cost a pass. Offloaded
  /// they are on the host.
  void step(const std::vector<at::Tensor>& gradients, double learning_rate, double gradient_scale = 1.0);

  /// Whether step() also gives the trained tensors' weights their new values: on a GPU and offloaded, where that costs no pass of its own.
  bool writes_weights() const;

  /// Steps done. Part of a checkpoint's state, as are the moments.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// First and second moments, in the order of the trained tensors; zero at first.
  const std::vector<at::Tensor>& averages() const { return averages_; }
  const std::vector<at::Tensor>& squares() const { return squares_; }
  /// Of moments in codes the scales of their blocks [rows, blocks of a row], FP32; of others undefined.
  const std::vector<at::Tensor>& average_scales() const { return average_scales_; }
  const std::vector<at::Tensor>& square_scales() const { return square_scales_; }

 private:
  using Memory = std::function<at::Tensor(const Trained& of, at::IntArrayRef sizes, at::ScalarType type)>;
  void make_moments(at::ScalarType states, const Memory& memory);
  AdamWTensors tensors_of(std::size_t i, const at::Tensor& gradient) const;
  void step_in_codes(const std::vector<AdamWTensors>& tensors, const std::vector<AdamWNumbers>& numbers);

  contract::Optimizer options_;
  std::vector<Trained> trained_;
  std::vector<at::Tensor> averages_, squares_;
  std::vector<at::Tensor> average_scales_, square_scales_;
  std::unique_ptr<OffloadedAdamW> offloaded_;  // null where masters are on the device
  std::unique_ptr<Cores> cores_;               // where moments are in codes, and masters on a CPU that is the device
  std::int64_t steps_ = 0;
};

/// Of step `step`, counted from 1.
AdamWNumbers adamw_numbers(const contract::Optimizer& options, std::int64_t step, double learning_rate, bool decays);

}  // namespace trainyard::optim
