// Parallel equals serial: every layout against the one process that trains alone (docs/numerics.md).
#include <cmath>

#include <gtest/gtest.h>

#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {
namespace {

using contract::Reduction;

TEST(Training, LearnsTheMadeUpText) {
  const auto spec = longer_job(150);
  const auto alone = train(spec, {});
  EXPECT_NEAR(alone.losses.front(), std::log(64.0), 0.05);
  EXPECT_LT(alone.losses.back(), 2.5);
}

TEST(Training, IsTheSameTwice) { expect_equal_bits(train(small_job(), {}), train(small_job(), {})); }

TEST(Training, DependsOnTheSeed) {
  auto other = small_job();
  other.training.seed = 2;
  EXPECT_NE(train(small_job(), {}).losses, train(other, {}).losses);
}

TEST(Canonical, DataAndPipelineParallelEqualOneProcessBitForBit) {
  const auto spec = small_job(Reduction::kCanonical);
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.dp = 2}, {.dp = 4}, {.pp = 2}, {.pp = 4, .dp = 2}}) {
    SCOPED_TRACE("dp=" + std::to_string(degrees.dp) + " pp=" + std::to_string(degrees.pp));
    expect_equal_bits(train(spec, degrees), alone);
  }
}

TEST(Canonical, ATiedEmbeddingIsOneWeightInEveryLayout) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->tieEmbeddings = true;
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2}, {.pp = 4}}) {
    SCOPED_TRACE("dp=" + std::to_string(degrees.dp) + " pp=" + std::to_string(degrees.pp));
    expect_equal_bits(train(spec, degrees), alone);
  }
}

/// Every schedule that cuts the model of small_job() into at least two stages.
std::vector<std::pair<contract::PipelineSchedule, std::int32_t>> schedules_and_stages() {
  using Name = contract::PipelineScheduleName;
  return {{{.name = Name::kGPipe, .virtualStages = 1}, 2},       {{.name = Name::kGPipe, .virtualStages = 1}, 4},
          {{.name = Name::kInterleaved, .virtualStages = 2}, 2}, {{.name = Name::kInterleaved, .virtualStages = 3}, 2},
          {{.name = Name::kInterleaved, .virtualStages = 2}, 4}, {{.name = Name::kZeroBubble, .virtualStages = 1}, 2},
          {{.name = Name::kZeroBubble, .virtualStages = 1}, 4}};
}

TEST(Canonical, EveryScheduleEqualsOneProcessBitForBit) {
  for (const bool tied : {false, true}) {
    auto spec = small_job(Reduction::kCanonical);
    spec.model.size->layers = 9;  // no schedule cuts them evenly
    spec.model.size->tieEmbeddings = tied;
    spec.training.steps = 6;
    const auto alone = train(spec, {});
    for (const auto& [schedule, pp] : schedules_and_stages()) {
      for (const std::int32_t dp : {1, 2}) {
        SCOPED_TRACE(std::string(contract::name_of(schedule.name)) + " of " + std::to_string(schedule.virtualStages) +
                     ", pp=" + std::to_string(pp) + " dp=" + std::to_string(dp) + (tied ? ", tied" : ""));
        spec.parallelism.pipelineSchedule = schedule;
        expect_equal_bits(train(spec, {.pp = pp, .dp = dp}), alone);
      }
    }
  }
}

TEST(Bf16, EveryScheduleEqualsOneProcessBitForBit) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->layers = 8;
  spec.training.steps = 4;
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  const auto alone = train(spec, {});
  for (const auto& [schedule, pp] : schedules_and_stages()) {
    SCOPED_TRACE(std::string(contract::name_of(schedule.name)) + ", pp=" + std::to_string(pp));
    spec.parallelism.pipelineSchedule = schedule;
    expect_equal_bits(train(spec, {.pp = pp}), alone);
  }
}

TEST(TensorParallel, EveryScheduleGivesTheSameBits) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->layers = 8;
  spec.training.steps = 4;
  const auto one_stage = train(spec, {.tp = 2});
  for (const auto& [schedule, pp] : schedules_and_stages()) {
    SCOPED_TRACE(std::string(contract::name_of(schedule.name)) + ", pp=" + std::to_string(pp));
    spec.parallelism.pipelineSchedule = schedule;
    expect_equal_bits(train(spec, {.pp = pp, .tp = 2}), one_stage);
  }
}

TEST(Pipeline, NeedsNoMeetingBeforehandWhereTheFirstCallOfAPairWaitsForBoth) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->tieEmbeddings = true;
  const auto alone = train(spec, {});
  for (const std::int32_t pp : {2, 3, 4}) {
    SCOPED_TRACE("pp=" + std::to_string(pp));
    expect_equal_bits(train(spec, {.pp = pp}, {.pairs_meet = true, .timeout = std::chrono::seconds(20)}), alone);
  }
}

TEST(Fast, EveryLayoutStaysCloseToOneProcessOverAHundredSteps) {
  const auto spec = longer_job(100);
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.tp = 2}, {.dp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
    SCOPED_TRACE("dp=" + std::to_string(degrees.dp) + " pp=" + std::to_string(degrees.pp) + " tp=" + std::to_string(degrees.tp));
    expect_near(train(spec, degrees), alone);
  }
}

TEST(Fast, ATiedEmbeddingIsCutByTensorParallelism) {
  auto spec = small_job();
  spec.model.size->tieEmbeddings = true;
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .tp = 2}}) expect_near(train(spec, degrees), alone);
}

TEST(Bf16, TrainsAsWellAsFullPrecision) {
  auto spec = longer_job(40);
  const auto full = train(spec, {});
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  for (const auto& degrees : {contract::Degrees{}, {.pp = 2, .tp = 2}}) {
    const auto half = train(spec, degrees);
    EXPECT_NEAR(half.losses.front(), full.losses.front(), 0.02);
    EXPECT_NEAR(half.losses.back(), full.losses.back(), 0.1);
    EXPECT_EQ(half.weights.begin()->second.scalar_type(), at::kFloat);
  }
}

}  // namespace
}  // namespace trainyard::trainer
