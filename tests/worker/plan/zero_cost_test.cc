#include "worker/plan/zero_cost.h"

#include <gtest/gtest.h>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

constexpr std::int64_t kEmbedding = std::int64_t{32768} * 1024, kHead = kEmbedding + 1024, kData = 8;

/// In BF16, of eight data ranks with a GPU each, all of whose units are cut in equal parts but for a norm.
contract::TrainingJobSpec job(std::int32_t stages = 1, std::int32_t layers = 8) {
  contract::TrainingJobSpec spec;
  spec.model.size =
      contract::ModelSize{.layers = layers, .hiddenSize = 1024, .heads = 16, .feedForwardSize = 4096, .vocabularySize = 32768};
  spec.data.sequenceLength = 16;
  spec.training.globalBatchSize = 2 * kData;
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.workers.count = kData * stages;
  spec.workers.gpusPerWorker = 1;
  spec.parallelism.pipeline = stages;
  spec.parallelism.zero.stage = 2;
  return spec;
}

/// With its two norms.
std::int64_t layer() { return static_cast<std::int64_t>(layer_matmul_parameters(*job().model.size)) + 2 * 1024; }

/// What of an eighth, to the row, exchanges take.
void expect_exchange(std::int64_t found, std::int64_t elements, std::int64_t parts) {
  const double wanted = static_cast<double>(elements) / kData * 4 * static_cast<double>(parts);
  EXPECT_NEAR(static_cast<double>(found), wanted, 0.02 * wanted);
}

TEST(ZeroMemory, KnowsTheTwoUnitsThatBackwardComesToFirst) {
  const auto memory = zero_memory(job(), 0);
  EXPECT_EQ(memory.unit, kHead);
  EXPECT_EQ(memory.first_unit, kHead);
  EXPECT_EQ(memory.second_unit, layer());
  expect_exchange(memory.first_exchange, kHead, kData + 1);
  expect_exchange(memory.second_exchange, layer(), kData + 1);
}

TEST(ZeroMemory, OfAnEarlierStageHasTwoLayersFirst) {
  const auto memory = zero_memory(job(2), 0);
  EXPECT_EQ(memory.unit, kEmbedding);
  EXPECT_EQ(memory.first_unit, layer());
  EXPECT_EQ(memory.second_unit, layer());
}

TEST(ZeroMemory, OfAStageOfOneLayerHasNoSecondUnit) {
  auto spec = job(8);
  spec.model.size->vocabularySize = 16;  // so that stages have one layer each
  const auto memory = zero_memory(spec, 3);
  EXPECT_EQ(memory.first_unit, layer());
  EXPECT_EQ(memory.second_unit, 0);
  EXPECT_EQ(memory.second_exchange, 0);
}

TEST(ZeroMemory, OfATiedHeadHasTheEmbeddingFirstAndThenTheNorm) {
  auto spec = job();
  spec.model.size->tieEmbeddings = true;
  const auto memory = zero_memory(spec, 0);
  EXPECT_EQ(memory.first_unit, kEmbedding);
  EXPECT_EQ(memory.second_unit, 1024);
  expect_exchange(memory.first_exchange, kEmbedding, kData + 1);
  spec.workers.count *= 2;
  spec.parallelism.pipeline = 2;
  EXPECT_EQ(zero_memory(spec, 0).first_unit, layer()) << "looked up alone";
  EXPECT_EQ(zero_memory(spec, 1).first_unit, kEmbedding);
}

TEST(ZeroMemory, OfAnExchangeHasAllPartsToSendAndOneThatComesOrAllWhereRanksAddUpThemselves) {
  auto spec = job();
  expect_exchange(zero_memory(spec, 0).first_exchange, kHead, kData + 1);
  spec.training.reduction = contract::Reduction::kCanonical;
  expect_exchange(zero_memory(spec, 0).first_exchange, kHead, 2 * kData);
  spec.training.reduction = contract::Reduction::kFast;
  spec.workers.gpusPerWorker = 0;
  expect_exchange(zero_memory(spec, 0).first_exchange, kHead, 2 * kData + 1);
}

}  // namespace
}  // namespace trainyard::plan
