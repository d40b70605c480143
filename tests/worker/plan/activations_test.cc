#include "worker/plan/activations.h"

#include <gtest/gtest.h>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

using contract::ComputePrecision;
using contract::RecomputeMode;

constexpr std::int64_t kTokens = 512, kWidth = 4096, kKey = 1024, kHeads = 32;

contract::TrainingJobSpec job_with_recomputation(ComputePrecision precision, std::int32_t gpus, RecomputeMode mode,
                                                 std::int32_t tensor = 1, std::int32_t feed_forward = 14336) {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{.layers = 32,
                                        .hiddenSize = kWidth,
                                        .heads = kHeads,
                                        .keyValueHeads = 8,
                                        .feedForwardSize = feed_forward,
                                        .vocabularySize = 1000};
  spec.data.sequenceLength = kTokens;
  spec.training.precision.compute = precision;
  spec.training.activationCheckpointing.mode = mode;
  spec.parallelism.tensor = tensor;
  spec.workers.gpusPerWorker = gpus;
  return spec;
}

std::int64_t kept(const contract::TrainingJobSpec& spec) { return kept_activation_bytes(spec, kTokens) / kTokens; }
std::int64_t again(const contract::TrainingJobSpec& spec) { return recomputed_activation_bytes(spec, kTokens) / kTokens; }

/// Of a token without recomputation: of the projections' outputs, and of what attention has of them.
std::int64_t on_a_gpu(std::int64_t each, std::int64_t keys, std::int64_t tensor, std::int64_t feed_forward = 14336) {
  return each * (4 * kWidth + (2 * kWidth + keys + 4 * feed_forward) / tensor) + 4 * kHeads / tensor + 8;
}

TEST(Activations, WithoutRecomputationAreTheInputsOfEveryOperation) {
  for (const std::int32_t tensor : {1, 4}) {
    SCOPED_TRACE(tensor);
    EXPECT_EQ(kept(job_with_recomputation(ComputePrecision::kBF16, 8, RecomputeMode::kNone, tensor)),
              on_a_gpu(2, 2 * kKey, tensor));
    EXPECT_EQ(kept(job_with_recomputation(ComputePrecision::kFP32, 0, RecomputeMode::kNone, tensor)),
              on_a_gpu(4, 2 * kKey, tensor) + 4 * 2 * kWidth);
    EXPECT_EQ(kept(job_with_recomputation(ComputePrecision::kBF16, 0, RecomputeMode::kNone, tensor)),
              on_a_gpu(2, 2 * kKey, tensor) + 16 * kWidth - 2 * 2 * kWidth);
    EXPECT_EQ(again(job_with_recomputation(ComputePrecision::kBF16, 8, RecomputeMode::kNone, tensor)), 0);
  }
}

TEST(Activations, OfALayersBackwardAreTheGradientsOfGateAndUpAndTheResidualStreams) {
  const auto work = [](const contract::TrainingJobSpec& spec) {
    return (layer_work_bytes(spec, kTokens) + stream_bytes(spec, kTokens)) / kTokens;
  };
  EXPECT_EQ(work(job_with_recomputation(ComputePrecision::kBF16, 8, RecomputeMode::kNone, 1)), 2 * (2 * 14336 + kWidth));
  EXPECT_EQ(work(job_with_recomputation(ComputePrecision::kFP32, 0, RecomputeMode::kFull, 4)), 4 * (2 * 14336 / 4 + kWidth));
}

TEST(Activations, BetweenTheHalvesOfABackwardAreTheProductsInputsAndTheGradientsOfTheirOutputs) {
  for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kFull}) {
    const std::int64_t inputs = 2 * kWidth + (kWidth + 14336) / 4, outputs = 2 * kWidth + (kWidth + 2 * kKey + 2 * 14336) / 4;
    EXPECT_EQ(late_activation_bytes(job_with_recomputation(ComputePrecision::kBF16, 8, mode, 4), kTokens) / kTokens,
              2 * (inputs + outputs));
  }
}

TEST(Activations, OfTheRotaryEmbeddingAreASineAndACosineForEachPlaceInAHead) {
  EXPECT_EQ(rotary_bytes(job_with_recomputation(ComputePrecision::kBF16, 8, RecomputeMode::kNone)),
            2 * 2 * kTokens * kWidth / kHeads);
  EXPECT_EQ(rotary_bytes(job_with_recomputation(ComputePrecision::kFP32, 8, RecomputeMode::kNone, 4)),
            4 * 2 * kTokens * kWidth / kHeads);
}

TEST(Activations, InFullPrecisionOnAGpuHaveKeysAndValuesRepeatedForEveryHead) {
  for (const std::int32_t tensor : {1, 4}) {
    SCOPED_TRACE(tensor);
    auto spec = job_with_recomputation(ComputePrecision::kFP32, 8, RecomputeMode::kNone, tensor);
    EXPECT_EQ(kept(spec), on_a_gpu(4, 2 * kWidth, tensor));
    spec.model.size->keyValueHeads = kHeads;
    EXPECT_EQ(kept(spec), on_a_gpu(4, 2 * kWidth, tensor)) << "as without groups";
  }
}

TEST(Activations, OfFullAreALayersInputAndTheRestOfOneAtATime) {
  for (const std::int32_t gpus : {0, 8}) {
    for (const auto& [precision, each] : {std::pair{ComputePrecision::kBF16, 2}, {ComputePrecision::kFP32, 4}}) {
      const auto spec = job_with_recomputation(precision, gpus, RecomputeMode::kFull);
      EXPECT_EQ(kept(spec), each * kWidth);
      const bool has_input_apart = gpus == 0 && each == 2;  // norms keep it in FP32
      EXPECT_EQ(again(spec),
                kept(job_with_recomputation(precision, gpus, RecomputeMode::kNone)) - (has_input_apart ? 0 : each * kWidth));
    }
  }
}

TEST(Activations, OfSelectiveAreTheProductsAndTheLargestPartBetweenThem) {
  const auto spec = job_with_recomputation(ComputePrecision::kBF16, 8, RecomputeMode::kSelective, 4);
  EXPECT_EQ(kept(spec), 2 * (2 * kWidth + (kWidth + 2 * kKey + 2 * 14336) / 4));
  EXPECT_EQ(again(spec), 2 * 2 * 14336 / 4) << "SwiGLU";
  EXPECT_EQ(again(job_with_recomputation(ComputePrecision::kBF16, 8, RecomputeMode::kSelective, 1, 4096)),
            2 * (2 * kWidth + kKey) + 4 * kHeads)
      << "attention";
  EXPECT_EQ(again(job_with_recomputation(ComputePrecision::kFP32, 8, RecomputeMode::kSelective, 1, 4096)),
            4 * 4 * kWidth + 4 * kHeads)
      << "attention with keys and values for each head";
  EXPECT_EQ(again(job_with_recomputation(ComputePrecision::kBF16, 8, RecomputeMode::kSelective, 8, 4096)), 2 * kWidth + 4)
      << "a norm";
  EXPECT_EQ(again(job_with_recomputation(ComputePrecision::kBF16, 0, RecomputeMode::kSelective, 8, 4096)), (2 + 8) * kWidth + 4);
  EXPECT_EQ(again(job_with_recomputation(ComputePrecision::kFP32, 0, RecomputeMode::kSelective, 8, 4096)), (4 + 4) * kWidth + 4);
}

}  // namespace
}  // namespace trainyard::plan
