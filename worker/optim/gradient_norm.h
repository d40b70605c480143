#pragma once
// The norm of all gradients, defined so that it does not depend on the layout, and clipping by it.
//
// Definition (docs/numerics.md): each element is squared in FP64, which is exact. A tensor is cut into blocks of 4,096 consecutive
// elements of the unsharded tensor, the last one filled up with zeros. A block's sum, and the sum of a tensor's blocks (filled up to a
// power of two), are halving sums: as long as there is more than one number, the second half is added to the first, element by
// element. The tensors' sums are added one after the other in name order; the norm is the square root.

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/mesh.h"
#include "worker/optim/adamw_on_cpu.h"
#include "worker/optim/norm_cut.h"
#include "worker/plan/parameters.h"

namespace trainyard::optim {

/// `box` as plain numbers; tensor parallelism cuts one dimension at the most.
NormCut norm_cut(const plan::Parameter& parameter, const plan::Box& box);

/// One FP64 sum of squares a block of the unsharded tensor, [ceil(elements / 4096)] on the gradient's device; elements outside of the
/// box count as zero, so that the sums of parts that cover the tensor add up to the whole's. On a CPU `cores` share them, if given.
at::Tensor block_sums(const at::Tensor& gradient, const plan::Parameter& parameter, const plan::Box& box, Cores* cores = nullptr);

/// The same, where the box may be a shard: only some rows of what tensor parallelism has cut, between two places of
/// plan::rows_between_cuts() or the ends. Blocks that it has nothing of are zero.
at::Tensor block_sums_of_shard(const at::Tensor& gradient, const plan::Parameter& parameter, const plan::Box& box,
                               Cores* cores = nullptr);

/// The halving sum of a vector, an FP64 scalar on its device. On a GPU both are kernels, and equal to the CPU's bit for bit.
at::Tensor halving_sum(const at::Tensor& values);

/// A parameter of this rank.
struct NormPart {
  std::size_t index = 0;  // in `all`
  plan::Box box;          // with shards over the data ranks: rows as worker/plan/shards.h cuts them, or none
};

/// Lives on the training thread; the mesh must outlive it.
class GradientNorm {
 public:
  /// `all`: the parameters of the whole model in name order; `parts`: those of this rank.
  /// `reduction`: Canonical adds up the tensor ranks' blocks in rank order, Fast as the backend does. `sharded`: data ranks have shards of the same parameters, not copies. `on_host`: gradients lie in the host's memory, whatever the
  /// mesh's device; the CPU's cores share the blocks, and their sums alone go to the device.
  GradientNorm(std::vector<plan::Parameter> all, std::vector<NormPart> parts, mesh::Mesh& mesh, contract::Reduction reduction,
               bool sharded = false, bool on_host = false);

  struct Measured {
    double norm = 0.0;
    double loss = 0.0;
  };
  /// Collective over the tensor-parallel and the pipeline group: of a tensor that is cut, the blocks' sums are added over the ranks.
  /// Of shards the data ranks' too, each block of which one data rank has whole: the same bits. `gradients` belong to the parts, and are
  /// equal on all data-parallel ranks that have the same. `loss` is a scalar that is 0 on all stages but one; its
  /// sum over the stages comes to the host in the same copy as the norm, since each copy makes the host wait for the GPU.
  Measured measure(const std::vector<at::Tensor>& gradients, const at::Tensor& loss);

 private:
  void add_over_tensor_ranks(at::Tensor& flat);

  std::vector<plan::Parameter> all_;
  std::vector<NormPart> parts_;
  mesh::Mesh& mesh_;
  contract::Reduction reduction_;
  bool sharded_;
  std::unique_ptr<Cores> cores_;  // null where gradients are on the device
};

/// min(1, max_norm / (norm + 1e-6)) in FP64, as torch.nn.utils.clip_grad_norm_ has it; not a number where the norm is none.
double clip_coefficient(double norm, double max_norm);

/// Multiplies all by the coefficient, rounded to FP32.
void scale(const std::vector<at::Tensor>& gradients, double coefficient);

}  // namespace trainyard::optim
