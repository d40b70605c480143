#pragma once
// Gradients where there are several data ranks, unit by unit: a unit's exchange goes on while backward does the next unit
// (docs/numerics.md).
//
//   backward ─ a leaf's gradient is there (hook) ─ all of a unit's are ─> added up, or ─> exchanged among the data ranks ─> sum
//
// With ZeRO each data rank gets the sum of its shard alone; without, all get all of it. A rank's micro-batches are added up first, and the
// sum is exchanged during the last one's backward. But with Fast at stages 2 and 3 each micro-batch is exchanged, so that no rank keeps
// whole gradients. With zero.offload.optimizer shards are summed up in the host's memory (offloaded_sums.h), where the optimizer wants them.

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/ATen.h>

#include "crds/contract/job.h"
#include "worker/mesh/mesh.h"
#include "worker/model/parameters.h"
#include "worker/plan/shards.h"
#include "worker/schedule/gradient_sum.h"
#include "worker/schedule/offloaded_sums.h"

namespace trainyard::schedule {

/// Lives on the training thread, and in backward on the thread of autograd while that one waits. `parameters` and `mesh` must outlive it.
/// Exchanges are made in the order in which backward comes to the units, on every rank the same.
class BucketedGradients {
 public:
  /// `early`: gradients are taken while backward goes on, as autograd tells of them; not so where a backward is split in two halves.
  BucketedGradients(const contract::TrainingJobSpec& spec, model::Parameters& parameters, mesh::Mesh& mesh, bool early);
  ~BucketedGradients();
  BucketedGradients(const BucketedGradients&) = delete;
  BucketedGradients& operator=(const BucketedGradients&) = delete;

  /// Before the first backward of a step.
  void begin(std::int32_t micro_batches);
  /// After a micro-batch's backward, the gradients of `leaves`: those that autograd has told of already are undefined; the others are taken
  /// over.
  void add(const std::vector<std::size_t>& leaves, Summand gradients);
  /// Waits for the exchanges that are under way, and frees their buffers. What of a micro-batch is still under way when its backward is over goes
  /// on beside the next one's forward, whose activations grow meanwhile; before a head's loss or a backward begins, which take most, it has to be done.
  /// Those that take no buffers go on until take(): of Fast without ZeRO, which reduces in place what nobody reads before.
  void settle();
  /// After the same, once a micro-batch.
  void add_loss(const at::Tensor& loss) { losses_.add({loss}); }
  /// After the last: the sums over micro-batches and data ranks of what this rank keeps, one a leaf, in the order of the leaves and the shape
  /// of Parameters::all()'s boxes; last the loss. On the device; with zero.offload.optimizer all but the loss on the host, where they stay
  /// until the next begin().
  Summand take();

 private:
  struct Bucket;
  struct Flight;
  class Hook;
  void arrived(std::size_t leaf, at::Tensor gradient);
  void start(std::size_t index, const Summand& wholes);
  void start_shards(std::size_t index, const Summand& wholes);
  void start_whole(std::size_t index, const Summand& wholes);
  void finish_oldest();
  void finish_all();
  void add_replicas(mesh::Comm& replicas);

  contract::Reduction reduction_;
  bool every_;
  model::Parameters& parameters_;
  mesh::Mesh& mesh_;
  mesh::Comm& ranks_;                   // that exchange: those that shard together, or all data ranks
  std::vector<plan::ShardUnit> units_;  // without ZeRO: whole
  bool in_place_;                       // what is exchanged is reduced where it is, so that no flight takes memory
  std::vector<Bucket> buckets_;
  std::vector<std::pair<std::size_t, std::size_t>> places_;  // by leaf: bucket, and place in it
  std::vector<Flight> flights_;
  std::unique_ptr<OffloadedSums> on_host_;  // by bucket; null where shards are on the device
  GradientSum losses_;
  std::int32_t micro_batches_ = 0;
};

}  // namespace trainyard::schedule
