#include "worker/plan/staging_cost.h"

#include <algorithm>

#include "worker/plan/moments.h"
#include "worker/plan/parameters.h"
#include "worker/plan/shards.h"
#include "worker/plan/zero_cost.h"

namespace trainyard::plan {
namespace {

std::int64_t saved_bytes(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  if (zero_stage(spec) > 0) {
    const auto zero = zero_memory(spec, stage);
    return 4 * zero.changed + zero.moments;  // masters are saved also where they are the weights
  }
  std::int64_t bytes = 0;
  const auto mine = stage_parameters(spec, stage);
  for (const auto& parameter : mine.parameters) {
    const auto sizes = box_of(parameter, spec.parallelism.tensor, 0).sizes;
    bytes += mine.count_of(parameter) * (4 * num_elements(sizes) + moment_bytes(spec, parameter, sizes));
  }
  return bytes;
}

}  // namespace

std::int64_t staging_bytes(const contract::TrainingJobSpec& spec) {
  if (!spec.checkpoint) return 0;
  std::int64_t most = 0;
  for (std::int32_t stage = 0; stage < spec.parallelism.pipeline && most < kStagingBytes; ++stage) {
    most = std::max(most, saved_bytes(spec, stage));
  }
  return std::min(most, kStagingBytes);
}

}  // namespace trainyard::plan
