#pragma once
// The four places at which ranks of a tensor-parallel group exchange something, as differentiable functions. On a group of one rank
// they are not called: the model then runs the same operations as a model without parallelism.
// Source: Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3.

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/comm.h"

namespace trainyard::model {

/// Where whole activations enter column-parallel products: the same forward; backward sums the ranks' gradients.
at::Tensor enter_parallel(const at::Tensor& x, mesh::Comm& comm);

/// Where row-parallel products leave partial sums: forward sums them, in `x` itself, which must be contiguous and nobody else's; the same
/// backward.
at::Tensor leave_parallel(const at::Tensor& x, mesh::Comm& comm);

/// Looks up rows [first_row, first_row + weight.size(0)) of the embedding, the rows that this rank has.
///   tokens_BT int64, weight_VD   return [B, T, D], 0 for other tokens: to be left as the partial sums of row-parallel products are
at::Tensor vocabulary_parallel_embedding(const at::Tensor& tokens_BT, const at::Tensor& weight_VD, std::int64_t first_row);

/// The sum over tokens of −ln softmax(logits)[target], where this rank has the logits of [first_class, first_class + logits.size(1)) of
/// `num_classes`.
///   logits_NV FP32, targets_N int64   return a scalar, equal on every rank
/// With `terms` its gradient is that of head_loss.h's loss_of_logits(), for no exchange more.
at::Tensor vocabulary_parallel_cross_entropy(const at::Tensor& logits_NV, const at::Tensor& targets_N, std::int64_t first_class,
                                             std::int64_t num_classes, mesh::Comm& comm, const contract::Loss& terms = {});

}  // namespace trainyard::model
