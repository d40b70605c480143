#include "worker/plan/head_cost.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

using contract::ComputePrecision;
using contract::PipelineScheduleName;

constexpr std::int64_t kHiddenSize = 4096, kClasses = 128256;

contract::TrainingJobSpec job_with_large_head(ComputePrecision precision, std::int32_t gpus) {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{.layers = 32,
                                        .hiddenSize = kHiddenSize,
                                        .heads = 32,
                                        .keyValueHeads = 8,
                                        .feedForwardSize = 14336,
                                        .vocabularySize = kClasses};
  spec.data.sequenceLength = 8192;
  spec.training.precision.compute = precision;
  spec.workers.gpusPerWorker = gpus;
  return spec;
}

TEST(HeadBytes, OfTheFusedLossAreAChunkOfLogitsAndBothGradientsOrTheseTwice) {
  for (const auto& [precision, each] : {std::pair{ComputePrecision::kBF16, 2}, {ComputePrecision::kFP32, 4}}) {
    for (const std::int64_t tokens : {100, 8192, 32768}) {
      const auto bytes = head_bytes(job_with_large_head(precision, 1), tokens);
      const std::int64_t gradients = (kClasses + tokens) * kHiddenSize, chunk = std::min(tokens, 2 * kHiddenSize) * kClasses;
      EXPECT_EQ(bytes.kept, tokens * (2 * each * kHiddenSize + 4)) << tokens;
      EXPECT_EQ(bytes.work, tokens == 100 ? (4 + each) * gradients : each * chunk + 4 * gradients) << tokens;
      EXPECT_EQ(bytes.late, each * kClasses * kHiddenSize) << tokens;
    }
  }
}

TEST(HeadBytes, OfPyTorchsLossOnACpuAreLogitsInFp32AndTheirGradientsOrThatOfTheWeight) {
  for (const auto& [precision, each, of_norm] :
       {std::tuple{ComputePrecision::kBF16, 2, 8}, {ComputePrecision::kFP32, 4, 4}, {ComputePrecision::kFP16, 2, 8}}) {
    const auto spec = job_with_large_head(precision, 0);
    for (const std::int64_t tokens : {100, 8192}) {
      const auto bytes = head_bytes(spec, tokens);
      const std::int64_t logits = tokens * kClasses;
      EXPECT_EQ(bytes.kept, 4 * logits + tokens * ((2 * each + of_norm) * kHiddenSize + 4));
      EXPECT_EQ(bytes.work, tokens == 100 ? each * (logits + kClasses * kHiddenSize) - 4 * logits : 8 * logits);
      EXPECT_EQ(bytes.late, each * (logits + tokens * kHiddenSize));
    }
  }
}

TEST(HeadBytes, InFp16OnAGpuAreThoseOfPyTorchsLoss) {
  const auto bytes = head_bytes(job_with_large_head(ComputePrecision::kFP16, 8), 8192);
  EXPECT_EQ(bytes.kept, 4 * 8192 * kClasses + 8192 * (4 * kHiddenSize + 4));
  EXPECT_EQ(bytes.work, 8 * 8192 * kClasses);
}

/// LlamaStage::cross_entropy() has it from autograd at once, whatever the schedule: 6.85 GiB less than logits of seven micro-batches.
TEST(HeadBytes, InFp16OnAGpuAreLateTheWeightsGradientAndNotTheLogits) {
  auto spec = job_with_large_head(ComputePrecision::kFP16, 1);
  EXPECT_EQ(head_bytes(spec, 8192).late, 2 * kClasses * kHiddenSize);
  spec.parallelism.tensor = 2;
  EXPECT_EQ(head_bytes(spec, 8192).late, 2 * 8192 * (kClasses / 2 + kHiddenSize)) << "the product's second half comes late";
}

TEST(HeadBytes, WithZLossHaveTheLogitsOnceMore) {
  auto spec = job_with_large_head(ComputePrecision::kFP32, 0);
  const auto without = head_bytes(spec, 8192);
  spec.training.loss.zLoss = 1e-4;
  const auto with = head_bytes(spec, 8192);
  EXPECT_EQ(with.kept - without.kept, 4 * 8192 * kClasses);
  EXPECT_EQ(with.work - without.work, 4 * 8192 * kClasses);
  EXPECT_EQ(with.late, without.late);
  spec.parallelism.tensor = 4;
  const auto cut = head_bytes(spec, 8192);
  spec.training.loss.zLoss = 0;
  EXPECT_EQ(cut.kept, head_bytes(spec, 8192).kept);
  EXPECT_EQ(cut.work, head_bytes(spec, 8192).work);
}

TEST(HeadBytes, OfATensorRankAreOfItsClassesAndOfItsTokensWithShards) {
  auto spec = job_with_large_head(ComputePrecision::kBF16, 8);
  spec.parallelism.tensor = 4;
  const std::int64_t logits = 8192 * (kClasses / 4);
  const auto bytes = head_bytes(spec, 8192);
  EXPECT_EQ(bytes.kept, 4 * logits + 8192 * (4 * kHiddenSize + 4));
  EXPECT_EQ(bytes.work, 4 * logits);
  EXPECT_EQ(bytes.late, 2 * (logits + 8192 * kHiddenSize));
  spec.parallelism.sequence = true;
  EXPECT_EQ(head_bytes(spec, 8192).kept, 4 * logits + 8192 / 4 * (4 * kHiddenSize + 4));
  spec.model.size->vocabularySize = kClasses + 1;
  EXPECT_EQ(head_bytes(spec, 8192).work, 4 * (logits + 8192)) << "of the rank that has a class more";
  spec.model.size->vocabularySize = kClasses;
  const std::int64_t few = 100 * (kClasses / 4);
  EXPECT_EQ(head_bytes(spec, 100).work, 2 * (few + kClasses / 4 * kHiddenSize) - 4 * few);
}

TEST(RecomputedHeadFlops, AreTheLogitsThatTheFusedLossMakesTwiceInGPipe) {
  auto spec = job_with_large_head(ComputePrecision::kBF16, 1);
  spec.workers.count = 4;
  spec.parallelism.pipeline = 4;
  const auto flops = [&spec](PipelineScheduleName name) {
    spec.parallelism.pipelineSchedule = {.name = name, .virtualStages = name == PipelineScheduleName::kInterleaved ? 2 : 1};
    return recomputed_head_flops_per_token(spec);
  };
  EXPECT_EQ(flops(PipelineScheduleName::kOneForwardOneBackward), 0);
  EXPECT_EQ(flops(PipelineScheduleName::kInterleaved), 0);
  EXPECT_EQ(flops(PipelineScheduleName::kZeroBubble), 0);
  EXPECT_EQ(flops(PipelineScheduleName::kGPipe), 2.0 * kClasses * kHiddenSize);
  spec.training.precision.compute = ComputePrecision::kFP16;
  EXPECT_EQ(flops(PipelineScheduleName::kGPipe), 0) << "not fused";
  spec.training.precision.compute = ComputePrecision::kBF16;
  spec.workers.gpusPerWorker = 0;
  EXPECT_EQ(flops(PipelineScheduleName::kGPipe), 0) << "on a CPU";
  spec.workers.gpusPerWorker = 1;
  spec.parallelism.pipeline = 1;
  EXPECT_EQ(flops(PipelineScheduleName::kGPipe), 0) << "one stage runs each backward at once";
}

}  // namespace
}  // namespace trainyard::plan
