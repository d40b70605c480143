#pragma once
// This rank's parameters: its box of each tensor that its stage holds.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/mesh.h"
#include "worker/model/sharded_weights.h"
#include "worker/plan/parameters.h"

namespace trainyard::model {

struct LocalParameter {
  plan::Parameter global;
  plan::Box box;      // what this rank keeps of it: at a ZeRO stage above 0 a shard, which may have no rows
  at::Tensor master;  // [box.sizes] FP32: what the optimizer changes and checkpoints hold; with offload.optimizer on the host
};

/// A variable of autograd's graph, which forward reads and in whose grad() a backward pass leaves its result. In FP32 it shares the
/// master's memory, else it is a copy. A tied embedding that one rank both looks up and multiplies with has two, so that its two
/// gradients are summed over micro-batches and ranks apart, and added last (docs/numerics.md).
struct Leaf {
  std::size_t parameter = 0;  // index into Parameters::all()
  at::Tensor variable;
};

/// Lives on the training thread.
class Parameters {
 public:
  /// Allocates on the mesh's device, and what zero.offload says on its host; values are undefined until initialize() or a checkpoint fills
  /// the masters.
  Parameters(const contract::TrainingJobSpec& spec, mesh::Mesh& mesh);

  /// Fills the masters with the initial values of `seed`.
  void initialize(std::int64_t seed);
  /// Copies the masters to the variables, where these are not the same memory. After every change of the masters. With ZeRO it is
  /// collective over the data ranks, as initialize() is then.
  void refresh();
  /// The rest of refresh(), where the optimizer has given all weights their new values itself. Collective as refresh() is.
  void gather();

  /// In name order.
  std::vector<LocalParameter>& all() { return all_; }
  const std::vector<LocalParameter>& all() const { return all_; }
  /// In the order of all(); of a tied embedding the look-up's leaf stands before the head's.
  std::vector<Leaf>& leaves() { return leaves_; }
  const std::vector<Leaf>& leaves() const { return leaves_; }

  /// The variable of a parameter of this stage. Throws std::out_of_range, naming it, where there is none.
  const at::Tensor& variable(const std::string& name) const;
  /// What the last stage multiplies with: lm_head.weight, or the tied embedding's leaf of the head.
  const at::Tensor& head() const;
  /// With zero.offload.optimizer: of each of all(), this rank's rows in the type that forward reads. On the device, at stages up to 2 a
  /// part of the variable; with zero.offload.parameters on the host, in FP32 the master itself. Else empty.
  const std::vector<at::Tensor>& weights() const { return weights_; }
  /// Null at ZeRO stage 0.
  ShardedWeights* sharded() const { return sharded_.get(); }
  /// The place in all(). Throws std::out_of_range, naming it, where there is none.
  std::size_t place_of(const std::string& name) const;
  at::ScalarType compute_type() const { return compute_type_; }

 private:
  std::int32_t layers_;
  at::ScalarType compute_type_;
  std::vector<LocalParameter> all_;
  std::vector<Leaf> leaves_;
  std::vector<at::Tensor> weights_;
  std::unique_ptr<ShardedWeights> sharded_;
};

}  // namespace trainyard::model
