#pragma once
// Jobs whose states ZeRO cuts, and what they must equal.

#include <string>
#include <vector>

#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {

/// Wide enough that blocks of the norm, and so shards, cut matrices in the middle, and that tensor ranks cut rows at 48 and 100 of their
/// columns. Of 160 x 96 numbers at the most; norms, and nothing else, are too small for codes.
inline contract::TrainingJobSpec wide_job(contract::Reduction reduction, std::int64_t steps = 6) {
  auto spec = small_job(reduction);
  spec.model.size = contract::ModelSize{
      .layers = 2, .hiddenSize = 96, .heads = 4, .keyValueHeads = 2, .feedForwardSize = 200, .vocabularySize = 160};
  spec.training.steps = steps;
  return spec;
}

inline contract::TrainingJobSpec at_stage(contract::TrainingJobSpec spec, std::int32_t stage) {
  spec.parallelism.zero.stage = stage;
  return spec;
}

inline std::string text_of(const contract::Degrees& degrees, std::int32_t stage) {
  return "stage " + std::to_string(stage) + ", dp " + std::to_string(degrees.dp) + ", pp " + std::to_string(degrees.pp) +
         ", tp " + std::to_string(degrees.tp);
}

/// With the optimizer's states on the device, and on the host.
inline void expect_equal_bits_at_every_stage(const contract::TrainingJobSpec& spec, const std::vector<contract::Degrees>& layouts,
                                             const Trained& alone) {
  for (const std::int32_t stage : {1, 2, 3}) {
    for (const bool offloads : {false, true}) {
      auto sharded = at_stage(spec, stage);
      sharded.parallelism.zero.offload.optimizer = offloads;
      for (const auto& degrees : layouts) {
        SCOPED_TRACE(text_of(degrees, stage) + (offloads ? ", offloaded" : ""));
        expect_equal_bits(train(sharded, degrees), alone);
      }
    }
  }
}

}  // namespace trainyard::trainer
