#include "worker/data/permutation.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace trainyard::data {
namespace {

std::vector<std::int64_t> order(std::int64_t size, std::uint64_t key) {
  const Permutation permutation(size, key);
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < size; ++i) out.push_back(permutation(i));
  return out;
}

TEST(Permutation, VisitsEachIndexOnceForEachSmallSizeAndSeveralKeys) {
  for (std::int64_t size = 1; size <= 130; ++size) {
    for (std::uint64_t key = 0; key < 16; ++key) {
      const auto visited = order(size, key);
      const std::set<std::int64_t> unique(visited.begin(), visited.end());
      ASSERT_EQ(static_cast<std::int64_t>(unique.size()), size) << "size " << size << ", key " << key;
      ASSERT_EQ(*unique.begin(), 0);
      ASSERT_EQ(*unique.rbegin(), size - 1);
    }
  }
}

TEST(Permutation, StaysInsideALargeRangeAndDoesNotRepeat) {
  const std::int64_t size = (std::int64_t{1} << 40) + 12345;
  const Permutation permutation(size, 7);
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < 10'000; ++i) {
    const std::int64_t place = permutation(i * 99'991'001 % size);
    ASSERT_GE(place, 0);
    ASSERT_LT(place, size);
    ASSERT_TRUE(seen.insert(place).second);
  }
}

TEST(Permutation, GivesAnotherOrderForAnotherKeyAndTheSameForTheSame) {
  EXPECT_EQ(order(1000, 1), order(1000, 1));
  EXPECT_NE(order(1000, 1), order(1000, 2));
}

TEST(Permutation, LeavesFewNeighboursNextToEachOther) {
  const auto visited = order(10'000, 3);
  int neighbours = 0;
  for (std::size_t i = 1; i < visited.size(); ++i) neighbours += visited[i] == visited[i - 1] + 1;
  EXPECT_LT(neighbours, 20);  // one is expected of a random order
}

TEST(Permutation, PutsEachElementFirstEquallyOftenOverManyKeys) {
  std::vector<int> times(5, 0);
  for (std::uint64_t key = 0; key < 5000; ++key) ++times[static_cast<std::size_t>(Permutation(5, key)(0))];
  for (const int count : times) EXPECT_NEAR(count, 1000, 150);
}

TEST(Permutation, RefusesWhatIsOutsideIt) {
  EXPECT_THROW(Permutation(0, 1), std::invalid_argument);
  EXPECT_THROW(Permutation(5, 1)(5), std::invalid_argument);
}

}  // namespace
}  // namespace trainyard::data
