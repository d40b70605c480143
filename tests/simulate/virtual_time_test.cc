// What the stories rest on: time that never reorders what happens.
#include "tests/support/virtual_time.h"

#include <gtest/gtest.h>

namespace trainyard::test {
namespace {

class AFrozenProcess : public testing::TestWithParam<seconds> {};

TEST_P(AFrozenProcess, CatchesUpInOrderThoughItFreezesAgain) {
  VirtualTime time;
  VirtualExecutor process(time);
  std::vector<int> seen;
  process.freeze(seconds(10));
  for (int i = 0; i < 20; ++i) {  // at times that no clock of milliseconds tells apart
    time.after(std::chrono::microseconds(1'000'900 - 37 * i), [&, i] { process.brain([&seen, i] { seen.push_back(i); }); });
  }
  time.run_for(seconds(2));
  process.freeze(GetParam());  // a shorter one ends no longer one
  process.brain([&seen] { seen.push_back(-1); });
  time.run_for(seconds(7));
  EXPECT_TRUE(seen.empty());
  time.run_for(seconds(20));
  ASSERT_EQ(seen.size(), 21u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], 19 - i);
  EXPECT_EQ(seen.back(), -1);
}

INSTANTIATE_TEST_SUITE_P(ForLessAndForLonger, AFrozenProcess, testing::Values(seconds(1), seconds(20)));

}  // namespace
}  // namespace trainyard::test
