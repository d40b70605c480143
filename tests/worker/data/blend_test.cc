#include "worker/data/blend.h"

#include <cmath>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace trainyard::data {
namespace {

/// Follows a blend and expects each prefix to be within one sample of the exact proportions.
void expect_proportional(const std::vector<double>& weights, std::int64_t samples) {
  const Blend blend(weights);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> consumed(weights.size(), 0);
  for (std::int64_t n = 1; n <= samples; ++n) {
    ++consumed[static_cast<std::size_t>(blend.next(consumed))];
    for (std::size_t s = 0; s < weights.size(); ++s) {
      const double exact = weights[s] / sum * static_cast<double>(n);
      ASSERT_LT(std::abs(static_cast<double>(consumed[s]) - exact), 1.0 + 1e-4) << "source " << s << " after " << n << " samples";
    }
  }
}

TEST(Blend, KeepsEachPrefixWithinOneSampleOfTheWeights) {
  expect_proportional({1.0}, 10);
  expect_proportional({1.0, 1.0, 1.0}, 300);
  expect_proportional({0.7, 0.2, 0.1}, 1000);
  expect_proportional({1000.0, 1.0}, 5000);
  expect_proportional({5.0, 3.0, 3.0, 1.0, 1.0, 1.0, 0.01}, 5000);
}

TEST(Blend, KeepsThatForRandomWeights) {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    std::vector<double> weights(1 + random() % 12);
    for (auto& weight : weights) weight = std::exp(std::uniform_real_distribution<double>(-4, 4)(random));
    SCOPED_TRACE("round " + std::to_string(round));
    expect_proportional(weights, 500);
  }
}

TEST(Blend, GoesOnFromCountsAsItWouldHaveGoneOn) {
  const Blend blend({2.0, 1.0, 0.5});
  std::vector<std::int64_t> consumed(3, 0);
  for (int i = 0; i < 100; ++i) ++consumed[static_cast<std::size_t>(blend.next(consumed))];
  const Blend resumed({2.0, 1.0, 0.5});
  EXPECT_EQ(resumed.next(consumed), blend.next(consumed));
}

TEST(Blend, ReturnsToTheProportionsFromCountsOfOtherWeights) {
  const Blend blend({1.0, 1.0});
  std::vector<std::int64_t> consumed{100, 0};
  for (int i = 0; i < 100; ++i) ++consumed[static_cast<std::size_t>(blend.next(consumed))];
  EXPECT_EQ(consumed, (std::vector<std::int64_t>{100, 100}));
}

TEST(Blend, RefusesWeightsThatAreNoProportions) {
  EXPECT_THROW(Blend({}), std::invalid_argument);
  EXPECT_THROW(Blend({1.0, 0.0}), std::invalid_argument);
  EXPECT_THROW(Blend({-1.0}), std::invalid_argument);
  EXPECT_THROW(Blend({std::nan("")}), std::invalid_argument);
  EXPECT_THROW(Blend({1.0, 1.0}).next({1}), std::invalid_argument);
}

}  // namespace
}  // namespace trainyard::data
