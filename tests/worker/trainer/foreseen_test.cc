// What a training warns of at its start, since it will not come to be.
#include <gtest/gtest.h>

#include "tests/worker/trainer/a_training.h"

namespace trainyard::trainer {
namespace {

std::vector<std::string> warnings(const Job& job, const std::string& reason) {
  std::vector<std::string> out;
  for (const auto& report : run(job).notices) {
    if (report.notice->reason == reason) out.push_back(report.notice->message);
  }
  return out;
}

TEST(ATraining, WarnsOfAWarmUpThatEndsAfterIt) {
  Job job;
  job.spec.training.steps.reset();
  job.spec.training.tokens = 6 * 4 * 16;  // six steps
  job.spec.training.learningRateSchedule.warmupSteps = 6;
  EXPECT_TRUE(warnings(job, "WarmupOutlastsTraining").empty());
  job.spec.training.learningRateSchedule.warmupSteps = 7;
  job.spec.checkpoint->path += "-2";
  EXPECT_EQ(
      warnings(job, "WarmupOutlastsTraining"),
      (std::vector<std::string>{
          "the training ends with step 6, and training.learningRateSchedule.warmupSteps is 7: the learning rate never comes "
          "to its peak; warm up shorter, or train longer"}));
}

TEST(ATraining, WarnsOfMetricsThatAreNotWritten) {
  Job job;
  job.spec.metrics = contract::MetricFiles{};
  EXPECT_EQ(warnings(job, "MetricsWithoutEffect"),
            (std::vector<std::string>{"spec.metrics asks for neither tensorBoard nor trace: nothing is written"}));
  job.spec.metrics->trace = contract::Trace{.steps = {2, 6, 7}};
  job.spec.checkpoint->path += "-2";
  EXPECT_EQ(warnings(job, "MetricsWithoutEffect"),
            (std::vector<std::string>{"the training ends with step 6: there will be no trace of step 7 (metrics.trace.steps)"}));
}

}  // namespace
}  // namespace trainyard::trainer
