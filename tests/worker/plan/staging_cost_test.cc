#include "worker/plan/staging_cost.h"

#include <gtest/gtest.h>

#include "worker/plan/cost.h"
#include "worker/plan/nearest_layout.h"

namespace trainyard::plan {
namespace {

contract::TrainingJobSpec job_with_checkpoints(std::int32_t layers, std::int32_t data) {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{
      .layers = layers, .hiddenSize = 1024, .heads = 16, .keyValueHeads = 8, .feedForwardSize = 4096, .vocabularySize = 32000};
  spec.workers.count = data;
  spec.workers.gpusPerWorker = 1;
  spec.parallelism.data = data;
  spec.data.sequenceLength = 1024;
  spec.training.globalBatchSize = data;
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.checkpoint = contract::Checkpoint{.path = "/checkpoints"};
  return spec;
}

TEST(StagingCost, IsMastersAndMomentsOfWhatARankKeepsUntilThatIsMoreThanTheMemoryForIt) {
  auto spec = job_with_checkpoints(2, 1);
  EXPECT_EQ(staging_bytes(spec), 12 * num_parameters(*spec.model.size));
  spec.training.precision.optimizerStates = contract::OptimizerStates::kBF16;
  EXPECT_EQ(staging_bytes(spec), 8 * num_parameters(*spec.model.size));
  EXPECT_EQ(staging_bytes(job_with_checkpoints(40, 1)), kStagingBytes);
  EXPECT_EQ(staging_bytes(job_with_checkpoints(80, 8)), kStagingBytes);
}

TEST(StagingCost, OfAShardIsThatOfTheShard) {
  auto spec = job_with_checkpoints(4, 8);
  spec.parallelism.zero.stage = 3;
  const auto bytes = most_bytes_per_rank(spec);
  EXPECT_EQ(staging_bytes(spec), bytes.master + bytes.optimizer);
}

TEST(StagingCost, IsNothingWithoutCheckpoints) {
  auto spec = job_with_checkpoints(2, 1);
  spec.checkpoint.reset();
  EXPECT_EQ(staging_bytes(spec), 0);
}

TEST(StagingCost, IsPartOfWhatTheHostMustHaveRoomForWhereSomethingIsOffloaded) {
  auto spec = job_with_checkpoints(40, 4);
  EXPECT_EQ(host_bytes_per_worker(spec, most_bytes_per_rank(spec)), 0);
  spec.parallelism.zero = {.stage = 1, .offload = {.optimizer = true}};
  const auto bytes = most_bytes_per_rank(spec);
  ASSERT_GT(bytes.host, 0);
  ASSERT_GT(staging_bytes(spec), 1 << 30);
  EXPECT_EQ(host_bytes_per_worker(spec, bytes), bytes.host + staging_bytes(spec));
  spec.checkpoint.reset();
  EXPECT_EQ(host_bytes_per_worker(spec, bytes), bytes.host);
}

}  // namespace
}  // namespace trainyard::plan
