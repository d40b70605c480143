#include "worker/trainer/measurements.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/worker/trainer/small_job.h"

namespace trainyard::trainer {
namespace {

TEST(AZScore, IsThereOnceThereAreEnoughValuesToCompareWith) {
  ZScore score;
  for (std::size_t i = 0; i < ZScore::kLeast; ++i) EXPECT_FALSE(score.add(i % 2 == 0 ? 1.0 : 3.0)) << i;
  // Mean 2, standard deviation 1.
  EXPECT_DOUBLE_EQ(score.add(5.0).value(), 3.0);
}

TEST(AZScore, ForgetsWhatIsOlderThanItsWindow) {
  ZScore score;
  for (int i = 0; i < 1000; ++i) score.add(1e6 + i);
  for (std::size_t i = 0; i < ZScore::kWindow; ++i) score.add(i % 2 == 0 ? 1.0 : 3.0);
  EXPECT_DOUBLE_EQ(score.add(2.0).value(), 0.0);
}

TEST(AZScore, LeavesOutWhatIsNotFiniteAndWhatNeverChanges) {
  ZScore score;
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(score.add(7.0)) << "no deviation, no score";
    EXPECT_FALSE(score.add(std::numeric_limits<double>::infinity()));
  }
  EXPECT_FALSE(score.add(8.0));
  EXPECT_TRUE(std::isfinite(score.add(8.0).value()));
}

TEST(TheTimesOfAStep, AddUpToIt) {
  mesh::Totals totals;
  totals.work = {
      {mesh::Work::kForward, 2}, {mesh::Work::kBackward, 4}, {mesh::Work::kData, 0.5}, {mesh::Work::kCheckpoint, 0.25}};
  totals.calls = {{"data", 1}, {"tensor", 0.5}};
  const auto times = times_of(totals, 10);
  EXPECT_EQ(times.data, 0.5);
  EXPECT_EQ(times.checkpoint, 0.25);
  EXPECT_EQ(times.communication, totals.calls);
  EXPECT_DOUBLE_EQ(times.compute + times.data + times.checkpoint + 1.5, 10);
}

TEST(TheMemoryPeak, GrowsWithWhatTheProcessTakes) {
  const auto before = memory_peak(at::kCPU).value();
  EXPECT_GT(before, 1 << 20);
  const at::Tensor taken = at::ones({std::int64_t{64} << 20}, at::kByte) + 1;
  EXPECT_GE(memory_peak(at::kCPU).value(), before);
}

TEST(Measurements, BeginAtTheEndOfTheStepBefore) {
  double now = 0;
  mesh::Timeline timeline([&] { return now; });
  Measurements measurements(timeline, at::kCPU);
  const ProgressMeter meter(small_job(), 1, "");
  {
    const mesh::Timeline::Span span(timeline, mesh::Work::kData);
    now = 100;
  }
  measurements.start();
  {
    const mesh::Timeline::Span span(timeline, mesh::Work::kData);
    now = 101;
  }
  now = 104;
  const auto first = measurements.step_done(meter, 2.0, 1.0);
  EXPECT_EQ(first.times->seconds, 4);
  EXPECT_EQ(first.times->data, 1);
  EXPECT_EQ(first.times->compute, 3);
  now = 106;
  EXPECT_EQ(measurements.step_done(meter, 2.0, 1.0).times->seconds, 2);
}

}  // namespace
}  // namespace trainyard::trainer
