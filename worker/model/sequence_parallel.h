#pragma once
// Sequence parallelism: between its products the ranks of a tensor-parallel group share a micro-batch's tokens instead of doing all of it
// on every rank: norms, dropout, the residual stream, and what these keep for the backward pass.
//
//   shard ─ gather ─> whole · columns ─ attention or SwiGLU ─> · rows ─> partial sums ─ reduce-scatter ─> shard
//
// Letters: B sequences, T tokens, D model width, t ranks, S = T / t. A shard is [B, S, D]: of the micro-batch's B·T tokens, row after row,
// rank r has those from r·B·S on. So whatever is gathered is the shards one behind the other, and no copy puts it in order. (Megatron-LM cuts
// each sequence, and has the tokens' dimension first, to the same end.)
// Source: Korthikanti et al., "Reducing activation recomputation in large transformer models", arXiv:2205.05198, section 4.2.

#include <optional>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/comm.h"
#include "worker/model/late_weights.h"

namespace trainyard::model {

/// The ranks' shards put together: the dimension before the last grows t times. Not differentiable.
at::Tensor gathered(const at::Tensor& shard, mesh::Comm& comm);

/// Where row-parallel products, or the look-up, leave partial sums: forward gives each rank its shard of the sum over the ranks; backward
/// gathers.   x_BTD contiguous   return [B, S, D]
at::Tensor leave_to_shards(const at::Tensor& x_BTD, mesh::Comm& comm);

/// How products with weights are made; at most one of the two.
struct Multiplying {
  std::optional<contract::Fp8Recipe> fp8;  // fp8.h
  LateWeights* late = nullptr;             // takes what the gradients of the weights are made of; must outlive the graph
};

/// The column-parallel products of the whole activation with each of `weights`, [B, T, rows of the weight]. What is kept for backward is the shard: it
/// gathers again, beside the products that give the gradient of the input, and sends the sum of that to the ranks' shards beside those that
/// give the weights' gradients. The same bits, forward and backward, as enter_parallel() and a product for each weight, the last weight's
/// gradient of the input first, where the ranks' sums are in the same order.
///   x_BSD; `weights` leaves
std::vector<at::Tensor> gather_and_multiply(const at::Tensor& x_BSD, const std::vector<at::Tensor>& weights, mesh::Comm& comm,
                                            const Multiplying& how);

}  // namespace trainyard::model
