#include "worker/plan/worker_tensors.h"

#include <algorithm>
#include <vector>

#include "crds/contract/layout.h"
#include "worker/plan/cost.h"
#include "worker/plan/shards.h"

namespace trainyard::plan {
namespace {

/// Of a rank.
struct StageBytes {
  std::int64_t always = 0, at_times = 0;
};

/// Whether what comes and goes is foretold by up to a quarter too much (docs/design/0020-what-fits.md).
bool is_rough(const contract::TrainingJobSpec& spec) {
  using contract::PipelineScheduleName;
  const auto& parallelism = spec.parallelism;
  const auto name = parallelism.pipelineSchedule.name;
  const bool has_chunks_or_halves = name == PipelineScheduleName::kInterleaved || name == PipelineScheduleName::kZeroBubble;
  return parallelism.pipeline > 1 && has_chunks_or_halves && contract::degrees(spec).dp * parallelism.tensor > 1;
}

StageBytes bytes_of(const contract::TrainingJobSpec& spec, std::int32_t stage) {
  const auto bytes = bytes_per_rank(spec, stage);
  const std::int64_t gathered = zero_stage(spec) == 3 ? bytes.parameters : 0;  // of the moment
  const std::int64_t at_times = gathered + bytes.gradients + bytes.activations;
  return {.always = bytes.total() - at_times, .at_times = is_rough(spec) ? at_times / 2 : at_times};
}

}  // namespace

std::int64_t tensor_bytes_per_worker(const contract::TrainingJobSpec& spec) {
  const contract::Layout layout(contract::degrees(spec), contract::world_size(spec));
  std::vector<StageBytes> stages;
  for (std::int32_t stage = 0; stage < layout.degrees().pp; ++stage) stages.push_back(bytes_of(spec, stage));
  const std::int32_t ranks = contract::processes_per_worker(spec);
  std::int64_t most = 0;
  for (std::int32_t first = 0; first < layout.world_size(); first += ranks) {
    std::vector<std::int64_t> at_times(stages.size(), 0);
    std::int64_t always = 0;
    for (std::int32_t rank = first; rank < first + ranks; ++rank) {
      const auto stage = static_cast<std::size_t>(layout.coordinate_of(rank).pp);
      always += stages[stage].always;
      at_times[stage] += stages[stage].at_times;
    }
    most = std::max(most, always + *std::max_element(at_times.begin(), at_times.end()));
  }
  return most;
}

}  // namespace trainyard::plan
