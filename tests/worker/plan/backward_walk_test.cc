#include "worker/plan/backward_walk.h"

#include <gtest/gtest.h>

#include "worker/plan/cost.h"
#include "worker/plan/shards.h"

namespace trainyard::plan {
namespace {

constexpr std::int64_t kData = 8;

/// In BF16, on GPUs, of three micro-batches a rank.
contract::TrainingJobSpec job_at_zero_stage(std::int32_t stage, std::int32_t micro_batches = 3, std::int64_t data = kData) {
  contract::TrainingJobSpec spec;
  spec.model.size =
      contract::ModelSize{.layers = 3, .hiddenSize = 1024, .heads = 16, .feedForwardSize = 4096, .vocabularySize = 32768};
  spec.data.sequenceLength = 16;
  spec.training.globalBatchSize = static_cast<std::int32_t>(micro_batches * data);
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.workers.count = static_cast<std::int32_t>(data);
  spec.workers.gpusPerWorker = 1;
  spec.parallelism.zero.stage = stage;
  return spec;
}

BackwardWalk walk_of(const contract::TrainingJobSpec& spec) {
  const std::int64_t parameters = num_parameters(*spec.model.size);
  const std::int64_t twice = spec.model.size->tieEmbeddings ? std::int64_t{32768} * 1024 : 0;
  return {spec, 0, parameters, parameters + twice, zero_stage(spec) > 0 ? std::optional(zero_memory(spec, 0)) : std::nullopt};
}

/// Head, three layers, look-up.
struct Units {
  explicit Units(const contract::TrainingJobSpec& spec) : all(backward_units(spec, 0)), each(exchange_bytes(spec)) {}
  std::int64_t of(std::size_t i) const { return all.at(i).elements; }
  std::int64_t sum(std::size_t i) const { return 4 * all.at(i).part; }
  std::int64_t exchange(std::size_t i) const { return each * all.at(i).part; }
  std::vector<BackwardUnit> all;
  std::int64_t each;
};

TEST(BackwardWalk, OfEachMicroBatchHasTheUnitThatGoesTwoExchangesAndTheShardsThatAreThere) {
  const auto spec = job_at_zero_stage(2);
  const Units units(spec);
  const auto walk = walk_of(spec);
  const std::int64_t going = 2 * units.of(4) + units.exchange(4) + units.exchange(3);
  EXPECT_EQ(walk.most(0, false, {}).gradients, units.sum(0) + units.sum(1) + units.sum(2) + going);
  EXPECT_EQ(walk.most(1, false, {}).gradients, zero_memory(spec, 0).shard_sums + going) << "all of those before";
}

/// What came before the head's goes first: there are activations then, and none at the end.
TEST(BackwardWalk, HasTheActivationsOfLayersThatAreNotDoneYet) {
  const auto spec = job_at_zero_stage(2, 1);
  const Units units(spec);
  const std::int64_t layer = std::int64_t{1} << 40;
  const auto moment = walk_of(spec).most(0, false, {.kept = 3 * layer, .layer = layer});
  EXPECT_EQ(moment.activations, 3 * layer);
  EXPECT_EQ(moment.gradients, 2 * units.of(0) + units.exchange(0)) << "the head's";
  const auto later = walk_of(spec).most(0, false, {.others = layer, .kept = 4 * layer, .layer = layer, .computed_again = 5});
  EXPECT_EQ(later.activations, 4 * layer);
  const auto no_layer = walk_of(spec).most(0, false, {.others = layer, .kept = layer, .layer = layer});
  EXPECT_EQ(no_layer.activations, layer) << "others stay";
}

TEST(BackwardWalk, HasWhatIsComputedAgainAndWorkedWithBesideExchangesAndTheFirstGradientOfItsLayer) {
  const auto spec = job_at_zero_stage(2, 1);
  const Units units(spec);
  const std::int64_t again = std::int64_t{1} << 40, layer = std::int64_t{1} << 34;
  const std::int64_t down = 2 * std::int64_t{1024} * 4096;
  const auto first = walk_of(spec).most(0, false, {.kept = 3 * layer, .layer = layer, .computed_again = again, .layer_work = 9});
  EXPECT_EQ(first.activations, 3 * layer + again + 9);
  EXPECT_EQ(first.gradients, units.exchange(0) + down);
  const auto later = walk_of(spec).most(0, false, {.computed_again = again});
  EXPECT_EQ(later.gradients, units.exchange(0) + units.exchange(1) + down) << "of the last layer but one";
}

TEST(BackwardWalk, HasTheResidualStreamsGradientFromTheLastLayerToTheLookUp) {
  const auto spec = job_at_zero_stage(2, 1);
  const std::int64_t stream = std::int64_t{1} << 40;
  EXPECT_EQ(walk_of(spec).most(0, false, {.kept = 7, .head = 5, .stream = stream}).activations, 7 + stream)
      << "the head's is gone";
  EXPECT_EQ(walk_of(spec).most(0, false, {.others = 3, .kept = 3, .head = 5 * stream, .stream = stream}).activations,
            3 + 5 * stream)
      << "not yet, as backward begins";
}

/// A layer's weights are gathered before it keeps anything, and what they were gathered in is gone as it is computed.
TEST(BackwardWalk, AtStageThreeHasInForwardWhatIsGatheredBesideTheLayersBefore) {
  const auto spec = job_at_zero_stage(3);
  const Units units(spec);
  const std::int64_t layer = std::int64_t{1} << 40;
  const auto moment = walk_of(spec).most(1, true, {.kept = 3 * layer, .layer = layer, .stream = 0});
  EXPECT_EQ(moment.activations, 3 * layer);
  EXPECT_EQ(moment.weights, 2 * units.all[0].weights_in_forward);
  EXPECT_EQ(units.all[0].weights_in_forward, units.of(1) + 9 * units.all[0].part) << "its own, and the head's on their way";
  EXPECT_EQ(units.all[0].gathering_in_forward, units.all[0].weights_in_forward + 9 * units.all[1].part);
}

TEST(BackwardWalk, HasAHeadsWorkBeforeAnyGradients) {
  const auto moment =
      walk_of(job_at_zero_stage(2, 1)).most(0, false, {.kept = 7, .head = 5, .work = std::int64_t{1} << 40, .computed_again = 3});
  EXPECT_EQ(moment.activations, 7 + 5 + (std::int64_t{1} << 40));
  EXPECT_EQ(moment.gradients, 0);
}

TEST(BackwardWalk, HasTheLastExchangesOfOneMicroBatchBesideTheNextOnesForward) {
  const auto spec = job_at_zero_stage(2);
  const Units units(spec);
  const std::int64_t sums = zero_memory(spec, 0).shard_sums, kept = std::int64_t{1} << 40;
  const WalkedActivations activations{.kept = kept, .layer = kept / 2};
  const auto walk = walk_of(spec);
  EXPECT_EQ(walk.most(1, true, activations), (Moment{0, sums + units.exchange(3) + units.exchange(4), kept}));
  EXPECT_EQ(walk.most(1, false, activations), (Moment{0, sums + 2 * units.of(0) + units.exchange(0), kept}))
      << "backward follows backward";
  EXPECT_EQ(walk.most(0, true, activations), (Moment{0, 2 * units.of(0) + units.exchange(0), kept})) << "none came before";
  EXPECT_EQ(walk_of(job_at_zero_stage(1)).most(1, true, activations).gradients,
            4 * num_parameters(*spec.model.size) + 4 * units.of(0))
      << "nothing goes yet";
}

TEST(BackwardWalk, OfASumHasItAllUntilTheLastMicroBatchWhoseUnitsGoOneByOne) {
  const auto spec = job_at_zero_stage(1);
  const Units units(spec);
  const std::int64_t all = 4 * num_parameters(*spec.model.size);
  const auto walk = walk_of(spec);
  EXPECT_EQ(walk.most(0, false, {}).gradients, all) << "the micro-batch's become the sum";
  EXPECT_EQ(walk.most(1, true, {}).gradients, all + 4 * units.of(0)) << "a unit, until it is added";
  EXPECT_EQ(walk.most(2, true, {}).gradients, all + std::max(4 * units.of(0), units.exchange(0)));
  const std::int64_t at_the_end =
      4 * units.of(4) + units.exchange(4) + units.exchange(3) + units.sum(0) + units.sum(1) + units.sum(2);
  EXPECT_GE(walk_of(job_at_zero_stage(1, 1)).most(0, false, {}).gradients, at_the_end);
}

TEST(BackwardWalk, UnderCanonicalHasASumForEachDigitOneOfThoseDone) {
  auto spec = job_at_zero_stage(2, 8);
  spec.training.reduction = contract::Reduction::kCanonical;
  const Units units(spec);
  const std::int64_t all = 4 * num_parameters(*spec.model.size);
  const auto walk = walk_of(spec);
  EXPECT_EQ(walk.most(1, true, {}).gradients, all + 4 * units.of(0)) << "two become one";
  EXPECT_EQ(walk.most(2, true, {}).gradients, 2 * all);
  EXPECT_EQ(walk.most(6, true, {}).gradients, 3 * all);
  EXPECT_EQ(walk.most(7, true, {}).gradients, 3 * all + 4 * units.of(0)) << "before all of the head's are one, which goes";
}

TEST(BackwardWalk, OffloadedHasNoShardsButTheSumOnItsWayAndTheOneItIsAddedTo) {
  auto spec = job_at_zero_stage(2);
  spec.parallelism.zero.offload.optimizer = true;
  const Units units(spec);
  const auto walk = walk_of(spec);
  const std::int64_t going = 2 * units.of(4) + units.exchange(4) + units.exchange(3) + units.sum(2);
  EXPECT_EQ(walk.most(0, false, {}).gradients, going);
  EXPECT_EQ(walk.most(1, false, {}).gradients, going + units.sum(4) + units.sum(3));
  EXPECT_EQ(walk.most(1, true, {.kept = std::int64_t{1} << 40, .layer = std::int64_t{1} << 39}).gradients,
            2 * units.of(0) + units.exchange(0) + units.sum(0) + units.sum(4))
      << "no exchange is left over, a sum is";
}

TEST(BackwardWalk, AtStageThreeHasTheWeightsOfTheUnitThatGoesOrThoseThatAreGathered) {
  const auto spec = job_at_zero_stage(3, 1);
  const Units units(spec);
  const auto walk = walk_of(spec);
  const auto at_the_head = walk.most(0, false, {.head = 5, .work = std::int64_t{1} << 40});
  EXPECT_EQ(at_the_head.weights, 2 * units.all[0].weights);
  const auto gathered = walk.most(0, false, {});
  EXPECT_EQ(gathered.weights, 2 * units.all[2].gathering) << "there are none as the look-up ends, whose gradients are more";
  EXPECT_EQ(gathered.gradients, units.exchange(0) + units.exchange(1)) << "the last layer's go, and its successor is gathered";
  EXPECT_EQ(walk_of(job_at_zero_stage(2, 1)).most(0, false, {}).weights, 0) << "always there";
}

TEST(BackwardWalk, OfSeveralDataRanksWithoutZeroHasTheSumsUntilTheLastMicroBatchWhoseUnitsAreCopiedAndSummedOneByOne) {
  auto spec = job_at_zero_stage(0);
  const Units units(spec);
  const std::int64_t all = num_parameters(*spec.model.size);
  const auto walk = walk_of(spec);
  EXPECT_EQ(walk.most(0, false, {}).gradients, 4 * all + 2 * units.of(4)) << "which become the sum, in FP32";
  EXPECT_EQ(walk.most(1, true, {}).gradients, 4 * all + 2 * units.of(0)) << "a unit, until it is added";
  EXPECT_EQ(walk.most(2, true, {}).gradients, 4 * all + 4 * units.of(0));
  EXPECT_EQ(walk_of(job_at_zero_stage(0, 1)).most(0, false, {}).gradients, 4 * all + 4 * units.of(4))
      << "all that were summed stay";
  spec.training.reduction = contract::Reduction::kCanonical;
  const auto canonical = walk_of(spec);
  EXPECT_EQ(canonical.most(0, false, {}).gradients, 2 * all) << "in BF16 still";
  EXPECT_EQ(canonical.most(1, true, {}).gradients, 4 * all + (2 + 2) * units.of(4))
      << "two become one in FP32, unit by unit, both of the last beside it";
  EXPECT_EQ(canonical.most(2, true, {}).gradients, 4 * all + 4 * units.of(0) + 2 * 4 * kData * kGatheredElements)
      << "two parts of what all ranks have, of a unit that has more";
}

TEST(BackwardWalk, WithoutZeroUnderCanonicalTurnsTheSumOfOneMicroBatchIntoFp32WhenTheNextIsAddedToIt) {
  auto spec = job_at_zero_stage(0, 9);
  spec.training.reduction = contract::Reduction::kCanonical;
  const Units units(spec);
  const std::int64_t all = num_parameters(*spec.model.size), tensor = units.of(4);  // of the head, too, which has a norm
  const std::int64_t head = 6 * tensor + 2 * 1024;
  const auto walk = walk_of(spec);
  EXPECT_EQ(walk.most(2, true, {}).gradients, (4 + 2) * all) << "nothing to add to";
  EXPECT_EQ(walk.most(7, true, {}).gradients, (4 + 4 + 2) * all + head) << "before sums become one";
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  EXPECT_EQ(walk_of(spec).most(7, true, {}).gradients, 3 * 4 * all + 4 * units.of(0)) << "they are";
}

TEST(BackwardWalk, WithoutZeroHasGradientsOfARankAloneThatGrowUntilTheyAreAdded) {
  const auto spec = job_at_zero_stage(0, 3, 1);
  const std::int64_t all = num_parameters(*spec.model.size), layer = std::int64_t{1} << 40;
  const Units units(spec);
  const auto walk = walk_of(spec);
  EXPECT_EQ(walk.most(0, false, {}).gradients, 4 * all) << "which become the sum";
  EXPECT_EQ(walk.most(1, true, {}).gradients, (4 + 2) * all);
  const auto again = walk.most(1, true, {.kept = 3 * layer, .layer = layer, .computed_again = 2 * layer});
  EXPECT_EQ(again.gradients, 4 * all + 2 * (units.of(0) + std::int64_t{1024} * 4096))
      << "the head's are there as the last layer is computed again";
  EXPECT_EQ(again.activations, 5 * layer);
}

TEST(BackwardWalk, HasAfterItTheSumsAdamWsOwnNumbersAndWhatIsGathered) {
  const auto spec = job_at_zero_stage(0);
  const std::int64_t all = num_parameters(*spec.model.size), head = std::int64_t{32768} * 1024;
  EXPECT_EQ(walk_of(spec).most_after().gradients, 4 * all) << "summed where they are";
  auto alone = job_at_zero_stage(0, 3, 1);
  EXPECT_EQ(walk_of(alone).most_after().gradients, 4 * all) << "a kernel needs nothing";
  alone.workers.gpusPerWorker = 0;
  EXPECT_EQ(walk_of(alone).most_after().gradients, 4 * all + 4 * head) << "operations need the denominators of a tensor";
  alone.training.precision.optimizerStates = contract::OptimizerStates::kBF16;
  EXPECT_EQ(walk_of(alone).most_after().gradients, 4 * all + 12 * head) << "and its moments in FP32";
  alone.training.precision.optimizerStates = contract::OptimizerStates::kFP32;
  alone.model.size->tieEmbeddings = true;
  EXPECT_EQ(walk_of(alone).most_after().gradients, 4 * (all - head) + 4 * head) << "one gradient";
  alone.parallelism.zero = {.stage = 1, .offload = {.optimizer = true}};
  EXPECT_EQ(walk_of(alone).most_after().gradients, 0) << "on the host";
  auto sharded = job_at_zero_stage(2);
  const Units units(sharded);
  const std::int64_t sums = zero_memory(sharded, 0).shard_sums;
  EXPECT_EQ(walk_of(sharded).most_after().gradients, sums + 2 * 9 * (units.all[0].part + units.all[1].part));
  sharded.workers.gpusPerWorker = 0;
  sharded.parallelism.zero.stage = 3;
  EXPECT_NEAR(static_cast<double>(walk_of(sharded).most_after().gradients),
              static_cast<double>(sums) + 4.0 * static_cast<double>(head) / kData, 1e5);
}

}  // namespace
}  // namespace trainyard::plan
