#include "controller/reconcile/job_metrics.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

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
  count_happening(metrics_, job, job.status, next, at(30));
  EXPECT_EQ(value("trainyard_job_wait_seconds_sum{queue=\"\"}"), 30);
  job.status = next;
  set(next, condition::kRunning, true, 45);
  count_happening(metrics_, job, job.status, next, at(45));
  EXPECT_EQ(value("trainyard_job_start_seconds_sum"), 15);
  EXPECT_EQ(value("trainyard_job_wait_seconds_count{queue=\"\"}"), 1) << "once a job";
  job.status = next;
  next.uncountedRestarts = 1;
  next.failure = contract::Failure{.failureClass = contract::FailureClass::kInfrastructure};
  count_happening(metrics_, job, job.status, next, at(50));
  EXPECT_EQ(value("trainyard_job_restarts_total{class=\"Infrastructure\"}"), 1);
  job.status = next;
  set(next, condition::kRunning, false, 50);  // in the same pods
  job.status = next;
  set(next, condition::kRunning, true, 53);
  count_happening(metrics_, job, job.status, next, at(53));
  EXPECT_EQ(value("trainyard_job_start_seconds_sum"), 15 + 3);
  job.status = next;
  set(next, condition::kFailed, true, 60);
  count_happening(metrics_, job, job.status, next, at(60));
  EXPECT_EQ(value("trainyard_jobs_finished_total{result=\"Failed\"}"), 1);
  job.status = next;
  count_happening(metrics_, job, job.status, next, at(61));
  EXPECT_EQ(value("trainyard_jobs_finished_total{result=\"Failed\"}"), 1);
}

TEST_F(JobMetrics, CountEachSpareThatWasUsedOnce) {
  Job job = test::make_job("a", 2, 8);
  auto next = job.status;
  next.spares = contract::SparesStatus{.desired = 2, .placed = 2, .made = 2};
  count_happening(metrics_, job, job.status, next, at(10));
  EXPECT_LE(value("trainyard_job_spares_used_total"), 0) << "none yet";
  job.status = next;
  next.spares->standIns = {{.worker = 0, .pod = "a-s1-1", .generation = 2}, {.worker = 1, .pod = "a-s2-1", .generation = 2}};
  count_happening(metrics_, job, job.status, next, at(20));
  EXPECT_EQ(value("trainyard_job_spares_used_total"), 2);
  job.status = next;
  next.spares->ready = 1;
  count_happening(metrics_, job, job.status, next, at(30));
  EXPECT_EQ(value("trainyard_job_spares_used_total"), 2);
}

TEST_F(JobMetrics, CountWhatAPreemptionLoses) {
  Job job = test::make_job("a", 2, 8);
  set(job.status, condition::kPlaced, true, 0);
  auto next = job.status;
  next.preemptions = 1;
  next.checkpoint = contract::CheckpointStatus{.step = 1, .path = "/c", .completedAt = contract::to_rfc3339(at(90))};
  count_happening(metrics_, job, job.status, next, at(100));
  EXPECT_EQ(value("trainyard_preemption_lost_device_seconds_total"), 160) << "16 GPUs for 10 s since the checkpoint";
}

TEST_F(JobMetrics, CountAJobsWaitToTheQueueThatLetItStart) {
  Job job = test::make_job("a", 2, 8);
  auto next = job.status;
  next.generation = 1;
  next.admission = contract::AdmissionStatus{.queue = "default", .nodeLabels = {}, .resources = {}};
  count_happening(metrics_, job, job.status, next, at(30));
  EXPECT_EQ(value("trainyard_job_wait_seconds_sum{queue=\"default\"}"), 30) << "it names none";
}

TEST_F(JobMetrics, ForgetTheWaitsOfAQueueThatIsGone) {
  Job job = test::make_job("a", 2, 8);
  auto next = job.status;
  next.generation = 1;
  decide::Cluster cluster;
  for (const char* queue : {"", "kept", "gone"}) {
    next.admission = contract::AdmissionStatus{.queue = queue, .nodeLabels = {}, .resources = {}};
    count_happening(metrics_, job, job.status, next, at(30));
    if (*queue != '\0') cluster.put(decide::Queue{.name = queue});
  }
  count_cluster(metrics_, cluster, at(31));
  EXPECT_EQ(value("trainyard_job_wait_seconds_count{queue=\"gone\"}"), 1);
  cluster.erase_queue("gone");
  count_cluster(metrics_, cluster, at(32));
  EXPECT_EQ(value("trainyard_job_wait_seconds_count{queue=\"gone\"}"), -1);
  EXPECT_EQ(value("trainyard_job_wait_seconds_count{queue=\"kept\"}"), 1);
  EXPECT_EQ(value("trainyard_job_wait_seconds_count{queue=\"\"}"), 1) << "jobs without a queue";
}

TEST_F(JobMetrics, CountOnceHowFarAStartWasOffItsFirstEstimate) {
  Job job = test::make_job("a", 2, 8);
  auto next = job.status;
  next.queue = contract::QueueStatus{};
  next.queue->startDelaySeconds = -90;
  count_happening(metrics_, job, job.status, next, at(30));
  count_happening(metrics_, job, next, next, at(31));
  EXPECT_EQ(value("trainyard_job_estimate_error_seconds_sum"), 90) << "too early is off as well";
  EXPECT_EQ(value("trainyard_job_estimate_error_seconds_count"), 1);
}

decide::Queue queue_with_usage() {
  decide::Queue queue{.name = "q"};
  auto& status = queue.status;
  decide::set_condition(status.conditions, {"Active", false, "ParentMissing", ""}, 1, at(0));
  status.pending = 3;
  status.pendingReasons = {{"QuotaExceeded", 2}, {"Reserved", 1}};
  contract::FlavorUsage usage{.nodeLabels = {{"gpu", "h100"}}, .resources = {}};
  usage.resources.push_back({.name = "cpu", .nominal = {"4"}, .used = {"2500m"}, .borrowed = {"0"}});
  usage.resources.push_back({.name = "memory", .nominal = {"1Gi"}, .used = {"2Gi"}, .borrowed = {"1Gi"}});
  status.usage.push_back(std::move(usage));
  return queue;
}

TEST_F(JobMetrics, TellWhatQueuesHoldAndWhyTheyLetNothingStart) {
  decide::Cluster cluster;
  cluster.put(queue_with_usage());
  count_cluster(metrics_, cluster, at(0));
  EXPECT_EQ(value("trainyard_queue_active{queue=\"q\",reason=\"ParentMissing\"}"), 0);
  EXPECT_EQ(value("trainyard_queue_waiting{queue=\"q\",reason=\"QuotaExceeded\"}"), 2);
  const std::string cpu = "{flavor=\"gpu=h100\",queue=\"q\",resource=\"cpu\"}";
  const std::string memory = "{flavor=\"gpu=h100\",queue=\"q\",resource=\"memory\"}";
  EXPECT_EQ(value("trainyard_queue_quota" + cpu), 4);
  EXPECT_EQ(value("trainyard_queue_used" + cpu), 2.5) << "in cores";
  EXPECT_EQ(value("trainyard_queue_borrowed" + memory), double{1 << 30}) << "in bytes";
  decide::Queue queue = queue_with_usage();
  decide::set_condition(queue.status.conditions, {"Active", true, "Active", ""}, 1, at(1));
  queue.status.pendingReasons.clear();
  queue.status.usage.clear();
  cluster.put(queue);
  count_cluster(metrics_, cluster, at(1));
  EXPECT_EQ(value("trainyard_queue_active{queue=\"q\",reason=\"Active\"}"), 1);
  EXPECT_EQ(value("trainyard_queue_active{queue=\"q\",reason=\"ParentMissing\"}"), -1) << "one series a queue";
  EXPECT_EQ(value("trainyard_queue_waiting{queue=\"q\",reason=\"QuotaExceeded\"}"), -1);
  for (const char* metric : {"trainyard_queue_quota", "trainyard_queue_used", "trainyard_queue_borrowed"}) {
    EXPECT_EQ(value(metric + cpu), -1) << metric << " of a flavor that the queue no longer has";
  }
}

Job waiting(const std::string& name, int position, const std::string& queue = "") {
  Job job = test::make_job(name);  // created at 0
  if (!queue.empty()) job.spec.queue = queue;
  job.status.queue = contract::QueueStatus{};
  job.status.queue->position = position;
  return job;
}

TEST_F(JobMetrics, TellForHowLongTheFirstOfEachQueueHasWaitedForItsPlace) {
  decide::Cluster cluster;
  cluster.put(decide::Queue{.name = "q"});
  Job preempted = waiting("first", 1, "q"), resumed = waiting("resumed", 5);
  set(preempted.status, condition::kPlaced, false, 60);
  set(resumed.status, condition::kPlaced, false, 10);
  set(resumed.status, condition::kSuspended, false, 70);
  cluster.put(preempted);
  cluster.put(waiting("second", 2, "q"));
  cluster.put(resumed);
  cluster.put(test::make_job("not in the line"));
  count_cluster(metrics_, cluster, at(100));
  EXPECT_EQ(value("trainyard_queue_head_wait_seconds{queue=\"q\"}"), 40) << "the first, since it lost its place";
  EXPECT_EQ(value("trainyard_queue_head_wait_seconds{queue=\"\"}"), 30) << "since it was resumed";
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

TEST_F(JobMetrics, CountJobsThatRestAndTheDevicesThatTheyAskFor) {
  auto cluster = test::ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build();
  cluster.put(decide::Node{.name = "other", .allocatable = {{"amd.com/gpu", 4}}, .ready = true});
  Job job = test::make_job("a", 2, 8);
  job.spec.suspend = true;
  job.spec.workers.gpuResourceName = "amd.com/gpu";
  job.status.phase = contract::Phase::kSuspended;
  cluster.put(job);
  cluster.pack_resting_jobs();
  ASSERT_EQ(cluster.packed_jobs().size(), 1u);
  count_cluster(metrics_, cluster, at(0));
  EXPECT_EQ(value("trainyard_jobs{phase=\"Suspended\"}"), 1);
  EXPECT_EQ(value("trainyard_devices{resource=\"amd.com/gpu\",state=\"free\"}"), 4);
  EXPECT_EQ(cluster.packed_jobs().size(), 1u) << "to count them wakes none";
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
  EXPECT_EQ(value("trainyard_job_devices{job_name=\"a\",job_namespace=\"default\"}"), 16);
  EXPECT_DOUBLE_EQ(value("trainyard_job_goodput_ratio{job_name=\"a\",job_namespace=\"default\"}"), 0.5)
      << "50 s of work in 100 s";
  set(job.status, condition::kPlaced, false, 101);
  cluster.put(job);
  count_cluster(metrics_, cluster, at(102));
  EXPECT_EQ(value("trainyard_job_devices{job_name=\"a\",job_namespace=\"default\"}"), -1);
}

std::string read(const std::string& path) {
  std::ifstream stream(test::kSourceDir + ("/" + path));
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

constexpr const char* kOfNames = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";

/// All words trainyard_….
std::set<std::string> metrics_in(const std::string& text) {
  std::set<std::string> out;
  for (auto at = text.find("trainyard_"); at != std::string::npos; at = text.find("trainyard_", at + 1)) {
    out.insert(text.substr(at, text.find_first_not_of(kOfNames, at) - at));
  }
  return out;
}

/// What may be asked for, with the labels of each.
std::map<std::string, std::set<std::string>> exposed() {
  std::map<std::string, std::set<std::string>> out;
  for (const auto& metric : observe::controller_metrics()) {
    std::set<std::string> labels(metric.labels.begin(), metric.labels.end());
    if (metric.type != observe::MetricType::kHistogram) {
      out[metric.name] = std::move(labels);
      continue;
    }
    out[metric.name + "_sum"] = out[metric.name + "_count"] = labels;
    labels.insert("le");
    out[metric.name + "_bucket"] = std::move(labels);
  }
  return out;
}

/// An expression of PromQL, and the labels that its legend or its annotations write out.
struct Asked {
  std::string expression;
  std::set<std::string> written;
};

/// The words of the text that stand right behind `before`.
std::set<std::string> words_behind(const std::string& text, const std::string& before) {
  std::set<std::string> out;
  for (auto at = text.find(before); at != std::string::npos; at = text.find(before, at + 1)) {
    const auto begin = at + before.size();
    out.insert(text.substr(begin, text.find_first_not_of(kOfNames, begin) - begin));
  }
  return out;
}

std::vector<Asked> asked_by_the_dashboard() {
  std::vector<Asked> out;
  const auto dashboard = nlohmann::json::parse(read("helm/files/dashboard.json"));
  for (const auto& panel : dashboard.at("panels")) {
    for (const auto& target : panel.at("targets")) {
      out.push_back({target.at("expr"), words_behind(target.at("legendFormat"), "{{")});
    }
  }
  return out;
}

/// Each of the rules stands in the file as - alert, expr and annotations; expressions are one line, or folded (>-).
std::vector<Asked> asked_by_alerts() {
  std::vector<Asked> out;
  std::istringstream lines(read("helm/templates/alerts.yaml"));
  bool is_folded = false;
  for (std::string line; std::getline(lines, line);) {
    const std::string text = line.substr(std::min(line.size(), line.find_first_not_of(' ')));
    if (text.starts_with("- alert:")) out.emplace_back();
    if (out.empty()) continue;
    if (text.starts_with("expr: ")) {
      is_folded = text == "expr: >-";
      if (!is_folded) out.back().expression = text.substr(6);
    } else if (is_folded && !text.starts_with("for:") && !text.starts_with("labels:")) {
      out.back().expression += text + " ";
    } else {
      is_folded = false;
      out.back().written.merge(words_behind(text, "$labels."));
    }
  }
  return out;
}

std::vector<Asked> all_asked() {
  std::vector<Asked> out = asked_by_the_dashboard(), more = asked_by_alerts();
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

/// What stands between brackets, and outside of text in quotes.
std::set<std::string> labels_in(const std::string& expression) {
  std::set<std::string> out;
  const auto add = [&](std::string::size_type begin, char end) {
    std::istringstream items(expression.substr(begin, expression.find(end, begin) - begin));
    for (std::string item; std::getline(items, item, ',');) {
      item.erase(0, item.find_first_not_of(' '));
      out.insert(item.substr(0, item.find_first_not_of(kOfNames)));
    }
  };
  for (const std::string before : {"by (", "on ("}) {
    for (auto at = expression.find(before); at != std::string::npos; at = expression.find(before, at + 1)) {
      add(at + before.size(), ')');
    }
  }
  for (const auto& metric : metrics_in(expression)) {
    for (auto at = expression.find(metric + "{"); at != std::string::npos; at = expression.find(metric + "{", at + 1)) {
      add(at + metric.size() + 1, '}');
    }
  }
  out.erase("");  // on ()
  return out;
}

bool is_balanced(const std::string& expression) {
  std::string open;
  for (const char c : expression) {
    if (c == '(' || c == '[' || c == '{') open += c;
    if (c != ')' && c != ']' && c != '}') continue;
    if (open.empty() || open.back() != (c == ')' ? '(' : c == ']' ? '[' : '{')) return false;
    open.pop_back();
  }
  return open.empty();
}

TEST(ControllerMetrics, AreTheOnesThatDashboardAndAlertsAskForByTheLabelsThatTheyHave) {
  const auto known = exposed();
  const auto all = all_asked();
  EXPECT_GT(all.size(), 30u);
  for (const auto& [expression, written] : all) {
    EXPECT_TRUE(is_balanced(expression)) << expression;
    std::set<std::string> labels;
    for (const auto& metric : metrics_in(expression)) {
      const auto found = known.find(metric);
      ASSERT_NE(found, known.end()) << metric << " is exposed by nobody: " << expression;
      labels.insert(found->second.begin(), found->second.end());
    }
    std::set<std::string> used = labels_in(expression);
    used.insert(written.begin(), written.end());
    for (const auto& label : used)
      EXPECT_TRUE(labels.contains(label)) << "no metric has the label " << label << ": " << expression;
  }
}

TEST(ControllerMetrics, ThatGrowForEverAreAskedForByTheirRate) {
  for (const auto& [expression, written] : all_asked()) {
    for (const auto& metric : metrics_in(expression)) {
      const bool grows = metric.ends_with("_total") || metric.ends_with("_bucket") || metric.ends_with("_count");
      for (auto at = expression.find(metric); grows && at != std::string::npos; at = expression.find(metric, at + 1)) {
        const std::string before = expression.substr(0, at);
        EXPECT_TRUE(before.ends_with("rate(") || before.ends_with("increase(")) << expression;
      }
    }
  }
}

/// Prometheus renames a metric's label to exported_… where the target that it comes from has one of that name.
TEST(ControllerMetrics, HaveNoLabelThatPrometheusGivesTheirTarget) {
  const std::set<std::string> of_targets{"container", "endpoint", "instance",   "job",    "namespace",
                                         "node",      "pod",      "prometheus", "service"};
  for (const auto& metric : observe::controller_metrics()) {
    for (const auto& label : metric.labels) EXPECT_FALSE(of_targets.contains(label)) << metric.name << " has " << label;
  }
}

TEST(ControllerMetrics, StandInTheDocumentsAndSoDoAlerts) {
  const std::string docs = read("docs/operating.md");
  for (const auto& metric : observe::controller_metrics()) {
    EXPECT_NE(docs.find("`" + metric.name + "`"), std::string::npos) << "docs/operating.md says nothing of " << metric.name;
  }
  const auto alerts = words_behind(read("helm/templates/alerts.yaml"), "- alert: ");
  EXPECT_GT(alerts.size(), 10u);
  for (const auto& alert : alerts) {
    EXPECT_NE(docs.find("`" + alert + "`"), std::string::npos) << "docs/operating.md does not say what to do at " << alert;
  }
}

TEST(ControllerMetrics, AreAllSetBySomebody) {
  std::string sources;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(std::string(test::kSourceDir) + "/controller")) {
    if (entry.path().extension() != ".cc" || entry.path().filename() == "controller_metrics.cc") continue;
    std::ifstream stream(entry.path());
    sources.append(std::istreambuf_iterator<char>(stream), {});
  }
  for (const auto& metric : observe::controller_metrics()) {
    EXPECT_NE(sources.find('"' + metric.name + '"'), std::string::npos) << metric.name;
  }
}

}  // namespace
}  // namespace trainyard::reconcile
