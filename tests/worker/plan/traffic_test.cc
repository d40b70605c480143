// The volumes by hand; that the engine sends just these is proved in tests/worker/trainer/traffic_test.cc.

#include "worker/plan/traffic.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

/// One layer-pair model on `ranks` ranks: B·T·D is 2·8·16 = 256 numbers, the model has 3,120 parameters.
contract::TrainingJobSpec two_layer_job(std::int32_t ranks) {
  contract::TrainingJobSpec spec;
  spec.workers.count = ranks;
  spec.model.size = contract::ModelSize{.layers = 2, .hiddenSize = 16, .heads = 2, .feedForwardSize = 24, .vocabularySize = 32};
  spec.data.sequenceLength = 8;
  spec.parallelism.microBatchSize = 2;
  spec.training.globalBatchSize = 8;
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  return spec;
}

std::int64_t total(const std::vector<Flow>& flows) {
  std::int64_t sum = 0;
  for (const auto& flow : flows) sum += flow.bytes;
  return sum;
}
std::int64_t bytes(const std::vector<Flow>& flows, std::int32_t from, std::int32_t to) {
  std::int64_t sum = 0;
  for (const auto& flow : flows) sum += flow.from == from && flow.to == to ? flow.bytes : 0;
  return sum;
}

TEST(TrafficPerStep, IsNothingOnOneRank) { EXPECT_TRUE(traffic_per_step(two_layer_job(1)).empty()); }

TEST(TrafficPerStep, ReducesAllGradientsAndTheLossOverTheReplicas) {
  const auto spec = two_layer_job(4);
  const std::int64_t gradients = (num_parameters(*spec.model.size) + 1) * 4;
  const auto flows = traffic_per_step(spec);
  ASSERT_EQ(flows.size(), 4u);
  for (std::int32_t rank = 0; rank < 4; ++rank) EXPECT_EQ(bytes(flows, rank, (rank + 1) % 4), gradients * 2 * 3 / 4);
}

TEST(TrafficPerStep, GathersTheGradientsOfAllReplicasWhereTheSumIsCanonical) {
  auto spec = two_layer_job(4);
  spec.training.reduction = contract::Reduction::kCanonical;
  EXPECT_EQ(bytes(traffic_per_step(spec), 3, 0), (num_parameters(*spec.model.size) + 1) * 4 * 3);
}

TEST(TrafficPerStep, SumsActivationsFourTimesALayerOverATensorGroup) {
  auto spec = two_layer_job(2);
  spec.parallelism.tensor = 2;
  // 4 micro-batches; 4 sums for each of 2 layers, 1 for the embedding, 1 for the head, 3 numbers a token for the cross entropy.
  EXPECT_EQ(bytes(traffic_per_step(spec), 0, 1), 4 * ((4 * 2 + 2) * 256 + 3 * 16) * 4);
}

TEST(TrafficPerStep, OfShardsOfTokensIsTenHalvesOfASumALayerOfWhichFourGoBesideProducts) {
  auto spec = two_layer_job(2);
  spec.parallelism.tensor = 2;
  spec.parallelism.sequence = true;
  // Of two ranks each sends half of 256 numbers: 10 times a layer, 2 for the embedding, 3 for the head. Once a step the sum of 5 norms.
  EXPECT_EQ(bytes(traffic_per_step(spec), 0, 1), 4 * ((10 * 2 + 2 + 3) * 128 + 3 * 16) * 4 + 5 * 16 * 4);
  EXPECT_EQ(tensor_bytes_beside_products(spec, 0), 4 * (4 * 2 + 2) * 128 * 4);
  spec.training.activationCheckpointing.mode = contract::RecomputeMode::kFull;
  EXPECT_EQ(bytes(traffic_per_step(spec), 0, 1), 4 * ((13 * 2 + 2 + 3) * 128 + 3 * 16) * 4 + 5 * 16 * 4);
  EXPECT_EQ(tensor_bytes_beside_products(spec, 0), 4 * (4 * 2 + 2) * 128 * 4);
  spec.parallelism.sequence = false;
  EXPECT_EQ(tensor_bytes_beside_products(spec, 0), 0);
}

TEST(TrafficPerStep, GathersTheGradientsOfNormsWhereTheSumIsCanonical) {
  auto spec = two_layer_job(4);
  spec.model.size->heads = 4;
  spec.parallelism.tensor = 4;
  spec.parallelism.sequence = true;
  const auto fast = bytes(traffic_per_step(spec), 0, 1);
  spec.training.reduction = contract::Reduction::kCanonical;
  EXPECT_EQ(bytes(traffic_per_step(spec), 0, 1) - fast, 5 * 16 * 4 * 3 / 2) << "3 parts of others instead of twice 3/4 of one";
}

TEST(BookkeepingPerStep, IsNothingOnOneRank) {
  const auto beside = bookkeeping_per_step(two_layer_job(1));
  EXPECT_TRUE(beside.data.empty() && beside.tensor.empty() && beside.pipeline.empty() && beside.world.empty());
}

TEST(BookkeepingPerStep, AddsUpTheNormByBlocksAndByParameters) {
  auto spec = two_layer_job(8);
  spec.model.size->vocabularySize = 300;  // 4,800 elements: two blocks
  spec.parallelism.tensor = 2;
  spec.parallelism.pipeline = 2;
  const auto beside = bookkeeping_per_step(spec);
  EXPECT_TRUE(beside.data.empty()) << "all data ranks have all of it";
  ASSERT_EQ(beside.tensor.size(), 8u);
  EXPECT_EQ(bytes(beside.tensor, 0, 1), (9 + 2) * 8) << "a layer, and the embedding";
  EXPECT_EQ(bytes(beside.tensor, 2, 3), (9 + 2 + 1) * 8) << "a layer, the head, and the norm before it";
  EXPECT_EQ(bytes(beside.pipeline, 0, 2), (2 * 9 + 3 + 1) * 8);
  EXPECT_EQ(bytes(beside.world, 7, 0), 28) << "of a ring of 8, twice 7 parts of 16 bytes";
  spec.parallelism.zero.stage = 1;
  EXPECT_EQ(bytes(bookkeeping_per_step(spec).data, 0, 4), (9 + 2) * 8);
}

TEST(TrafficPerStep, SendsShardsOfTokensBetweenStages) {
  auto spec = two_layer_job(4);
  spec.parallelism.tensor = 2;
  spec.parallelism.pipeline = 2;
  const auto whole = bytes(traffic_per_step(spec), 0, 2);
  spec.parallelism.sequence = true;
  EXPECT_EQ(bytes(traffic_per_step(spec), 0, 2) * 2, whole);
  EXPECT_EQ(tensor_bytes_beside_products(spec, 0), 4 * 4 * 128 * 4) << "no head";
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kZeroBubble;
  EXPECT_EQ(tensor_bytes_beside_products(spec, 0), 0);
}

TEST(TrafficPerStep, SendsActivationsForthAndGradientsBackBetweenNeighbouringStages) {
  auto spec = two_layer_job(2);
  spec.parallelism.pipeline = 2;
  const auto flows = traffic_per_step(spec);
  EXPECT_EQ(bytes(flows, 0, 1), 4 * 256 * 4);
  EXPECT_EQ(bytes(flows, 1, 0), 4 * 256 * 4);
  EXPECT_EQ(total(flows), 2 * 4 * 256 * 4);
}

TEST(TrafficPerStep, GoesAroundThePipelineOnceLessThanThereAreChunks) {
  auto spec = two_layer_job(3);
  spec.model.size->layers = 12;
  spec.training.globalBatchSize = 24;  // 12 micro-batches
  spec.parallelism.pipeline = 3;
  spec.parallelism.pipelineSchedule = {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 4};
  const auto flows = traffic_per_step(spec);
  EXPECT_EQ(bytes(flows, 0, 1), 4 * 12 * 256 * 4);
  EXPECT_EQ(bytes(flows, 2, 1), 4 * 12 * 256 * 4);
  EXPECT_EQ(bytes(flows, 2, 0), 3 * 12 * 256 * 4);
  EXPECT_EQ(bytes(flows, 0, 2), 3 * 12 * 256 * 4);
}

TEST(TrafficPerStep, SendsHalfAsManyBytesOfActivationsInBf16) {
  auto spec = two_layer_job(2);
  spec.parallelism.pipeline = 2;
  const auto full = total(traffic_per_step(spec));
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  EXPECT_EQ(total(traffic_per_step(spec)) * 2, full);
}

TEST(TrafficPerStep, AddsATiedEmbeddingBetweenTheEndsOfAPipeline) {
  auto spec = two_layer_job(2);
  spec.parallelism.pipeline = 2;
  const auto apart = total(traffic_per_step(spec));
  spec.model.size->tieEmbeddings = true;
  EXPECT_EQ(total(traffic_per_step(spec)) - apart, 2 * 32 * 16 * 4);
}

TEST(TrafficPerStep, OfShardsInAWorkerHasOnlyTheirSumsBetweenWorkers) {
  auto spec = two_layer_job(2);
  spec.workers.processesPerWorker = 2;
  spec.parallelism.zero = {.stage = 3, .shardGroup = contract::ShardGroup::kNode};
  const auto near = traffic_per_step(spec);
  spec.parallelism.zero.shardGroup = contract::ShardGroup::kWorld;
  const auto far = traffic_per_step(spec);
  const auto between = [](const std::vector<Flow>& flows) {
    return bytes(flows, 1, 2) + bytes(flows, 3, 0) + bytes(flows, 0, 2) + bytes(flows, 2, 0);
  };
  EXPECT_LT(between(near), between(far));
  EXPECT_GE(bytes(near, 0, 2), num_parameters(*spec.model.size) / 2 * 4) << "an all-reduce of two sends all of a shard";
  EXPECT_GT(bytes(near, 0, 1), bytes(near, 0, 2));
}

TEST(TrafficPerStep, ConnectsRanksOfTheSameTensorAndPipelinePlaceAmongReplicas) {
  auto spec = two_layer_job(8);
  spec.parallelism.tensor = 2;
  spec.parallelism.pipeline = 2;
  const auto flows = traffic_per_step(spec);
  for (std::int32_t rank = 0; rank < 4; ++rank) EXPECT_GT(bytes(flows, rank, rank + 4), 0) << rank;
  EXPECT_EQ(bytes(flows, 0, 5), 0) << "neither an axis in common";
}

}  // namespace
}  // namespace trainyard::plan
