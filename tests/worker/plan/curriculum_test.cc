#include "worker/plan/curriculum.h"

#include <stdexcept>

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

constexpr std::int64_t kEpoch = 100;  // samples

contract::TrainingJobSpec job_with_curriculum(std::vector<contract::CurriculumStage> stages) {
  contract::TrainingJobSpec spec;
  spec.data.sequenceLength = 64;
  spec.data.curriculum = contract::Curriculum{.stages = std::move(stages)};
  spec.training.globalBatchSize = 8;
  spec.parallelism.microBatchSize = 2;
  return spec;
}

/// The lengths of steps 1 to `last`, each asked for when the ones before it are done.
std::vector<std::int32_t> lengths(const contract::TrainingJobSpec& spec, std::int64_t last) {
  std::vector<std::int32_t> out;
  for (std::int64_t done = 0; done < last; ++done) {
    out.push_back(next_sequence_length(spec, {.steps = done, .samples = done * spec.training.globalBatchSize}, kEpoch));
  }
  return out;
}

TEST(NextSequenceLength, IsThatOfTheDataWithoutACurriculum) {
  auto spec = job_with_curriculum({});
  EXPECT_EQ(lengths(spec, 2), (std::vector<std::int32_t>{64, 64}));
  spec.data.curriculum.reset();
  EXPECT_EQ(lengths(spec, 2), (std::vector<std::int32_t>{64, 64}));
}

TEST(NextSequenceLength, FollowsStagesThatEndAfterSteps) {
  const auto spec = job_with_curriculum({{.untilStep = 2, .sequenceLength = 16}, {.untilStep = 3, .sequenceLength = 32}});
  EXPECT_EQ(lengths(spec, 5), (std::vector<std::int32_t>{16, 16, 32, 64, 64}));
}

TEST(NextSequenceLength, FollowsStagesThatEndAfterTokensWithWholeSteps) {
  // 512 tokens a step: the first stage ends with the second step, at 1024 exactly, the second within the fourth.
  const auto spec =
      job_with_curriculum({{.untilTokens = 1024, .sequenceLength = 16}, {.untilTokens = 1537, .sequenceLength = 32}});
  EXPECT_EQ(lengths(spec, 5), (std::vector<std::int32_t>{16, 16, 32, 32, 64}));
}

TEST(NextSequenceLength, FollowsStagesThatEndAfterEpochsWithWholeSteps) {
  // 8 of 100 samples a step: half an epoch is reached within the 7th.
  const auto spec = job_with_curriculum({{.untilEpoch = 0.5, .sequenceLength = 16}});
  EXPECT_EQ(lengths(spec, 8), (std::vector<std::int32_t>{16, 16, 16, 16, 16, 16, 16, 64}));
}

TEST(NextSequenceLength, PassesOverAStageThatASingleStepHasPassed) {
  const auto spec = job_with_curriculum({{.untilTokens = 10, .sequenceLength = 16}, {.untilTokens = 20, .sequenceLength = 32}});
  EXPECT_EQ(lengths(spec, 2), (std::vector<std::int32_t>{16, 64}));
}

TEST(NextSequenceLength, DependsOnSamplesAndNotOnTheBatchesTheyCameIn) {
  const auto spec = job_with_curriculum({{.untilTokens = 64 * 24, .sequenceLength = 16}});
  for (const std::int64_t steps : {1, 3, 7}) {
    EXPECT_EQ(next_sequence_length(spec, {.steps = steps, .samples = 23}, kEpoch), 16);
    EXPECT_EQ(next_sequence_length(spec, {.steps = steps, .samples = 24}, kEpoch), 64);
  }
}

TEST(StepsAhead, SayOfEachStepWhatItsTurnWillSay) {
  for (const auto& spec :
       {job_with_curriculum({{.untilStep = 2, .sequenceLength = 16}, {.untilStep = 5, .sequenceLength = 32}}),
        job_with_curriculum({{.untilTokens = 700, .sequenceLength = 8}, {.untilTokens = 5000, .sequenceLength = 32}}),
        job_with_curriculum({{.untilEpoch = 0.3, .sequenceLength = 4}, {.untilEpoch = 1.0, .sequenceLength = 32}}),
        job_with_curriculum({})}) {
    const auto one_by_one = lengths(spec, 20);
    for (std::int64_t done = 0; done <= 20; ++done) {
      std::vector<std::int32_t> found(one_by_one.begin(), one_by_one.begin() + done);
      for (const auto& stretch : steps_ahead(spec, {.steps = done, .samples = done * 8}, 20, kEpoch)) {
        EXPECT_GT(stretch.steps, 0);
        found.insert(found.end(), static_cast<std::size_t>(stretch.steps), stretch.sequence_length);
      }
      EXPECT_EQ(found, one_by_one) << done;
    }
  }
}

TEST(StepsAhead, AreNoneAfterTheLast) {
  const auto spec = job_with_curriculum({{.untilStep = 2, .sequenceLength = 16}});
  EXPECT_TRUE(steps_ahead(spec, {.steps = 5, .samples = 40}, 5, kEpoch).empty());
  EXPECT_TRUE(steps_ahead(spec, {.steps = 6, .samples = 48}, 5, kEpoch).empty());
}

TEST(StepsAhead, OfMoreEpochsThanAnybodyCanTrainAreStillANumber) {
  const auto spec = job_with_curriculum({{.untilEpoch = 1e300, .sequenceLength = 16}});
  EXPECT_EQ(steps_ahead(spec, {}, 1000, kEpoch), (std::vector<Stretch>{{.steps = 1000, .sequence_length = 16}}));
}

TEST(MicroBatchShape, HasTheSameTokensInEveryStage) {
  const auto spec = job_with_curriculum({});
  EXPECT_EQ(micro_batch_shape(spec, 64), (MicroBatchShape{.sequences = 2, .sequence_length = 64}));
  EXPECT_EQ(micro_batch_shape(spec, 16), (MicroBatchShape{.sequences = 8, .sequence_length = 16}));
  EXPECT_EQ(micro_batch_shape(spec, 1), (MicroBatchShape{.sequences = 128, .sequence_length = 1}));
  EXPECT_THROW(micro_batch_shape(spec, 24), std::invalid_argument);
  EXPECT_THROW(micro_batch_shape(spec, 128), std::invalid_argument);
  EXPECT_THROW(micro_batch_shape(spec, 0), std::invalid_argument);
}

}  // namespace
}  // namespace trainyard::plan
