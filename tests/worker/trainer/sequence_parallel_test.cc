// Sequence parallelism against tensor parallelism without it, against one process, and in every layout (docs/numerics.md).
#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/trainer/a_training.h"
#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;
using contract::RecomputeMode;
using contract::Reduction;
using Name = contract::PipelineScheduleName;

/// small_job() for up to four tensor ranks, with dropout and all terms of the loss.
contract::TrainingJobSpec sequence_parallel_job(std::int64_t steps, Reduction reduction = Reduction::kCanonical) {
  auto spec = small_job(reduction);
  spec.model.size->keyValueHeads = 4;
  spec.model.size->vocabularySize = 67;  // not as many classes on every rank
  spec.training.steps = steps;
  spec.training.dropout = 0.1;
  spec.training.loss = {.labelSmoothing = 0.1, .zLoss = 1e-3};
  spec.parallelism.microBatchSize = 2;
  spec.parallelism.sequence = true;
  return spec;
}

contract::TrainingJobSpec without(contract::TrainingJobSpec spec) {
  spec.parallelism.sequence = false;
  return spec;
}

bool is_norm(const std::string& name) { return name.find("norm") != std::string::npos; }

TEST(SequenceParallel, HasTheBitsOfTensorParallelismInTheFirstLossAndAllFirstGradientsButThoseOfTheNorms) {
  for (const auto precision :
       {ComputePrecision::kFP32, ComputePrecision::kBF16, ComputePrecision::kFP16, ComputePrecision::kFP8}) {
    for (const std::int32_t tp : {2, 4}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(precision) << ", tp " << tp);
      auto spec = sequence_parallel_job(1);
      spec.training.precision.compute = precision;
      spec.training.gradientClipping.reset();  // by the norm, of which the norms' gradients are a part
      const auto shards = train(spec, {.tp = tp}), whole = train(without(spec), {.tp = tp});
      EXPECT_EQ(shards.losses, whole.losses);
      const bool full = precision == ComputePrecision::kFP32;
      EXPECT_NEAR(shards.norms[0], whole.norms[0], (full ? 1e-6 : 1e-3) * whole.norms[0]);
      for (const auto& [name, gradient] : whole.first_gradients) {
        const auto& found = shards.first_gradients.at(name);
        if (!is_norm(name)) {
          EXPECT_TRUE(at::equal(found, gradient)) << name;
        } else {
          // Below FP32 whole sums over tokens are rounded, those of shards before they are added up.
          EXPECT_LT(relative_difference(found, gradient), full ? 1e-6 : 1e-2) << name;
        }
      }
    }
  }
}

TEST(SequenceParallel, StaysCloseToOneProcessOverAHundredSteps) {
  auto spec = longer_job(100);
  spec.model.size->keyValueHeads = 4;
  for (const bool drops : {false, true}) {
    if (drops) spec.training.dropout = 0.1;
    spec.parallelism.sequence = false;
    const auto alone = train(spec, {});
    spec.parallelism.sequence = true;
    for (const auto& degrees : {contract::Degrees{.tp = 2}, {.tp = 4}, {.pp = 2, .dp = 2, .tp = 2}}) {
      SCOPED_TRACE(testing::Message() << "pp " << degrees.pp << ", dp " << degrees.dp << ", tp " << degrees.tp << ", dropout "
                                      << drops);
      expect_near(train(spec, degrees), alone);
    }
  }
}

TEST(SequenceParallel, TrainsInBf16AsWellAsTensorParallelism) {
  auto spec = sequence_parallel_job(40);
  spec.training.precision.compute = ComputePrecision::kBF16;
  const auto shards = train(spec, {.pp = 2, .tp = 2}), whole = train(without(spec), {.pp = 2, .tp = 2});
  EXPECT_EQ(shards.losses.front(), whole.losses.front());
  for (std::size_t i = 0; i < whole.losses.size(); ++i) EXPECT_NEAR(shards.losses[i], whole.losses[i], 0.02) << i;
}

struct WayOfTensorRanks {
  contract::Degrees degrees;
  std::int32_t zero = 0;
  contract::PipelineSchedule schedule = {};
  RecomputeMode recompute = RecomputeMode::kNone;
  bool offload = false;
};

std::vector<WayOfTensorRanks> ways_of_tensor_ranks() {
  return {{{.tp = 2}, 0, {}, RecomputeMode::kFull},
          {{.tp = 2}, 0, {}, RecomputeMode::kSelective},
          {{.tp = 2}, 0, {}, RecomputeMode::kNone, true},
          {{.tp = 2}, 0, {}, RecomputeMode::kSelective, true},
          {{.dp = 2, .tp = 2}},
          {{.pp = 2, .tp = 2}},
          {{.pp = 2, .tp = 2}, 0, {.name = Name::kGPipe, .virtualStages = 1}, RecomputeMode::kFull},
          {{.pp = 2, .tp = 2}, 0, {.name = Name::kInterleaved, .virtualStages = 2}, RecomputeMode::kSelective},
          {{.pp = 2, .tp = 2}, 0, {.name = Name::kZeroBubble, .virtualStages = 1}},
          {{.pp = 2, .tp = 2}, 0, {.name = Name::kZeroBubble, .virtualStages = 1}, RecomputeMode::kFull},
          {{.pp = 2, .tp = 2}, 0, {.name = Name::kZeroBubble, .virtualStages = 1}, RecomputeMode::kSelective, true},
          {{.dp = 2, .tp = 2}, 1},
          {{.dp = 4, .tp = 2}, 2, {}, RecomputeMode::kSelective},
          {{.dp = 2, .tp = 2}, 3, {}, RecomputeMode::kFull},
          {{.pp = 2, .dp = 2, .tp = 2}, 3, {.name = Name::kZeroBubble, .virtualStages = 1}},
          {{.pp = 2, .dp = 2, .tp = 2}, 3, {.name = Name::kInterleaved, .virtualStages = 2}, RecomputeMode::kNone, true}};
}

void expect_same_bits_in_all_ways(const contract::TrainingJobSpec& spec, const std::vector<WayOfTensorRanks>& all) {
  const auto tensor_ranks = train(spec, {.tp = 2});
  for (const auto& way : all) {
    auto mine = spec;
    mine.parallelism.zero.stage = way.zero;
    mine.parallelism.pipelineSchedule = way.schedule;
    mine.training.activationCheckpointing = {.mode = way.recompute, .offload = way.offload};
    for (const bool late : {false, true}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(spec.training.precision.compute) << " pp " << way.degrees.pp << ", dp "
                                      << way.degrees.dp << ", ZeRO " << way.zero << ", " << contract::name_of(way.schedule.name)
                                      << ", " << contract::name_of(way.recompute) << (way.offload ? ", offload" : "")
                                      << (late ? ", at the last moment" : ""));
      expect_equal_bits(late ? train(mine, way.degrees, {}, mesh::late) : train(mine, way.degrees), tensor_ranks);
    }
  }
}

TEST(SequenceParallel, UnderCanonicalHasTheBitsOfTheTensorRanksAloneWhateverItIsCombinedWith) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    auto spec = sequence_parallel_job(3);
    spec.training.precision.compute = precision;
    expect_same_bits_in_all_ways(spec, ways_of_tensor_ranks());
  }
}

TEST(SequenceParallel, UnderCanonicalHasThemInFp8) {
  auto spec = sequence_parallel_job(3);
  spec.training.precision.compute = ComputePrecision::kFP8;
  auto all = ways_of_tensor_ranks();
  std::erase_if(all, [](const WayOfTensorRanks& way) { return way.schedule.name == Name::kZeroBubble; });  // which FP8 has not
  expect_same_bits_in_all_ways(spec, all);
}

TEST(SequenceParallel, KeepsATiedEmbeddingOneWeight) {
  auto spec = sequence_parallel_job(3);
  spec.model.size->tieEmbeddings = true;
  expect_same_bits_in_all_ways(spec, {{{.pp = 2, .tp = 2}}, {{.pp = 2, .dp = 2, .tp = 2}, 2}});
}

TEST(SequenceParallel, WithTheParametersOffloadedHasTheSameBits) {
  auto spec = sequence_parallel_job(3);
  const auto plain = train(spec, {.dp = 2, .tp = 2});
  spec.parallelism.zero = {.stage = 3, .offload = {.parameters = true, .optimizer = true}};
  expect_equal_bits(train(spec, {.dp = 2, .tp = 2}, {}, mesh::late), plain);
}

TEST(SequenceParallel, WithShardsInAWorkerHasTheSameBits) {
  auto spec = sequence_parallel_job(3);
  const auto plain = train(spec, {.dp = 4, .tp = 2});
  spec.parallelism.zero.stage = 2;
  expect_equal_bits(train(spec, {.dp = 4, .tp = 2, .shard = 2}), plain);
}

TEST(SequenceParallel, UnderFastStaysCloseWithEveryStageOfZero) {
  auto spec = longer_job(40);
  const auto alone = train(spec, {});
  spec.parallelism.sequence = true;
  for (const std::int32_t stage : {1, 2, 3}) {
    SCOPED_TRACE(stage);
    spec.parallelism.zero.stage = stage;
    expect_near(train(spec, {.dp = 2, .tp = 2}), alone);
  }
}

TEST(SequenceParallel, RefusesDataRanksThatWouldShardNormsOtherwiseBesideEachTensorRank) {
  auto spec = sequence_parallel_job(1);
  spec.model.size->vocabularySize = 3;
  spec.training.globalBatchSize = 10;
  spec.parallelism.zero.stage = 1;
  try {
    train(spec, {.dp = 5, .tp = 2});
    FAIL();
  } catch (const contract::UserError& error) {
    EXPECT_NE(std::string(error.what()).find("model.size.vocabularySize is 3"), std::string::npos);
  }
}

/// LICENSE on two tensor ranks, with sequences that grow.
struct SequenceJob : Job {
  SequenceJob() {
    spec.parallelism.sequence = true;
    spec.parallelism.microBatchSize = 2;
    spec.training.dropout = 0.1;
    spec.data.curriculum = contract::Curriculum{.stages = {{.untilStep = 2, .sequenceLength = 4}}};
  }
};

TEST(SequenceParallel, ResumedIsTheUninterruptedTrainingBitForBit) {
  const SequenceJob through;
  run(through, {.tp = 2});
  for (const std::int64_t stopped : {1, 3}) {
    const SequenceJob halves;
    run(halves, {.tp = 2}, 1, stop_at(stopped));
    run(halves, {.pp = 2, .tp = 2}, 2);
    EXPECT_EQ(halves.tensors_of(6), through.tensors_of(6)) << stopped;
  }
}

TEST(SequenceParallel, EvaluatesAsTensorParallelismDoesAndMayBeTurnedOnByAResume) {
  SequenceJob shards, whole;
  for (auto* const job : {&shards, &whole}) {
    job->spec.parallelism.sequence = false;
    job->spec.training.optimizer.learningRate = 1e-30;  // the weights stay as they are
    job->spec.training.learningRateSchedule = {.name = contract::ScheduleName::kConstant};
  }
  const auto expected = run(whole, {.tp = 2}).progress.back().progress.value();
  run(shards, {}, 1, stop_at(3));  // one process
  shards.spec.parallelism.sequence = true;
  const auto found = run(shards, {.tp = 2}, 2).progress.back().progress.value();
  EXPECT_EQ(found.validationLoss, expected.validationLoss);
  EXPECT_EQ(found.loss, expected.loss);
}

}  // namespace
}  // namespace trainyard::trainer
