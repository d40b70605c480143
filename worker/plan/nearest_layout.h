#pragma once
// Another layout for a job whose ranks would run out of memory: the same ranks, model, batch and numbers.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/job.h"
#include "worker/plan/cost.h"

namespace trainyard::plan {

/// In bytes.
struct MemoryRoom {
  std::int64_t device =
      std::numeric_limits<std::int64_t>::max();  // of a rank, for RankBytes::total(), without GPUs staging_bytes() too
  std::int64_t host =
      std::numeric_limits<std::int64_t>::max();  // of a worker, for RankBytes::host of its ranks, as its pod asks for it
  std::int64_t host_most = 0;                    // the same, if it asked for as much as it may
};

/// What a worker's ranks keep in the host's memory of what is offloaded, and to save through (staging_cost.h). 0 where nothing is offloaded: what
/// programs take of their host's memory is not foretold.
std::int64_t host_bytes_per_worker(const contract::TrainingJobSpec& spec, const RankBytes& bytes);

struct Change {
  std::string field;  // below spec
  std::string value;
  bool operator==(const Change&) const = default;
};

struct FittingLayout {
  contract::TrainingJobSpec spec;  // but for the template's memory
  std::vector<Change> changes;
  RankBytes bytes;             // of its ranks
  std::int64_t host_more = 0;  // a worker's pod has to ask for so much; 0: what it asks for is enough
  bool is_nearest = true;      // false: there may be a nearer one, which was not looked for
};

/// The layout with the fewest changed fields that fits and that validate() accepts. Of several with as few: those that change earlier ones of
/// these fields, and the value nearest to the present one, the larger of two that are as near.
///   parallelism.sequence (where there are tensor ranks), parallelism.microBatchSize (smaller), training.activationCheckpointing.mode
///   (Selective, Full; before the micro-batch where ZeRO sends for each micro-batch), parallelism.zero.stage (higher),
///   parallelism.zero.offload.optimizer, parallelism.zero.offload.parameters, training.activationCheckpointing.offload,
///   parallelism.pipelineSchedule.name (OneForwardOneBackward), parallelism.tensor, parallelism.pipeline, and the pod's memory request
/// parallelism.data, where it is given, follows from the others, and so does virtualStages; they count as none. Of layouts in that order
/// kLayoutsTried are tried; then as many in the order of what saves most, of which, where one fits, as many changes are taken back as can be:
/// that is not always the nearest. Nothing where none of these fits. Cost: some 20 microseconds a layout; one that shards over
/// very many ranks counts as several, one more for each kRanksATry of them and stage that is looked at, so that the whole stays bounded.
std::optional<FittingLayout> nearest_layout(const contract::TrainingJobSpec& spec, const MemoryRoom& room);
inline constexpr std::int64_t kLayoutsTried = 4'000, kRanksATry = 256;

}  // namespace trainyard::plan
