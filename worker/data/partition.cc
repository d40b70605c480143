#include "worker/data/partition.h"

#include <algorithm>
#include <stdexcept>

#include "worker/plan/steps_for.h"

namespace trainyard::data {

MicroBatches micro_batches(std::int64_t global_batch, std::int32_t data_degree, std::int32_t data_rank,
                           std::int64_t micro_batch) {
  if (data_degree < 1 || micro_batch < 1 || global_batch < 1 || global_batch % (data_degree * micro_batch) != 0) {
    throw std::invalid_argument("a global batch of " + std::to_string(global_batch) + " does not divide into micro-batches of " +
                                std::to_string(micro_batch) + " on " + std::to_string(data_degree) + " data ranks");
  }
  if (data_rank < 0 || data_rank >= data_degree) throw std::invalid_argument("the data rank is outside the data degree");
  const std::int64_t per_rank = global_batch / data_degree / micro_batch;
  MicroBatches out{.first_number = data_rank * per_rank, .total = data_degree * per_rank, .ranges = {}};
  for (std::int64_t i = 0; i < per_rank; ++i) {
    out.ranges.push_back({.first = (out.first_number + i) * micro_batch, .count = micro_batch});
  }
  return out;
}

std::int64_t planned_steps(const contract::Training& training, std::int64_t samples_per_epoch, std::int32_t sequence_length,
                           const plan::StepsDone& done) {
  if (training.steps) return *training.steps;
  if (!training.epochs && !training.tokens) throw std::invalid_argument("a training needs one of steps, epochs and tokens");
  const std::int64_t batch = training.globalBatchSize;
  const std::int64_t left = training.epochs
                                ? plan::steps_for(plan::samples_of(*training.epochs, samples_per_epoch) - done.samples, batch)
                                : plan::steps_for(*training.tokens - done.samples * sequence_length, batch * sequence_length);
  return std::max<std::int64_t>(1, done.steps + left);
}

}  // namespace trainyard::data
