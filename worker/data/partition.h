#pragma once
// Which samples of a step a data rank trains on, and how many steps a job takes. Pure functions.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"
#include "worker/plan/curriculum.h"

namespace trainyard::data {

/// Samples [first, first + count) of a global batch.
struct SampleRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool operator==(const SampleRange&) const = default;
};

/// The micro-batches of one data rank, in order. Micro-batch i of data rank r is number r·(micro-batches a rank) + i of the global
/// batch, whatever the layout: data ranks own contiguous blocks, and micro-batches are contiguous within them.
struct MicroBatches {
  std::int64_t first_number = 0;  // the global number of ranges[0]
  std::int64_t total = 0;         // of all data ranks
  std::vector<SampleRange> ranges;
};

/// Throws std::invalid_argument unless global_batch divides by data_degree · micro_batch and 0 <= data_rank < data_degree.
MicroBatches micro_batches(std::int64_t global_batch, std::int32_t data_degree, std::int32_t data_rank, std::int64_t micro_batch);

/// The optimizer steps of a job from its start to its end: training.steps, or, with training.epochs or training.tokens, those done and
/// as many as cover what is left, rounded up. `samples_per_epoch` is SampleStream's. A curriculum changes nothing about them.
std::int64_t planned_steps(const contract::Training& training, std::int64_t samples_per_epoch, std::int32_t sequence_length,
                           const plan::StepsDone& done = {});

}  // namespace trainyard::data
