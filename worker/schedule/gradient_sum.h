#pragma once
// How a step's gradients are added up: over the micro-batches of a rank, then over the data-parallel ranks (docs/numerics.md).

#include <functional>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/comm.h"
#include "worker/plan/balanced_sum.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::schedule {

/// The gradients of one or of many micro-batches, one tensor a leaf, and last the loss. Every summand has the same shapes. Sums are FP32; a
/// micro-batch's own gradients may still be of the compute type, since they turn into FP32, exactly, as they are added: no pass of its own.
using Summand = std::vector<at::Tensor>;

/// Adds `right` to `left`, which is FP32 and which it may change, tensor by tensor.
Summand joined(Summand left, const Summand& right);

/// Over the micro-batches of one rank. Fast adds them one after the other; Canonical by a balanced tree over their index, at the cost of
/// keeping log2(n) + 1 partial sums.
class GradientSum {
 public:
  explicit GradientSum(contract::Reduction reduction);
  /// Micro-batch after micro-batch; takes the tensors over.
  void add(Summand summand);
  /// The sum of all that was added, at least one; empties this object.
  Summand take();

 private:
  contract::Reduction reduction_;
  Summand running_;
  plan::BalancedSum<Summand, std::function<Summand(Summand, Summand)>> tree_;
};

/// One behind the other, in one tensor of its own.
at::Tensor flattened(const Summand& sum);

/// By a balanced tree over their index. May change all of them.
at::Tensor tree_sum(std::vector<at::Tensor> summands);

/// Over the ranks of a group, in place. Fast is one all-reduce of everything, in the order that the backend chooses. Canonical gathers
/// `chunk_elements` at a time and adds the ranks' parts by the balanced tree: with GradientSum, the same bits as one rank that had all
/// micro-batches, where both the ranks and the micro-batches a rank are powers of two.
void reduce_over(mesh::Comm& group, contract::Reduction reduction, Summand& sum,
                 std::int64_t chunk_elements = plan::kGatheredElements);

}  // namespace trainyard::schedule
