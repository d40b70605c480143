#pragma once
// ZeRO: what each data-parallel rank keeps of the parameters, and what is sent together (docs/design/0011-zero.md).
// Source: Rajbhandari et al., "ZeRO", arXiv:1910.02054; by whole rows of each parameter, as PyTorch's FSDP2 cuts.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"
#include "worker/plan/parameters.h"

namespace trainyard::plan {

/// The data ranks that shards are cut over: all, or those of a worker.
std::int32_t shard_ranks(const contract::TrainingJobSpec& spec);

/// What is sharded: 1 the optimizer's states, 2 the gradients too, 3 the parameters too. 0 where there is one data rank alone, which
/// keeps all whatever zero.stage says; unless it keeps something on its host, where its gradients go unit by unit, at stage 3 up to 2, and
/// whence, at stage 3, the parameters come so.
std::int32_t zero_stage(const contract::TrainingJobSpec& spec);

// "Data ranks" are those that shard together, below.

/// Parameters that are gathered and reduced together: a layer; the embedding; the final norm with the head.
struct ShardUnit {
  std::vector<std::size_t> parameters;  // places in the table, in its order
  std::vector<Box> wholes;              // of each, what the tensor-parallel rank has of the unsharded tensor
  /// One behind the other, row by row, they are cut at these elements: data rank r keeps those from cuts[r] to cuts[r + 1].
  std::vector<std::int64_t> cuts;
  std::int64_t part_elements = 0;  // of the data rank that keeps most: in a flat buffer each rank has a part of this size, padded

  std::int32_t data_ranks() const { return static_cast<std::int32_t>(cuts.size()) - 1; }
  std::int64_t elements() const { return cuts.back(); }
  std::int64_t kept(std::int32_t dp_rank) const;
  /// What a data rank keeps of each parameter; of some no rows. Their elements lie one behind the other in its part of a flat buffer.
  std::vector<Box> boxes(std::int32_t dp_rank) const;
};

/// Cuts what tensor-parallel rank `tp_rank` holds of the parameters `mine`, a stage's or some of a stage's, over `dp` ranks. The units
/// come in the order of forward. A unit's parameters, one behind the other, are cut where the ranks' shares are the most even, but
/// between whole rows, and at multiples of 4,096 elements of an unsharded tensor or at its ends: then every block of the gradient norm
/// lies on one data rank, and every shard is a box.
std::vector<ShardUnit> shard_units(const std::vector<Parameter>& mine, std::int32_t tp, std::int32_t tp_rank, std::int32_t dp);

/// What data rank `dp_rank` keeps of the parameter at `place` in the table. Throws std::out_of_range where no unit has it.
Box shard_of(const std::vector<ShardUnit>& units, std::size_t place, std::int32_t dp_rank);

/// Of the parameters of pipeline stage `stage` that tensor parallelism does not cut (norms), the elements that each data rank keeps beside
/// tensor rank `tp_rank`. The same beside all of them, but where a tensor rank has fewer classes of the vocabulary than there are data ranks.
std::vector<std::int64_t> uncut_elements_kept(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank);

/// Rows between two places at which a tensor may be cut: 4096 / gcd(4096, elements of a row).
std::int64_t rows_between_cuts(const Parameter& parameter);

}  // namespace trainyard::plan
