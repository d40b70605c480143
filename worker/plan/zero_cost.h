#pragma once
// What ZeRO keeps and sends, from the layout and the sizes alone: bytes of a rank, for cost.h and traffic.h.
//
// Letters: P parameters of a pipeline stage on one tensor-parallel rank, K of them those of the data rank that keeps most (about P/dp),
// U the parameters of a unit, S its part of a flat buffer (shards.h), c the bytes of a parameter that forward reads, m micro-batches.
//
//            weights            master        moments   sent by a rank in a step, times dp − 1
//   stage 1  c·P                4K            8K        4·ΣS + c·ΣS
//   stage 2  c·P                4K            8K        4·ΣS·m + c·ΣS
//   stage 3  two units, c·U     4K            8K        4·ΣS·m + 2c·ΣS·m, of a look-up c·S·m
//
// With precision.optimizerStates BF16 and Blockwise8Bit moments are smaller (moments.h).
//
// Where shards are cut within a worker, dp is the data ranks of one, and each of R workers adds its shards up to those of the others: Fast
// sends 2(R − 1)/R·4·ΣS of it, Canonical (R − 1)·4·ΣS.
//
// Offload (offload_cost.h) moves masters, moments and the gradients' sums to the host. In FP32 masters and weights of stages 1 and 2 are one memory. Canonical exchanges the sum over micro-batches at every stage: with it
// 4·ΣS are sent. Source: Rajbhandari et al., arXiv:1910.02054, sections 5 and 7.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::plan {

inline constexpr std::int64_t kFloatBytes = 4;  // of FP32

/// c.
std::int64_t weight_bytes(const contract::TrainingJobSpec& spec);

/// Whether each micro-batch's gradients are exchanged, so that nobody keeps whole ones, instead of their sum.
bool reduces_every_micro_batch(const contract::TrainingJobSpec& spec);

/// Bytes of a part's element that an exchange of gradients takes: what goes, n parts of n ranks, and what comes: one, or all where ranks add up
/// themselves (Canonical), or both over Gloo, which does so too. Alone there is only what would go.
std::int64_t exchange_bytes(const contract::TrainingJobSpec& spec);

/// Of a sum over data ranks that each of them gets whole, the elements that Canonical gathers at a time, from all.
inline constexpr std::int64_t kGatheredElements = std::int64_t{1} << 22;

/// At stage 0 with data ranks: what is gathered at the moment, in bytes, while units are exchanged one after the other, each in parts of so many
/// elements of which two are under way at the most, the last one of the unit before among them. With Fast nothing is.
class WholeGathers {
 public:
  explicit WholeGathers(const contract::TrainingJobSpec& spec);
  /// A unit's exchange begins: the most that there is until its last part goes.
  std::int64_t begin(std::int64_t elements);
  /// From then on, until the next one's begins.
  std::int64_t under_way() const { return each_ * under_way_; }

 private:
  std::int64_t each_;                      // bytes for an element that a rank has of a part
  std::int64_t last_ = 0, under_way_ = 0;  // elements of the last part, and of it and the one before
};

/// At stage 0 with data ranks, when a split backward is over: what the exchange of its units takes at the most, with the flat sum that comes of it,
/// beyond `each` bytes a parameter, which sums and the micro-batch's own gradients have until they are one sum and that is flat. Else 0.
std::int64_t whole_exchanges(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int64_t each);

/// A unit whose gradients backward comes to, in numbers; of one layer.
struct BackwardUnit {
  std::int64_t elements = 0;
  std::int64_t part = 0;  // of its flat buffer, that of a rank (shards.h)
  bool is_layer = false;
  /// Bytes: the most that it takes while it turns from the compute format into FP32, tensor by tensor.
  std::int64_t turning = 0;
  // At stage 3, else 0:
  std::int64_t gathering = 0;             // it and the next, as it is gathered
  std::int64_t weights = 0;               // the same, from then until its gradients are there
  std::int64_t gathering_in_forward = 0;  // of the last: the first that forward comes to; of the first: the last layer
  std::int64_t weights_in_forward = 0;    // of the first: of the last layer, when it is computed
};
/// Those of a micro-batch on a chunk, in the order of backward: a tied head's, which are a leaf of their own, come before the norm's. Without ZeRO the
/// same units. With chunks a stage each has both ends, where the stage has them.
std::vector<BackwardUnit> backward_units(const contract::TrainingJobSpec& spec, std::int32_t stage);

/// Of a job at zero_stage() 1 to 3: what a rank of pipeline stage `stage` keeps at the most.
struct ZeroMemory {
  std::int64_t weights = 0;  // what forward and backward read, at stage 3 two units and what one is gathered in
  std::int64_t master = 0;
  std::int64_t moments = 0;
  std::int64_t changed = 0;     // K, numbers
  std::int64_t shard_sums = 0;  // 4·ΣS; 0 where they lie on the host
  std::int64_t host_sums = 0;   // the same there
  // Of a split backward (gradient_cost.h):
  std::int64_t last_down = 0;  // offloaded, the sum that is on its way to the host as the next backward begins
  std::int64_t unit = 0;       // U of the largest, numbers
  std::int64_t exchanges = 0;  // of the two largest units that follow each other, and the sum on its way to the host then
};
ZeroMemory zero_memory(const contract::TrainingJobSpec& spec, std::int32_t stage);

/// What a rank sends those that it shards with in a step.
std::int64_t zero_sent_per_step(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank,
                                std::int64_t micro_batches);

/// The elements of the sums that a rank adds up with those of the other workers in a step, by exchange; empty where all ranks shard together.
std::vector<std::int64_t> zero_replicated(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank);

/// At stage 3: the elements of its own shards that a rank gives to gatherings, for each micro-batch.
std::int64_t zero_gathered_elements(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank);

/// The elements of a tied embedding that each data rank keeps: with them stages exchange its gradients.
std::vector<std::int64_t> tied_embedding_kept(const contract::TrainingJobSpec& spec, std::int32_t tp_rank);

}  // namespace trainyard::plan
