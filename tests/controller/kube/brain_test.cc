#include "controller/kube/brain.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/inbox.h"

namespace trainyard::kube {
namespace {

using namespace std::chrono_literals;
using testing::Inbox;

TEST(Brain, RunsTasksInOrderOnOneThread) {
  Inbox<int> numbers;
  Inbox<std::thread::id> threads;
  Brain brain;
  for (int i = 0; i < 100; ++i) {
    brain.run([&, i] {
      numbers.put(i);
      threads.put(std::this_thread::get_id());
    });
  }
  const auto thread = threads.take();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(numbers.take(), i);
    EXPECT_TRUE(i == 0 || threads.take() == thread);
  }
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(Brain, RunsLaterTasksNotBeforeTheirTime) {
  using Clock = std::chrono::steady_clock;
  Inbox<Clock::duration> late;
  Brain brain;
  const auto begin = Clock::now();
  for (const auto delay : {20ms, 1ms}) {
    brain.run_after(delay, [&, delay] { late.put(Clock::now() - begin - delay); });
  }
  for (int i = 0; i < 2; ++i) EXPECT_GE(late.take().value_or(-1s), 0s);
}

TEST(Brain, RunsNothingAfterItWasStopped) {
  std::atomic<int> runs = 0;
  Brain brain;
  brain.run_after(0ms, [&] { ++runs; });
  brain.stop();
  const int before = runs;
  brain.run([&] { ++runs; });
  brain.run_after(0ms, [&] { ++runs; });
  brain.stop();
  EXPECT_EQ(runs, before);
}

TEST(Brain, DropsWhatItDidNotRun) {
  const auto held = std::make_shared<int>(1);
  {
    Brain brain;
    brain.run_after(1h, [held] {});
  }
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace trainyard::kube
