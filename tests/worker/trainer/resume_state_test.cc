#include "worker/trainer/resume_state.h"

#include <gtest/gtest.h>

#include "worker/data/blend.h"

namespace trainyard::trainer {
namespace {

/// What `samples` samples of sources with these weights leave behind.
ResumeState trained_with(const std::vector<double>& weights, std::int64_t samples) {
  ResumeState state;
  state.cursor.consumed.assign(weights.size(), 0);
  const data::Blend blend(weights);
  for (; state.cursor.samples < samples; ++state.cursor.samples) {
    ++state.cursor.consumed[static_cast<std::size_t>(blend.next(state.cursor.consumed))];
  }
  for (const double weight : weights) state.sources.push_back({.path = "/data", .weight = weight});
  return state;
}

contract::RankConfig with_weights(const std::vector<double>& weights) {
  contract::RankConfig config;
  for (const double weight : weights) config.spec.data.train.push_back({.path = "/data", .weight = weight});
  return config;
}

TEST(ChangesSince, AreNoneWhereNothingChanged) {
  EXPECT_TRUE(changes_since(trained_with({1, 3}, 100), with_weights({1, 3})).empty());
}

TEST(ChangesSince, TellWhichSourceIsLeftOutForAWhileUnderOtherWeights) {
  const std::vector<double> weights{9, 1};
  auto then = trained_with({1, 1}, 1000);
  const auto changes = changes_since(then, with_weights(weights));
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0], "spec.data.train[0].weight is 9.0, and was 1.0 when the checkpoint was written");
  EXPECT_EQ(changes[1].rfind("spec.data.train[1] gives none of the next 4000 samples or so: ", 0), 0u) << changes[1];
  const data::Blend blend(weights);
  auto& consumed = then.cursor.consumed;
  for (int i = 0; i < 3990; ++i) ++consumed[static_cast<std::size_t>(blend.next(consumed))];
  EXPECT_EQ(consumed, (std::vector<std::int64_t>{500 + 3990, 500}));
  for (int i = 0; i < 20; ++i) ++consumed[static_cast<std::size_t>(blend.next(consumed))];
  EXPECT_GT(consumed[1], 500);
}

TEST(ChangesSince, LeaveNoSourceOutWhereTheWeightsOfAllHaveGrownAlike) {
  EXPECT_EQ(changes_since(trained_with({1, 3}, 1001), with_weights({2, 6})).size(), 2u);
}

// ---- the recipe

contract::RankConfig with_curriculum() {
  contract::RankConfig config = with_weights({1});
  config.spec.training.steps = 100;
  config.spec.training.learningRateSchedule.warmupSteps = 10;
  config.spec.data.curriculum = contract::Curriculum{.stages = {{.untilStep = 20, .sequenceLength = 16}}};
  return config;
}
std::vector<std::string> changes_from(const contract::RankConfig& then, const contract::RankConfig& now) {
  ResumeState state = resume_state_of(then, {}, {}, {});
  state = contract::decode<ResumeState>(contract::encode(state)).value;
  return changes_since(state, now);
}

TEST(ChangesSince, ListAllOfTheRecipeThatIsAnotherFromWhatToWhat) {
  const auto then = with_curriculum();
  EXPECT_TRUE(changes_from(then, then).empty());
  auto now = then;
  now.spec.training.dropout = 0.125;
  now.spec.training.loss.zLoss = 0.5;
  now.spec.training.learningRateSchedule.name = contract::ScheduleName::kLinear;
  now.spec.training.learningRateSchedule.warmupSteps = 20;
  now.spec.training.gradientClipping = contract::GradientClipping{};
  now.spec.data.curriculum->stages.front().sequenceLength = 32;
  now.spec.data.curriculum->stages.push_back({.untilStep = 40, .sequenceLength = 64});
  const auto changes = changes_from(then, now);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0],
            "data.curriculum.stages[0].sequenceLength is 32, and was 16; "
            "data.curriculum.stages[1].sequenceLength is 64, and was left out; "
            "data.curriculum.stages[1].untilStep is 40, and was left out; "
            "training.dropout is 0.125, and was 0.0; "
            "training.gradientClipping.maxNorm is 1.0, and was left out; "
            "training.learningRateSchedule.name is Linear, and was Cosine; "
            "training.learningRateSchedule.warmupSteps is 20, and was 10; "
            "training.loss.zLoss is 0.5, and was 0.0, when the checkpoint was written");
}

TEST(ChangesSince, AreNoneWhereOnlyWhatChangesNoBitIsAnother) {
  const auto then = with_curriculum();
  auto now = then;
  now.spec.training.activationCheckpointing = {.mode = contract::RecomputeMode::kFull, .offload = true};
  EXPECT_TRUE(changes_from(then, now).empty());
}

TEST(ChangesSince, AreNotKnownOfACheckpointOfBeforeAndIgnoreWhatALaterReleaseWrote) {
  auto now = with_curriculum();
  ResumeState state = resume_state_of(now, {}, {}, {});
  state.recipe["training"]["sharpness"] = 3;
  state.recipe["training"]["precision"]["compute"] = "FP4";
  const auto read = contract::decode<ResumeState>(contract::encode(state));
  EXPECT_TRUE(read.problems.empty()) << "it is no corrupt checkpoint";
  EXPECT_TRUE(changes_since(read.value, now).empty());
  state.recipe = {};
  now.spec.training.dropout = 0.5;
  EXPECT_TRUE(changes_since(state, now).empty());
}

}  // namespace
}  // namespace trainyard::trainer
