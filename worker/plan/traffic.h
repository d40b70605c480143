#pragma once
// What the ranks of a job send each other in one optimizer step, from the layout and the sizes alone.
//
// Letters: B micro-batch, T tokens of a sequence, D model width, V vocabulary, tp and dp the degrees, m micro-batches a step of a data
// rank. Collectives are taken for rings in rank order (A. Patarasuk and X. Yuan, Bandwidth Optimal All-reduce Algorithms for Clusters of
// Workstations, 2009): of an all-reduce of S bytes over n ranks each sends 2(n − 1)/n·S to the next one, of an all-gather of S bytes a rank
// (n − 1)·S.
//   tensor    a micro-batch: an all-reduce of B·T·D for each of the 2 cuts of a layer, forward and backward (M. Shoeybi et al.,
//             arXiv:1909.08053, section 3), one for the embedding, one for the head, and 3·B·T numbers in FP32 for the cross entropy;
//             with full recomputation one more a layer. With sequence parallelism instead of the all-reduces (V. Korthikanti et al.,
//             arXiv:2205.05198, section 4.2), each half of one, (n − 1)/n·B·T·D: 4 forward and 6 backward a layer, with full recomputation
//             3 more, 2 for the embedding, 3 for the head; and once a step the gradients of the norms in FP32: an all-reduce with Fast, an
//             all-gather with Canonical
//   pipeline  a micro-batch: B·T·D, with sequence parallelism B·T·D/tp, from each rank of a stage to that of the next, and as much back
//             (arXiv:2104.04473, section 3.2); with v chunks a stage v times as much, and v − 1 times from the last stage to the first
//   data      the gradients, unit by unit, and the loss in FP32: all-reduces with Fast, all-gathers with Canonical; with ZeRO see zero_cost.h
//   tied      V·D/tp in FP32 each way between the first and the last stage, where they share the embedding; with ZeRO a shard of it
// Apart from that, as below a thousandth of it (Bookkeeping): the gradient norm's sums, and the word that rides on each step. Left out:
// evaluations, checkpoints.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// One rank's bytes to another in a step.
struct Flow {
  std::int32_t from = 0;
  std::int32_t to = 0;
  std::int64_t bytes = 0;
  bool operator==(const Flow&) const = default;
};

/// Of a job of the engine Trainyard whose spec was accepted. At most seven flows a rank.
std::vector<Flow> traffic_per_step(const contract::TrainingJobSpec& spec);

/// What a step sends beside it, so little that nobody places a gang by it. Sums are FP64; b is the number of blocks of 4,096 elements of the
/// stage's parameters, P that of the model's parameters.
///   data      with ZeRO an all-reduce of b sums among the ranks that shard together
///   tensor    of b sums, an all-reduce with Fast, an all-gather with Canonical
///   pipeline  an all-reduce of P + 1 sums: by parameter, and the loss
///   world     an all-reduce of two int64: what the agents wish
struct Bookkeeping {
  std::vector<Flow> data, tensor, pipeline, world;
};
Bookkeeping bookkeeping_per_step(const contract::TrainingJobSpec& spec);

/// Of what a rank of pipeline stage `stage` sends in its tensor group, the bytes that go while it multiplies, so that nothing has to wait for
/// them: with sequence parallelism, of each input of products by columns, its gathering in the backward pass and the sums of its gradients. A
/// backward that is split in two halves has nothing to do meanwhile.
std::int64_t tensor_bytes_beside_products(const contract::TrainingJobSpec& spec, std::int32_t stage);

}  // namespace trainyard::plan
