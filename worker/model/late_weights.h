#pragma once
// A backward pass in two halves, for zero-bubble pipelines: first the gradients that the stage before waits for, later those of the
// weights. Source: Qi et al., arXiv:2401.10241, section 2.

#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "worker/mesh/comm.h"

namespace trainyard::model {

/// Linear layers whose backward pass gives the gradient of their input alone, and keeps here what that of their weight is made of.
/// Letters: M rows, K inputs, N outputs. Lives on the training thread; must outlive the graphs of its layers.
class LateWeights {
 public:
  /// The gradient of a weight that was not computed yet: gradient_MN, transposed, times x_MK.
  struct Product {
    at::Tensor weight_NK;  // the variable
    at::Tensor gradient_MN;
    at::Tensor x_MK;
    mesh::Comm* shared_among = nullptr;  // x_MK is this rank's shard of the rows, which are gathered first (sequence_parallel.h)
  };

  LateWeights() = default;
  LateWeights(const LateWeights&) = delete;
  LateWeights& operator=(const LateWeights&) = delete;

  /// at::linear without a bias, to the bit, forward and backward. `x` [..., K]; `weight_NK` a leaf.
  at::Tensor linear(const at::Tensor& x, const at::Tensor& weight_NK);

  /// What the backward passes since the last call kept, in the order in which they came to it.
  std::vector<Product> take() { return std::exchange(products_, {}); }

  /// Computes the gradients and adds them to their variables' grad(). Where products have shards it is collective among the ranks that share
  /// them; of products that follow each other and have one shard it is gathered once.
  static void finish(std::vector<Product> products);

  void keep(Product product) { products_.push_back(std::move(product)); }

 private:
  std::vector<Product> products_;
};

}  // namespace trainyard::model
