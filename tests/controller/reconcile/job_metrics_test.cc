#include "controller/reconcile/job_metrics.h"

#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/observe/controller_metrics.h"
#include "tests/paths.h"
#include "tests/support/builders.h"

namespace trainyard::reconcile {
namespace {

using decide::Job;
using test::at;
namespace condition = decide::condition;

class JobMetrics : public ::testing::Test {
 protected:
  /// The value after "name{labels} ", or -1.
  double value(const std::string& series) const {
    std::istringstream lines(metrics_.text());
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(series + " ")) return std::stod(line.substr(series.size() + 1));
    }
    return -1;
  }
  static void set(contract::TrainingJobStatus& status, const char* type, bool value, double when) {
    decide::set_condition(status, {type, value, "Because", ""}, 1, at(when));
  }
  observe::Metrics metrics_{observe::controller_metrics()};
};

TEST_F(JobMetrics, CountTheWayFromCreationToTheEnd) {
  Job job = test::make_job("a", 2, 8);  // created at 0
  auto next = job.status;
  next.startTime = contract::to_rfc3339(at(30));
  next.generation = 1;
  set(next, condition::kPlaced, true, 30);
  set(next, condition::kRunning, false, 30);
  count_happening(metrics_, job, next, at(30));
  EXPECT_EQ(value("trainyard_job_wait_seconds_sum"), 30);
  job.status = next;
  set(next, condition::kRunning, true, 45);
  count_happening(metrics_, job, next, at(45));
  EXPECT_EQ(value("trainyard_job_start_seconds_sum"), 15);
  EXPECT_EQ(value("trainyard_job_wait_seconds_count"), 1) << "once a job";
  job.status = next;
  next.uncountedRestarts = 1;
  next.failure = contract::Failure{.failureClass = contract::FailureClass::kInfrastructure};
  count_happening(metrics_, job, next, at(50));
  EXPECT_EQ(value("trainyard_job_restarts_total{class=\"Infrastructure\"}"), 1);
  job.status = next;
  set(next, condition::kRunning, false, 50);  // in the same pods
  job.status = next;
  set(next, condition::kRunning, true, 53);
  count_happening(metrics_, job, next, at(53));
  EXPECT_EQ(value("trainyard_job_start_seconds_sum"), 15 + 3);
  job.status = next;
  set(next, condition::kFailed, true, 60);
  count_happening(metrics_, job, next, at(60));
  EXPECT_EQ(value("trainyard_jobs_finished_total{result=\"Failed\"}"), 1);
  job.status = next;
  count_happening(metrics_, job, next, at(61));
  EXPECT_EQ(value("trainyard_jobs_finished_total{result=\"Failed\"}"), 1);
}

TEST_F(JobMetrics, CountWhatAPreemptionLoses) {
  Job job = test::make_job("a", 2, 8);
  set(job.status, condition::kPlaced, true, 0);
  auto next = job.status;
  next.preemptions = 1;
  next.checkpoint = contract::CheckpointStatus{.step = 1, .path = "/c", .completedAt = contract::to_rfc3339(at(90))};
  count_happening(metrics_, job, next, at(100));
  EXPECT_EQ(value("trainyard_preemption_lost_device_seconds_total"), 160) << "16 GPUs for 10 s since the checkpoint";
}

TEST_F(JobMetrics, TellWhoHoldsTheDevices) {
  auto cluster = test::ClusterBuilder{}
                     .racks(1)
                     .nodes_per_rack(4)
                     .gpus_per_node(8)
                     .use("node-0", 8, "a")
                     .use("node-1", 2)
                     .change("node-2", [](decide::Node& node) { node.unschedulable = true; })
                     .build();
  count_cluster(metrics_, cluster, at(0));
  const auto devices = [&](const std::string& state) {
    return value("trainyard_devices{resource=\"nvidia.com/gpu\",state=\"" + state + "\"}");
  };
  EXPECT_EQ(devices("jobs"), 8);
  EXPECT_EQ(devices("other_pods"), 2);
  EXPECT_EQ(devices("unavailable"), 8);
  EXPECT_EQ(devices("free"), 14);
  EXPECT_DOUBLE_EQ(value("trainyard_fragmentation_ratio{level=\"node\",resource=\"nvidia.com/gpu\"}"), 6.0 / 14);
}

TEST_F(JobMetrics, TellOfPlacedJobsAlone) {
  decide::Cluster cluster;
  Job job = test::make_job("a", 2, 8);
  set(job.status, condition::kPlaced, true, 0);
  job.status.startTime = contract::to_rfc3339(at(0));
  job.status.progress = contract::Progress{};
  job.status.progress->tokens = 500;
  job.status.progress->tokensPerSecond = 10;
  cluster.put(job);
  count_cluster(metrics_, cluster, at(100));
  EXPECT_EQ(value("trainyard_job_devices{job=\"a\",namespace=\"default\"}"), 16);
  EXPECT_DOUBLE_EQ(value("trainyard_job_goodput_ratio{job=\"a\",namespace=\"default\"}"), 0.5) << "50 s of work in 100 s";
  set(job.status, condition::kPlaced, false, 101);
  cluster.put(job);
  count_cluster(metrics_, cluster, at(102));
  EXPECT_EQ(value("trainyard_job_devices{job=\"a\",namespace=\"default\"}"), -1);
}

std::string read(const std::string& path) {
  std::ifstream stream(test::kSourceDir + ("/" + path));
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

/// All words trainyard_….
std::set<std::string> metrics_in(const std::string& text) {
  std::set<std::string> out;
  for (auto at = text.find("trainyard_"); at != std::string::npos; at = text.find("trainyard_", at + 1)) {
    const auto end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at);
    out.insert(text.substr(at, end - at));
  }
  return out;
}

TEST(ControllerMetrics, AreTheOnesThatDashboardAlertsAndDocumentsName) {
  std::set<std::string> known;
  for (const auto& metric : observe::controller_metrics()) {
    known.insert(metric.name);
    if (metric.type != observe::MetricType::kHistogram) continue;
    for (const char* part : {"_bucket", "_sum", "_count"}) known.insert(metric.name + part);
  }
  for (const char* file : {"helm/files/dashboard.json", "helm/templates/alerts.yaml"}) {
    const std::string text = read(file);
    ASSERT_FALSE(text.empty()) << file;
    const std::set<std::string> named = metrics_in(text);
    EXPECT_GT(named.size(), 3u) << file;
    for (const auto& metric : named) EXPECT_TRUE(known.contains(metric)) << file << " names " << metric;
  }
  const std::string docs = read("docs/operating.md");
  for (const auto& metric : observe::controller_metrics()) {
    EXPECT_NE(docs.find(metric.name), std::string::npos) << "docs/operating.md says nothing of " << metric.name;
  }
}

}  // namespace
}  // namespace trainyard::reconcile
