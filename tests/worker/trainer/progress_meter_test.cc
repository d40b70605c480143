#include "worker/trainer/progress_meter.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/worker/trainer/small_job.h"
#include "worker/plan/cost.h"

namespace trainyard::trainer {
namespace {

TEST(ProgressMeter, KnowsNothingBeforeAStep) {
  ProgressMeter meter(small_job(), 100, 1, "");
  meter.start(10);
  EXPECT_FALSE(meter.tokens_per_second());
  EXPECT_FALSE(meter.remaining_seconds(0));
}

TEST(ProgressMeter, CountsTokensOfAllRanksOverTheLastSteps) {
  const auto spec = small_job();  // 8 x 16 = 128 tokens a step
  ProgressMeter meter(spec, 1000, 2, "");
  meter.start(0);
  for (int i = 1; i <= 100; ++i) meter.step_done(i);  // a second a step
  EXPECT_DOUBLE_EQ(meter.tokens_per_second().value(), 128);
  EXPECT_EQ(meter.remaining_seconds(100), 900);
  for (int i = 1; i <= 32; ++i) meter.step_done(100 + i * 0.5);  // the window forgets how slow it was
  EXPECT_DOUBLE_EQ(meter.tokens_per_second().value(), 256);
}

TEST(ProgressMeter, LeavesNothingAfterTheLastStep) {
  ProgressMeter meter(small_job(), 2, 1, "");
  meter.start(0);
  meter.step_done(1);
  EXPECT_EQ(meter.remaining_seconds(1), 1);
  meter.step_done(2);
  EXPECT_EQ(meter.remaining_seconds(2), 0);
}

TEST(ProgressMeter, DoesNotTellTheEndOfATrainingWithoutEnd) {
  ProgressMeter meter(small_job(), std::numeric_limits<std::int64_t>::max(), 1, "");
  meter.start(0);
  meter.step_done(2);
  EXPECT_TRUE(meter.tokens_per_second());
  EXPECT_FALSE(meter.remaining_seconds(1));
}

TEST(ProgressMeter, GivesTheShareOfThePeakWhereThePeakIsKnown) {
  auto spec = small_job();
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  ProgressMeter meter(spec, 10, 4, "NVIDIA H200");
  meter.start(0);
  meter.step_done(1);
  const double flops = 128 * plan::flops_per_token(*spec.model.size, 16);
  EXPECT_DOUBLE_EQ(meter.mfu().value(), flops / (4 * 989e12));
  ProgressMeter unknown(spec, 10, 4, "a CPU");
  unknown.start(0);
  unknown.step_done(1);
  EXPECT_FALSE(unknown.mfu());
}

TEST(PeakBf16Flops, TellsVariantsOfADeviceApart) {
  EXPECT_EQ(peak_bf16_flops("NVIDIA H100 80GB HBM3"), 989e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_EQ(peak_bf16_flops("NVIDIA A100-SXM4-80GB"), 312e12);
  EXPECT_FALSE(peak_bf16_flops("NVIDIA GeForce RTX 4090"));
  EXPECT_FALSE(peak_bf16_flops(""));
}

}  // namespace
}  // namespace trainyard::trainer
