#include "worker/plan/reckonable.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "crds/contract/validate.h"
#include "worker/plan/cost.h"
#include "worker/plan/nearest_layout.h"
#include "worker/plan/offload_cost.h"
#include "worker/plan/traffic.h"

namespace trainyard::plan {
namespace {

/// Llama 3 405B on 16,384 GPUs, 16 M tokens a step.
contract::TrainingJobSpec large() {
  contract::TrainingJobSpec spec;
  spec.workers.count = 2'048;
  spec.workers.gpusPerWorker = 8;
  spec.model.size = contract::ModelSize{.layers = 126,
                                        .hiddenSize = 16'384,
                                        .heads = 128,
                                        .keyValueHeads = 8,
                                        .feedForwardSize = 53'248,
                                        .vocabularySize = 128'256};
  spec.data.sequenceLength = 8'192;
  spec.parallelism.tensor = 8;
  spec.parallelism.pipeline = 16;
  spec.training.globalBatchSize = 2'048;
  return spec;
}

TEST(Reckonable, AreTheLargestModelsThatThereAreAndSomeThatAreTenTimesAsLarge) {
  EXPECT_TRUE(is_reckonable(large()));
  auto spec = large();
  spec.model.size->layers *= 10;
  spec.training.globalBatchSize *= 4;
  spec.workers.count = 20'000;
  EXPECT_TRUE(is_reckonable(spec));
}

TEST(Reckonable, IsNotAMicroBatchOfAMillionSamplesOfTenMillionTokens) {
  auto spec = large();
  spec.parallelism.microBatchSize = 1'000'000;
  spec.data.sequenceLength = 10'000'000;
  EXPECT_FALSE(is_reckonable(spec));
  spec = large();
  spec.training.globalBatchSize = 10'000'000;
  spec.data.sequenceLength = 10'000'000;
  EXPECT_FALSE(is_reckonable(spec));
}

TEST(Reckonable, IsNotAModelThatIsAsLargeAsEachFieldAllows) {
  auto spec = large();
  spec.model.size = contract::ModelSize{
      .layers = 10'000, .hiddenSize = 1'000'000, .heads = 100'000, .feedForwardSize = 10'000'000, .vocabularySize = 10'000'000};
  EXPECT_FALSE(is_reckonable(spec));
}

TEST(Reckonable, IsNotACanonicalSumOverMoreRanksThanTheirBytesCanBeCounted) {
  auto spec = large();
  spec.workers.count = 20'000;
  spec.parallelism.tensor = 1;
  spec.parallelism.pipeline = 1;
  EXPECT_TRUE(is_reckonable(spec));
  spec.training.reduction = contract::Reduction::kCanonical;
  EXPECT_FALSE(is_reckonable(spec));
}

/// Anything that each field's own limits allow, the limits themselves most often. The sanitizers see an overflow; without them it shows as a
/// negative number of bytes.
TEST(Reckonable, IsNothingWhoseBytesOverflow) {
  std::mt19937 random{20260202};
  const auto pick = [&random](std::initializer_list<std::int32_t> values) {
    return values.begin()[std::uniform_int_distribution<std::size_t>(0, values.size() - 1)(random)];
  };
  int reckonable = 0, absurd = 0;
  for (int i = 0; i < 20'000; ++i) {
    contract::TrainingJobSpec spec;
    spec.data.train = {{.path = "/data/train", .format = contract::SourceFormat::kUInt32}};
    spec.training.steps = 10;
    spec.training.optimizer.learningRate = 1e-3;
    const std::int32_t width = pick({16, 1'024, 131'072, 1'000'000});
    spec.model.size = contract::ModelSize{.layers = pick({1, 16, 128, 10'000}),
                                          .hiddenSize = width,
                                          .heads = std::max(1, width / 64),
                                          .feedForwardSize = pick({64, 4'096, 10'000'000}),
                                          .vocabularySize = pick({256, 131'072, 10'000'000})};
    spec.model.size->tieEmbeddings = pick({0, 1}) == 1;
    spec.workers.count = pick({1, 4, 64, 2'048});
    spec.workers.gpusPerWorker = pick({0, 1, 8});
    auto& parallelism = spec.parallelism;
    parallelism.tensor = pick({1, 2, 8});
    parallelism.pipeline = pick({1, 4, 16});
    using Name = contract::PipelineScheduleName;
    parallelism.pipelineSchedule.name = pick({0, 1}) == 0 ? Name::kGPipe : Name::kZeroBubble;
    parallelism.zero.stage = pick({0, 1, 2, 3});
    parallelism.microBatchSize = pick({1, 1'000, 1'000'000});
    spec.data.sequenceLength = pick({64, 65'536, 10'000'000});
    spec.training.globalBatchSize = pick({1, 2'048, 1'000'000, 10'000'000});
    spec.training.activationCheckpointing = {
        .mode = pick({0, 1}) == 0 ? contract::RecomputeMode::kNone : contract::RecomputeMode::kFull,
        .offload = pick({0, 1}) == 1};
    spec.training.reduction = pick({0, 1}) == 0 ? contract::Reduction::kFast : contract::Reduction::kCanonical;
    spec.training.precision.compute = pick({0, 1}) == 0 ? contract::ComputePrecision::kFP32 : contract::ComputePrecision::kBF16;
    if (!contract::validate(spec).empty()) continue;
    if (!is_reckonable(spec)) {
      ++absurd;
      continue;
    }
    ++reckonable;
    const auto bytes = most_bytes_per_rank(spec);
    const std::string text = contract::encode(spec).dump();
    ASSERT_GE(bytes.parameters, 0) << text;  // at ZeRO 3 none are there as a look-up's backward ends
    ASSERT_GE(bytes.activations, 0) << text;
    ASSERT_GE(bytes.gradients, 0) << text;
    ASSERT_GT(bytes.total(), bytes.activations) << text;
    ASSERT_GE(bytes.host, 0) << text;
    ASSERT_GE(host_bytes_per_worker(spec, bytes), bytes.host) << text;
    ASSERT_GE(host_traffic_per_step(spec, 0).total(), 0) << text;
    if (contract::world_size(spec) > 64) continue;  // the rest is quick on few ranks alone
    for (const auto& flow : traffic_per_step(spec)) ASSERT_GT(flow.bytes, 0) << text;
  }
  EXPECT_GT(reckonable, 100);
  EXPECT_GT(absurd, 100);
}

/// The sanitizers see an overflow; without them it shows as less than is true.
TEST(Reckonable, CostsMoreTheMoreTokensAStepHasUpToTheLastThatIs) {
  auto spec = large();
  spec.workers.count = 16;
  spec.parallelism.pipeline = 4;
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kGPipe;
  spec.training.activationCheckpointing.offload = true;
  spec.training.globalBatchSize = 4;
  std::int64_t activations = 0, sent = 0, offloaded = 0;
  int steps = 0;
  for (; is_reckonable(spec); spec.training.globalBatchSize *= 2, ++steps) {
    const auto bytes = most_bytes_per_rank(spec);
    EXPECT_GT(bytes.activations + bytes.host, activations);
    activations = bytes.activations + bytes.host;
    std::int64_t sum = 0;
    for (const auto& flow : traffic_per_step(spec)) {
      ASSERT_GT(flow.bytes, 0);
      sum += flow.bytes;
    }
    EXPECT_GT(sum, sent);
    sent = sum;
    const auto down = host_traffic_per_step(spec, 0).down;
    EXPECT_GT(down, offloaded);
    offloaded = down;
  }
  EXPECT_GT(steps, 10);
}

}  // namespace
}  // namespace trainyard::plan
