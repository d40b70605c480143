#include "worker/optim/learning_rate.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace trainyard::optim {
namespace {

contract::Training training(contract::ScheduleName name, std::int64_t warmup = 10) {
  contract::Training out;
  out.optimizer.learningRate = 1e-3;
  out.learningRateSchedule = {
      .name = name, .warmupSteps = warmup, .minimum = name == contract::ScheduleName::kConstant ? 0 : 1e-4};
  return out;
}

TEST(LearningRate, GrowsInEqualStepsToThePeakWhichTheLastWarmUpStepHas) {
  for (const auto name : {contract::ScheduleName::kCosine, contract::ScheduleName::kLinear, contract::ScheduleName::kConstant}) {
    for (std::int64_t step = 1; step <= 10; ++step) {
      EXPECT_DOUBLE_EQ(learning_rate(training(name), step, 110), 1e-3 * static_cast<double>(step) / 10);
    }
  }
}

TEST(LearningRate, CosineAndLinearEqualTheirClosedForms) {
  for (std::int64_t step = 11; step <= 110; ++step) {
    const double t = static_cast<double>(step - 10) / 100;
    EXPECT_DOUBLE_EQ(learning_rate(training(contract::ScheduleName::kCosine), step, 110),
                     1e-4 + 9e-4 * (1 + std::cos(std::numbers::pi * t)) / 2);
    EXPECT_DOUBLE_EQ(learning_rate(training(contract::ScheduleName::kLinear), step, 110), 1e-4 + 9e-4 * (1 - t));
    EXPECT_DOUBLE_EQ(learning_rate(training(contract::ScheduleName::kConstant), step, 110), 1e-3);
  }
}

TEST(LearningRate, EndsAtTheMinimumAndStaysThere) {
  for (const auto name : {contract::ScheduleName::kCosine, contract::ScheduleName::kLinear}) {
    EXPECT_DOUBLE_EQ(learning_rate(training(name), 110, 110), 1e-4);
    EXPECT_DOUBLE_EQ(learning_rate(training(name), 500, 110), 1e-4);
  }
}

TEST(LearningRate, WithoutAWarmUpTheFirstStepIsOnTheCurveAlready) {
  EXPECT_DOUBLE_EQ(learning_rate(training(contract::ScheduleName::kLinear, 0), 1, 100), 1e-4 + 9e-4 * 0.99);
}

TEST(LearningRate, WarmupStableDecayStaysAtThePeakAndFallsInItsLastStepsAsItsClosedFormSays) {
  auto given = training(contract::ScheduleName::kWarmupStableDecay);
  given.learningRateSchedule.decaySteps = 40;
  for (std::int64_t step = 1; step <= 110; ++step) {
    const double wanted = step <= 10   ? 1e-3 * static_cast<double>(step) / 10
                          : step <= 70 ? 1e-3
                                       : 1e-4 + 9e-4 * (1 - static_cast<double>(step - 70) / 40);
    EXPECT_NEAR(learning_rate(given, step, 110), wanted, 1e-12 * wanted) << step;
  }
  EXPECT_DOUBLE_EQ(learning_rate(given, 500, 110), 1e-4);
}

TEST(LearningRate, WarmupStableDecayDecaysInATenthOfTheStepsWhereNothingElseIsSaid) {
  const auto given = training(contract::ScheduleName::kWarmupStableDecay);
  EXPECT_DOUBLE_EQ(learning_rate(given, 94, 105), 1e-3);
  EXPECT_DOUBLE_EQ(learning_rate(given, 95, 105), 1e-4 + 9e-4 * (1 - 1.0 / 11)) << "11 of 105";
  EXPECT_DOUBLE_EQ(learning_rate(given, 105, 105), 1e-4);
}

TEST(LearningRate, ADecayThatIsLongerThanWhatTheWarmupLeavesBeginsAfterIt) {
  auto given = training(contract::ScheduleName::kWarmupStableDecay);  // of epochs, so that nobody knew the steps
  given.learningRateSchedule.decaySteps = 1000;
  auto linear = training(contract::ScheduleName::kLinear);
  for (std::int64_t step = 1; step <= 60; ++step)
    EXPECT_DOUBLE_EQ(learning_rate(given, step, 60), learning_rate(linear, step, 60));
}

}  // namespace
}  // namespace trainyard::optim
