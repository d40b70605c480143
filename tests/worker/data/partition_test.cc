#include "worker/data/partition.h"

#include <gtest/gtest.h>

#include "crds/contract/layout.h"

namespace trainyard::data {
namespace {

using plan::StepsDone;

TEST(MicroBatches, CoverTheGlobalBatchInTheSameOrderInEveryLayoutOfUpToEightRanks) {
  for (std::int32_t dp = 1; dp <= 8; ++dp) {
    for (std::int32_t pp = 1; dp * pp <= 8; ++pp) {
      for (std::int32_t tp = 1; dp * pp * tp <= 8; ++tp) {
        for (const std::int64_t micro_batch : {1, 2, 3}) {
          const contract::Layout layout({.pp = pp, .dp = dp, .tp = tp}, dp * pp * tp);
          const std::int64_t global_batch = 2 * dp * micro_batch;
          std::vector<std::int64_t> owned(static_cast<std::size_t>(global_batch), 0);
          for (std::int32_t rank = 0; rank < layout.world_size(); ++rank) {
            const auto mine = micro_batches(global_batch, dp, layout.coordinate_of(rank).dp, micro_batch);
            std::int64_t number = mine.first_number;
            for (const auto& range : mine.ranges) {
              ASSERT_EQ(range, (SampleRange{number++ * micro_batch, micro_batch}));
              for (std::int64_t i = range.first; i < range.first + range.count; ++i) ++owned[static_cast<std::size_t>(i)];
            }
            ASSERT_EQ(mine.total * micro_batch, global_batch);
          }
          for (const auto times : owned) ASSERT_EQ(times, pp * tp);  // once by each data rank's pipeline and tensor ranks
        }
      }
    }
  }
}

TEST(MicroBatches, RefuseABatchThatDoesNotDivide) {
  EXPECT_THROW(micro_batches(16, 3, 0, 1), std::invalid_argument);
  EXPECT_THROW(micro_batches(16, 2, 0, 3), std::invalid_argument);
  EXPECT_THROW(micro_batches(16, 2, 2, 1), std::invalid_argument);
  EXPECT_THROW(micro_batches(0, 1, 0, 1), std::invalid_argument);
}

TEST(PlannedSteps, AreTheStepsThatTheUserWrote) {
  EXPECT_EQ(planned_steps({.steps = 500, .globalBatchSize = 16}, 1000, 64), 500);
}

TEST(PlannedSteps, CoverAFractionOfAnEpoch) {
  EXPECT_EQ(planned_steps({.epochs = 1.0, .globalBatchSize = 16}, 1000, 64), 63);
  EXPECT_EQ(planned_steps({.epochs = 0.5, .globalBatchSize = 16}, 1000, 64), 32);
  EXPECT_EQ(planned_steps({.epochs = 0.0001, .globalBatchSize = 16}, 1000, 64), 1);
}

TEST(PlannedSteps, CoverTheTokens) {
  EXPECT_EQ(planned_steps({.tokens = 1024, .globalBatchSize = 16}, 1000, 64), 1);
  EXPECT_EQ(planned_steps({.tokens = 1025, .globalBatchSize = 16}, 1000, 64), 2);
}

TEST(PlannedSteps, ArePlannedAnewWhereTheBatchChangesOnTheWay) {
  const StepsDone half{.steps = 50, .samples = 500};  // in batches of ten
  EXPECT_EQ(planned_steps({.epochs = 1.0, .globalBatchSize = 10}, 1000, 64, half), 100);
  EXPECT_EQ(planned_steps({.epochs = 1.0, .globalBatchSize = 20}, 1000, 64, half), 75);
  EXPECT_EQ(planned_steps({.epochs = 1.0, .globalBatchSize = 5}, 1000, 64, half), 150);
  EXPECT_EQ(planned_steps({.tokens = 64'001, .globalBatchSize = 20}, 1000, 64, half), 76);
  EXPECT_EQ(planned_steps({.steps = 60, .globalBatchSize = 20}, 1000, 64, half), 60);
}

TEST(PlannedSteps, EndWhereMoreWasDoneThanIsWanted) {
  EXPECT_EQ(planned_steps({.epochs = 0.1, .globalBatchSize = 10}, 1000, 64, {.steps = 50, .samples = 500}), 50);
  EXPECT_EQ(planned_steps({.tokens = 640, .globalBatchSize = 10}, 1000, 64, {.steps = 50, .samples = 500}), 50);
}

TEST(PlannedSteps, OfMoreEpochsThanAnybodyCanTrainAreStillANumber) {
  EXPECT_GT(planned_steps({.epochs = 1e300, .globalBatchSize = 1}, 1000, 64), std::int64_t{1} << 60);
}

TEST(PlannedSteps, NeedALength) { EXPECT_THROW(planned_steps({.globalBatchSize = 16}, 1000, 64), std::invalid_argument); }

}  // namespace
}  // namespace trainyard::data
