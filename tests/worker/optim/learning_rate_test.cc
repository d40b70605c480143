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

TEST(LearningRate, RefusesAScheduleThatIsNotSupportedYet) {
  EXPECT_THROW(learning_rate(training(contract::ScheduleName::kWarmupStableDecay), 50, 100), std::invalid_argument);
}

}  // namespace
}  // namespace trainyard::optim
