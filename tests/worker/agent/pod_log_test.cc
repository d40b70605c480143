#include "worker/agent/pod_log.h"

#include <gtest/gtest.h>

namespace trainyard::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class PodLogTest : public ::testing::Test {
 protected:
  void step(std::int64_t step, std::optional<double> validation = {}) {
    state.progress = contract::Progress{.step = step, .steps = 500, .loss = 2.5, .validationLoss = validation};
  }
  /// The lines of this state: level, message, and the value of `key`.
  std::vector<std::string> lines(milliseconds now, const char* key) {
    written.clear();
    log.state(state, measured, now);
    std::vector<std::string> out;
    for (const auto& [severity, message, keys] : written) {
      out.push_back(std::string(severity == Severity::kWarning ? "warning: " : "") + message + " " + keys.at(key).dump());
    }
    return out;
  }
  using Lines = std::vector<std::string>;

  contract::State state;
  Measured measured;
  std::vector<std::tuple<Severity, std::string, nlohmann::json>> written;
  PodLog log{[this](Severity severity, std::string_view message, const nlohmann::json& keys) {
    written.emplace_back(severity, message, keys);
  }};
};

TEST_F(PodLogTest, TellsProgressAtTheFirstStepThenEveryTenSecondsAndAtTheLast) {
  step(1);
  EXPECT_EQ(lines(seconds(100), "step"), Lines{"progress 1"});
  EXPECT_EQ(lines(seconds(200), "step"), Lines{});
  step(2);
  EXPECT_EQ(lines(milliseconds(109'999), "step"), Lines{});
  step(3);
  EXPECT_EQ(lines(seconds(110), "step"), Lines{"progress 3"});
  step(500);
  EXPECT_EQ(lines(seconds(111), "step"), Lines{"progress 500"});
}

TEST_F(PodLogTest, TellsWithProgressWhatWasMeasuredOfIt) {
  step(1);
  measured.reporting_rank = 3;
  measured.of_rank[3].times = contract::StepTimes{.seconds = 2, .compute = 1.5, .communication = {{"data", 0.5}}};
  measured.of_rank[4].memoryPeakBytes = 9;
  lines(seconds(1), "step");
  const auto& keys = std::get<2>(written.at(0));
  EXPECT_EQ(keys.at("times").at("communication").at("data"), 0.5);
  EXPECT_FALSE(keys.contains("memoryPeakBytes")) << "of another rank";
}

TEST_F(PodLogTest, TellsEachValidationAtOnce) {
  step(10);
  lines(seconds(1), "step");
  step(11, 2.25);
  EXPECT_EQ(lines(seconds(2), "validationLoss"), Lines{"progress 2.25"});
  step(12, 2.25);
  EXPECT_EQ(lines(seconds(3), "step"), Lines{});
}

TEST_F(PodLogTest, TellsNoticesAndCheckpointsOnce) {
  state.notices.push_back({.number = 1, .warning = true, .reason = "CheckpointCorrupt", .message = "step 90"});
  EXPECT_EQ(lines(seconds(1), "text"), Lines{"warning: notice \"step 90\""});
  state.checkpoint = contract::CheckpointStatus{.step = 100, .path = "/k"};
  EXPECT_EQ(lines(seconds(1), "step"), Lines{"checkpoint written 100"});
  EXPECT_EQ(lines(seconds(1), "step"), Lines{});
}

TEST_F(PodLogTest, TellsEachFailureOnceWithoutTheLinesThatItHoldsAlready) {
  state.failure = contract::Failure{.rank = 3, .exitCode = 2, .reason = "CorpusMissing", .message = "/data is not there"};
  state.failure->lastLines = {"one"};
  EXPECT_EQ(lines(seconds(1), "text"), Lines{"warning: training failed \"/data is not there\""});
  EXPECT_FALSE(std::get<2>(written.front()).contains("lastLines"));
  EXPECT_EQ(lines(seconds(1), "text"), Lines{});
  state.failure.reset();  // another generation began, and fails in the same way
  lines(seconds(2), "text");
  state.failure = contract::Failure{.rank = 3, .reason = "CorpusMissing", .message = "/data is not there"};
  EXPECT_EQ(lines(seconds(3), "rank"), Lines{"warning: training failed 3"});
}

}  // namespace
}  // namespace trainyard::agent
