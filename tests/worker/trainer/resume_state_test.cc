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
  EXPECT_EQ(changes[0], "data.train[0].weight is 9.0, and was 1.0 when the checkpoint was written");
  EXPECT_EQ(changes[1].rfind("data.train[1] gives none of the next 4000 samples or so: ", 0), 0u) << changes[1];
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

}  // namespace
}  // namespace trainyard::trainer
