#include "worker/trainer/heartbeat.h"

#include <atomic>

#include <gtest/gtest.h>

#include "tests/worker/trainer/reports.h"

namespace trainyard::trainer {
namespace {

TEST(AHeartbeat, TellsWhatTheRankDoesAndMeasured) {
  ReportFile file;
  std::atomic<int> looks = 0;
  mesh::Timeline timeline([&looks] {
    ++looks;
    return 0.0;
  });
  {
    report::Reporter reporter(file.descriptor(), true);
    const mesh::Timeline::Span span(timeline, mesh::Work::kCheckpoint);
    Heartbeat heartbeat(reporter, timeline, 3, std::chrono::milliseconds(5));
    heartbeat.set_measures({.memoryPeakBytes = 7});
    const int before = looks;
    while (looks < before + 3) std::this_thread::yield();
  }
  const auto told = file.of(contract::ReportKind::kActivity);
  EXPECT_EQ(told.back().activity->rank, 3);
  EXPECT_EQ(told.back().activity->doing, "checkpoint");
  EXPECT_EQ(told.back().measures->memoryPeakBytes, 7);
}

TEST(AHeartbeat, TellsAtOnceWhatShouldNotWaitForItsInterval) {
  ReportFile file;
  std::atomic<int> looks = 0;
  mesh::Timeline timeline([&looks] {
    ++looks;
    return 0.0;
  });
  {
    report::Reporter reporter(file.descriptor(), true);
    Heartbeat heartbeat(reporter, timeline, 3, std::chrono::hours(1));
    while (looks < 1) std::this_thread::yield();
    timeline.set_step(1, true);
    heartbeat.beat();
    while (looks < 2) std::this_thread::yield();
  }
  const auto told = file.of(contract::ReportKind::kActivity);
  EXPECT_TRUE(told.back().activity->warm);
  EXPECT_EQ(told.back().activity->step, 1);
}

}  // namespace
}  // namespace trainyard::trainer
