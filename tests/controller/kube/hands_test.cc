#include "controller/kube/hands.h"

#include <atomic>
#include <barrier>
#include <memory>

#include <gtest/gtest.h>

#include "tests/support/inbox.h"

namespace trainyard::kube {
namespace {

using testing::Inbox;

TEST(Hands, WorkAtOnceOnAsManyTasksAsThereAre) {
  std::barrier all_here(4);  // passes only when four tasks run at the same time
  Inbox<bool> done;
  Hands hands(4);
  for (int i = 0; i < 8; ++i) {
    hands.run([&] {
      all_here.arrive_and_wait();
      done.put(true);
    });
  }
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(done.take());
}

TEST(Hands, MakeAThreadOnlyWhereNoneIsFree) {
  std::barrier all_here(4);
  Inbox<bool> done;
  Hands hands(64);
  EXPECT_EQ(hands.num_threads(), 0u);
  for (int i = 0; i < 4; ++i) {
    hands.run([&] {
      all_here.arrive_and_wait();
      done.put(true);
    });
  }
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(done.take());
  EXPECT_EQ(hands.num_threads(), 4u);
  for (int i = 0; i < 1'000; ++i) {
    hands.run([&] { done.put(true); });
    EXPECT_TRUE(done.take());
  }
  EXPECT_LT(hands.num_threads(), 64u) << "one after the other needs few, and those were free again";
}

TEST(Hands, StopWaitsForTheTaskUnderWayAndDropsTheRest) {
  Inbox<bool> begun, go_on;
  std::atomic<int> finished = 0;
  const auto held = std::make_shared<int>(1);
  Hands hands(1);
  hands.run([&] {
    begun.put(true);
    if (go_on.take()) ++finished;
  });
  hands.run([&, held] { ++finished; });
  ASSERT_TRUE(begun.take());
  std::jthread stopper([&] { hands.stop(); });
  while (held.use_count() > 1) std::this_thread::yield();
  go_on.put(true);
  stopper.join();
  EXPECT_EQ(finished, 1);
  hands.run([&] { ++finished; });
  EXPECT_EQ(finished, 1);
}

}  // namespace
}  // namespace trainyard::kube
