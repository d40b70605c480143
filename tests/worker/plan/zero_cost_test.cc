#include "worker/plan/zero_cost.h"

#include <gtest/gtest.h>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

constexpr std::int64_t kEmbedding = std::int64_t{32768} * 1024, kHead = kEmbedding + 1024, kDataRanks = 8;

/// In BF16, of eight data ranks with a GPU each, all of whose units are cut in equal parts but for a norm.
contract::TrainingJobSpec job_of_eight_data_ranks(std::int32_t stages = 1, std::int32_t layers = 8) {
  contract::TrainingJobSpec spec;
  spec.model.size =
      contract::ModelSize{.layers = layers, .hiddenSize = 1024, .heads = 16, .feedForwardSize = 4096, .vocabularySize = 32768};
  spec.data.sequenceLength = 16;
  spec.training.globalBatchSize = 2 * kDataRanks;
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.workers.count = static_cast<std::int32_t>(kDataRanks) * stages;
  spec.workers.gpusPerWorker = 1;
  spec.parallelism.pipeline = stages;
  spec.parallelism.zero.stage = 2;
  return spec;
}

/// With its two norms.
std::int64_t layer() {
  return static_cast<std::int64_t>(layer_matmul_parameters(*job_of_eight_data_ranks().model.size)) + 2 * 1024;
}

/// Of what an eighth is a part, to the row.
void expect_part(std::int64_t found, std::int64_t elements) {
  const double wanted = static_cast<double>(elements) / kDataRanks;
  EXPECT_NEAR(static_cast<double>(found), wanted, 0.02 * wanted);
}

std::vector<std::int64_t> elements_of(const std::vector<BackwardUnit>& units) {
  std::vector<std::int64_t> out;
  for (const auto& unit : units) out.push_back(unit.elements);
  return out;
}

TEST(BackwardUnits, AreTheHeadTheLayersAndTheLookUp) {
  const auto units = backward_units(job_of_eight_data_ranks(1, 3), 0);
  EXPECT_EQ(elements_of(units), (std::vector<std::int64_t>{kHead, layer(), layer(), layer(), kEmbedding}));
  for (std::size_t i = 0; i < units.size(); ++i) {
    EXPECT_EQ(units[i].is_layer, i > 0 && i < 4) << i;
    expect_part(units[i].part, units[i].elements);
    EXPECT_EQ(units[i].weights + units[i].gathering + units[i].gathering_in_forward, 0) << "they are always there";
  }
  EXPECT_EQ(elements_of(backward_units(job_of_eight_data_ranks(2, 2), 0)), (std::vector<std::int64_t>{layer(), kEmbedding}));
  EXPECT_EQ(elements_of(backward_units(job_of_eight_data_ranks(2, 2), 1)), (std::vector<std::int64_t>{kHead, layer()}));
}

TEST(BackwardUnits, OfATiedHeadAreTheEmbeddingThenTheNormAndAtTheEndItsLookUp) {
  auto spec = job_of_eight_data_ranks(1, 2);
  spec.model.size->tieEmbeddings = true;
  EXPECT_EQ(elements_of(backward_units(spec, 0)), (std::vector<std::int64_t>{kEmbedding, 1024, layer(), layer(), kEmbedding}));
  spec.workers.count *= 2;
  spec.parallelism.pipeline = 2;
  EXPECT_EQ(elements_of(backward_units(spec, 0)), (std::vector<std::int64_t>{layer(), kEmbedding})) << "looked up alone";
  EXPECT_EQ(elements_of(backward_units(spec, 1)), (std::vector<std::int64_t>{kEmbedding, 1024, layer()})) << "multiplied with";
}

TEST(BackwardUnits, OfAnInterleavedStageHaveTheLayersOfAChunk) {
  auto spec = job_of_eight_data_ranks(2, 8);
  spec.model.size->vocabularySize = 16;  // so that stages have as many layers
  spec.parallelism.pipelineSchedule = {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 2};
  EXPECT_EQ(backward_units(spec, 0).size(), 2U + 1);
}

/// A unit, the next one on its way, and what it comes in.
TEST(BackwardUnits, AtStageThreeAreGatheredWithTheNext) {
  auto spec = job_of_eight_data_ranks(1, 3);
  spec.parallelism.zero.stage = 3;
  const auto units = backward_units(spec, 0);
  const std::int64_t flat_head = 9 * units[0].part, flat_layer = 9 * units[1].part, flat_look_up = 9 * units[4].part;
  EXPECT_EQ(units[0].gathering, flat_head + kHead + flat_layer);
  EXPECT_EQ(units[0].weights, kHead + flat_layer);
  EXPECT_EQ(units[2].gathering, flat_layer + layer() + flat_layer);
  EXPECT_EQ(units[3].gathering, flat_layer + layer()) << "none is read after it";
  EXPECT_EQ(units[3].weights, layer());
  EXPECT_EQ(units[4].gathering + units[4].weights, 0) << "not read";
  EXPECT_EQ(units[4].gathering_in_forward, flat_look_up + kEmbedding + flat_layer) << "the first";
  EXPECT_EQ(units[0].gathering_in_forward, flat_layer + layer() + flat_head) << "the last layer, and then the head";
}

TEST(BackwardUnits, OfATiedHeadAtStageThreeAreThereWithTheNorm) {
  auto spec = job_of_eight_data_ranks(1, 2);
  spec.parallelism.zero.stage = 3;
  spec.model.size->tieEmbeddings = true;
  const auto units = backward_units(spec, 0);
  const std::int64_t flat_head = 9 * units[0].part, flat_norm = 9 * units[1].part, flat_layer = 9 * units[2].part;
  EXPECT_EQ(units[0].gathering, flat_head + kEmbedding + flat_norm);
  EXPECT_EQ(units[0].weights, kEmbedding + 1024 + flat_layer);
  EXPECT_EQ(units[1].gathering, kEmbedding + flat_norm + 1024 + flat_layer);
  EXPECT_EQ(units[1].weights, units[0].weights);
}

/// In the order of their names; most is there when the last large one is in both formats.
TEST(BackwardUnits, TurnIntoFp32TensorByTensor) {
  auto spec = job_of_eight_data_ranks(1, 3);
  const auto units = backward_units(spec, 0);
  EXPECT_EQ(units[0].turning, (4 + 2) * kEmbedding + 2 * 1024) << "the norm comes last";
  EXPECT_EQ(units[1].turning, 4 * layer() + 2 * 1024 * 1024) << "v's";
  EXPECT_EQ(units[4].turning, (4 + 2) * kEmbedding);
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  EXPECT_EQ(backward_units(spec, 0)[1].turning, 4 * layer()) << "it is";
}

TEST(WholeGathers, AreOfTwoPartsAtTheMostTheLastOneOfTheUnitBeforeAmongThem) {
  auto spec = job_of_eight_data_ranks();
  spec.parallelism.zero.stage = 0;
  spec.training.reduction = contract::Reduction::kCanonical;
  constexpr std::int64_t kEach = 4 * kDataRanks, kPart = kGatheredElements;
  WholeGathers gathers(spec);
  EXPECT_EQ(gathers.under_way(), 0);
  EXPECT_EQ(gathers.begin(1000), kEach * 1000);
  EXPECT_EQ(gathers.under_way(), kEach * 1000);
  EXPECT_EQ(gathers.begin(kPart), kEach * (1000 + kPart));
  EXPECT_EQ(gathers.under_way(), kEach * (1000 + kPart));
  EXPECT_EQ(gathers.begin(2 * kPart + 5), kEach * 2 * kPart) << "with the one before, and then two of its own";
  EXPECT_EQ(gathers.under_way(), kEach * (kPart + 5));
  EXPECT_EQ(gathers.begin(2000), kEach * (5 + 2000));
  EXPECT_EQ(gathers.begin(kPart + 1), kEach * (2000 + kPart));
  EXPECT_EQ(gathers.under_way(), kEach * (kPart + 1));
  WholeGathers alone(spec);
  EXPECT_EQ(alone.begin(10 * kPart), kEach * 2 * kPart) << "also of the first";
  spec.training.reduction = contract::Reduction::kFast;
  WholeGathers none(spec);
  EXPECT_EQ(none.begin(10 * kPart) + none.under_way(), 0) << "reduced in place";
}

TEST(WholeExchanges, OfASplitBackwardAreOfOneUnitAfterTheOtherFromTheEmbeddingOn) {
  auto spec = job_of_eight_data_ranks(2, 2);
  spec.parallelism.zero.stage = 0;
  EXPECT_EQ(whole_exchanges(spec, 0, 4), 4 * kEmbedding) << "flat";
  EXPECT_EQ(whole_exchanges(spec, 0, 6), 2 * kEmbedding);
  spec.training.reduction = contract::Reduction::kCanonical;
  constexpr std::int64_t kTwoParts = 2 * 4 * kDataRanks * kGatheredElements;
  EXPECT_EQ(whole_exchanges(spec, 0, 4), 4 * kEmbedding + kTwoParts);
  EXPECT_EQ(whole_exchanges(spec, 0, 12), (8 - 12) * kEmbedding + kTwoParts) << "its sums are one then";
  EXPECT_EQ(whole_exchanges(spec, 1, 12), (8 - 12) * layer() + kTwoParts) << "a layer is the first";
  spec.model.size->tieEmbeddings = true;
  EXPECT_EQ(whole_exchanges(spec, 1, 12), (8 - 12) * kEmbedding + kTwoParts) << "the head's comes first by its name";
  spec.parallelism.zero.stage = 1;
  EXPECT_EQ(whole_exchanges(spec, 0, 4), 0);
}

TEST(ExchangeBytes, AreThoseOfAllPartsToSendAndOfOneThatComesOrAllWhereRanksAddUpThemselves) {
  auto spec = job_of_eight_data_ranks();
  EXPECT_EQ(exchange_bytes(spec), 4 * (kDataRanks + 1));
  spec.training.reduction = contract::Reduction::kCanonical;
  EXPECT_EQ(exchange_bytes(spec), 4 * 2 * kDataRanks);
  spec.training.reduction = contract::Reduction::kFast;
  spec.workers.gpusPerWorker = 0;
  EXPECT_EQ(exchange_bytes(spec), 4 * (2 * kDataRanks + 1));
  spec.workers.count = 1;
  spec.parallelism.zero.offload.optimizer = true;
  EXPECT_EQ(exchange_bytes(spec), 4) << "nobody to send to";
}

}  // namespace
}  // namespace trainyard::plan
