#pragma once
// Computes again in the backward pass what a part of the model would else keep for it: memory for time, by autograd's own graph.
// Source: Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174; as torch.utils.checkpoint with
// use_reentrant=False.
//
// Every tensor that autograd would keep for backward passes a hook. Inside of a block it keeps none, but a place in a list. The first
// tensor that backward then asks for runs the block again, from its inputs, until the list is full: no operation runs again after the
// last one that something was kept of, so that a block which ends in a product with a weight does not multiply twice. The graph of the first
// run stays, so gradients are the same bits wherever operations are deterministic.

#include <functional>
#include <vector>

#include <ATen/ATen.h>

namespace trainyard::model {

using Tensors = std::vector<at::Tensor>;
/// A part of the model: a function of its arguments and of parameters, and of nothing that changes between forward and backward. What it
/// refers to lives until the backward pass is over. A block runs within no other.
using Block = std::function<Tensors(const Tensors&)>;

/// block(inputs), of which only `inputs` are kept for backward, by the keeper of the thread where it has one (saved_tensors.h). Where no
/// gradients are recorded, just block(inputs).
/// Collectives of the block are called again in the backward pass, by the ranks of a group alike, since all run the same graph.
Tensors recomputed(const Block& block, const Tensors& inputs);

/// Of a block: says that the operation that comes next will keep `tensor`, before it begins. An autograd function of our own keeps its
/// tensors when it is done; a second run that ends for want of this tensor alone would do it for nothing.
void keep_first(const at::Tensor& tensor);

}  // namespace trainyard::model
