#include "worker/plan/reckonable.h"

#include <gtest/gtest.h>

#include "worker/plan/cost.h"
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
