#include "worker/plan/deal.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

using Sizes = std::vector<std::int64_t>;

std::vector<std::int64_t> totals(const Sizes& sizes, std::int32_t players) {
  std::vector<std::int64_t> has(static_cast<std::size_t>(players), 0);
  const auto gets = deal_by_size(sizes, players);
  for (std::size_t i = 0; i < sizes.size(); ++i) has.at(static_cast<std::size_t>(gets[i])) += sizes[i];
  return has;
}

TEST(DealBySize, GivesTheLargestFirstAndEachToWhomeverHasTheLeast) {
  EXPECT_EQ(deal_by_size({1, 5, 2, 4}, 2), (std::vector<std::int32_t>{0, 0, 1, 1}));
}

TEST(DealBySize, OfEqualThingsGoesRound) { EXPECT_EQ(deal_by_size({3, 3, 3}, 2), (std::vector<std::int32_t>{0, 1, 0})); }

TEST(DealBySize, LeavesNobodyWithMuchMoreThanAnotherInTheLayersOfAModel) {
  Sizes sizes;
  for (int layer = 0; layer < 32; ++layer) {  // Llama 8B's, in thousands of elements
    for (const std::int64_t size : {4, 16777, 4194, 4194, 16777, 4, 58720, 58720, 58720}) sizes.push_back(size);
  }
  for (const std::int32_t players : {2, 4, 8, 9, 32}) {
    const auto has = totals(sizes, players);
    const auto [least, most] = std::minmax_element(has.begin(), has.end());
    EXPECT_LT(static_cast<double>(*most - *least) / static_cast<double>(*most), 0.3) << players;
    EXPECT_EQ(std::accumulate(has.begin(), has.end(), std::int64_t{0}),
              std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
  }
}

TEST(DealBySize, NeedsSomebody) { EXPECT_THROW(deal_by_size({1}, 0), std::invalid_argument); }

}  // namespace
}  // namespace trainyard::plan
