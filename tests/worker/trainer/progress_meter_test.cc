#include "worker/trainer/progress_meter.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/worker/trainer/small_job.h"
#include "worker/plan/cost.h"

namespace trainyard::trainer {
namespace {

std::vector<plan::Stretch> steps(std::int64_t count) { return {{.steps = count, .sequence_length = 16}}; }

TEST(ProgressMeter, KnowsNothingBeforeAStep) {
  ProgressMeter meter(small_job(), 1, "");
  meter.start(10);
  EXPECT_FALSE(meter.tokens_per_second());
  EXPECT_FALSE(meter.remaining_seconds(steps(100)));
}

TEST(ProgressMeter, CountsTokensOfAllRanksOverTheLastSteps) {
  const auto spec = small_job();  // 8 x 16 = 128 tokens a step
  ProgressMeter meter(spec, 2, "");
  meter.start(0);
  for (int i = 1; i <= 100; ++i) meter.step_done(i, 16);  // a second a step
  EXPECT_DOUBLE_EQ(meter.tokens_per_second().value(), 128);
  EXPECT_EQ(meter.remaining_seconds(steps(900)), 900);
  for (int i = 1; i <= 32; ++i) meter.step_done(100 + i * 0.5, 16);  // the window forgets how slow it was
  EXPECT_DOUBLE_EQ(meter.tokens_per_second().value(), 256);
}

TEST(ProgressMeter, LeavesNothingAfterTheLastStep) {
  ProgressMeter meter(small_job(), 1, "");
  meter.start(0);
  meter.step_done(1, 16);
  EXPECT_EQ(meter.remaining_seconds(steps(1)), 1);
  meter.step_done(2, 16);
  EXPECT_EQ(meter.remaining_seconds({}), 0);
}

TEST(ProgressMeter, KnowsThatStepsOfLongerSequencesTakeLonger) {
  auto spec = small_job();
  spec.data.sequenceLength = 4096;  // most of the work is attention's
  const auto flops = [&](std::int32_t length) { return plan::flops_per_token(*spec.model.size, length); };
  ProgressMeter meter(spec, 1, "");
  meter.start(0);
  for (int i = 1; i <= 4; ++i) meter.step_done(i * 10.0, 64);  // as an early stage of a curriculum
  const double seconds = 10 * (2 + 5 * flops(4096) / flops(64));
  EXPECT_GT(seconds, 10 * (2 + 5 * 2));
  EXPECT_EQ(meter.remaining_seconds({{.steps = 2, .sequence_length = 64}, {.steps = 5, .sequence_length = 4096}}),
            std::llround(std::ceil(seconds)));
  EXPECT_DOUBLE_EQ(meter.tokens_per_second().value(), 8 * 4096 / 10.0) << "a step has as many tokens in every stage";
}

TEST(ProgressMeter, CountsTheOperationsOfTheSequencesThatWereTrainedOn) {
  auto spec = small_job();
  spec.data.sequenceLength = 4096;
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  ProgressMeter meter(spec, 1, "NVIDIA H200");
  meter.start(0);
  meter.step_done(1, 64);
  meter.step_done(2, 4096);
  const double flops = 8 * 4096 * (plan::flops_per_token(*spec.model.size, 64) + plan::flops_per_token(*spec.model.size, 4096));
  EXPECT_DOUBLE_EQ(meter.mfu().value(), flops / 2 / 989e12);
}

TEST(ProgressMeter, DoesNotTellTheEndOfATrainingWithoutEnd) {
  ProgressMeter meter(small_job(), 1, "");
  meter.start(0);
  meter.step_done(2, 16);
  EXPECT_TRUE(meter.tokens_per_second());
  EXPECT_FALSE(meter.remaining_seconds(steps(std::numeric_limits<std::int64_t>::max())));
}

TEST(ProgressMeter, GivesTheShareOfThePeakWhereThePeakIsKnown) {
  auto spec = small_job();
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  ProgressMeter meter(spec, 4, "NVIDIA H200");
  meter.start(0);
  meter.step_done(1, 16);
  const double flops = 128 * plan::flops_per_token(*spec.model.size, 16);
  EXPECT_DOUBLE_EQ(meter.mfu().value(), flops / (4 * 989e12));
  ProgressMeter unknown(spec, 4, "a CPU");
  unknown.start(0);
  unknown.step_done(1, 16);
  EXPECT_FALSE(unknown.mfu());
}

TEST(ProgressMeter, CountsWhatIsComputedAgainForTheHardwareAlone) {
  auto spec = small_job();
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.training.activationCheckpointing.mode = contract::RecomputeMode::kFull;
  ProgressMeter meter(spec, 4, "NVIDIA H200");
  meter.start(0);
  meter.step_done(1, 16);
  const double model = 128 * plan::flops_per_token(*spec.model.size, 16) / 4;
  const double again =
      128 * plan::recomputed_flops_per_token(*spec.model.size, 16, spec.training.activationCheckpointing.mode) / 4;
  EXPECT_GT(again, 0);
  EXPECT_DOUBLE_EQ(meter.model_flops().value(), model);
  EXPECT_DOUBLE_EQ(meter.hardware_flops().value(), model + again);
  EXPECT_DOUBLE_EQ(meter.hfu().value(), (model + again) / 989e12);
  EXPECT_FALSE(meter.impossible());
}

TEST(ProgressMeter, CountsTheLogitsThatGPipeMakesTwiceForTheHardwareAlone) {
  auto spec = small_job();
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.workers.count = 2;
  spec.workers.gpusPerWorker = 1;
  spec.parallelism.pipeline = 2;
  spec.parallelism.pipelineSchedule.name = contract::PipelineScheduleName::kGPipe;
  ProgressMeter meter(spec, 2, "NVIDIA H200");
  meter.start(0);
  meter.step_done(1, 16);
  const double again = 128 * 2 * plan::head_matmul_parameters(*spec.model.size) / 2;
  EXPECT_DOUBLE_EQ(meter.hardware_flops().value() - meter.model_flops().value(), again);
}

TEST(ProgressMeter, SaysThatADeviceCannotHaveDoneMoreThanItCan) {
  auto spec = small_job();
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  ProgressMeter meter(spec, 1, "NVIDIA A100-SXM4-80GB");
  meter.start(0);
  meter.step_done(1e-9, 16);
  const auto words = meter.impossible();
  ASSERT_TRUE(words);
  EXPECT_NE(words->find("each NVIDIA A100-SXM4-80GB would have done"), std::string::npos) << *words;
  EXPECT_NE(words->find("can do 312 TFLOP/s"), std::string::npos) << *words;
}

TEST(ProgressMeter, TellsNoShareOfThePeakWhileARateIsAboveIt) {
  auto spec = small_job();
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  spec.training.activationCheckpointing.mode = contract::RecomputeMode::kFull;
  const double model = 128 * plan::flops_per_token(*spec.model.size, 16);
  ProgressMeter meter(spec, 1, "NVIDIA H200");
  meter.start(0);
  const double seconds = model / (0.9 * 989e12);  // 90 % by the model alone, above 100 % with what is done again
  meter.step_done(seconds, 16);
  EXPECT_TRUE(meter.impossible());
  EXPECT_FALSE(meter.mfu());
  EXPECT_FALSE(meter.hfu());
  EXPECT_TRUE(meter.hardware_flops()) << "what was measured stays to be seen";
  EXPECT_TRUE(meter.tokens_per_second());
  meter.step_done(seconds + 1, 16);
  EXPECT_FALSE(meter.impossible());
  EXPECT_LT(meter.mfu().value(), 1);
  EXPECT_LT(meter.hfu().value(), 1);
}

}  // namespace
}  // namespace trainyard::trainer
