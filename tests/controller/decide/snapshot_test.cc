#include "controller/decide/snapshot.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::at;
using test::ClusterBuilder;
using test::make_job;

/// Something in every field.
Cluster full_cluster() {
  Cluster cluster = ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build();
  cluster.put(Node{.name = "n",
                   .labels = {{"a", "b"}},
                   .allocatable = {{"cpu", 1}, {"x/y", 9'000'000'000'000'000'000}},
                   .taints = {{"k", "v", "NoExecute"}},
                   .unschedulable = true,
                   .ready = true,
                   .ready_since = at(1.000001),
                   .memory_pressure = true,
                   .trouble = "XIDErrors"});
  Job job = make_job("a", 2, 8);
  job.deleting = true;
  job.traceparent = "00-1-2-01";
  job.status.generation = 3;
  job.status.progress = contract::Progress{};
  job.status.progress->loss = 0.1;
  job.problems = {{"spec.x", "no"}};
  job.status_written = at(2);
  cluster.put(job);
  Pod pod{.key = {"default", "a-0-1"}, .uid = "u", .node = "n", .nominated_node = "m", .phase = PodPhase::kFailed};
  pod.requests = {{"pods", 1}};
  pod.created = at(3);
  pod.deletion_time = at(4);
  contract::State word;
  word.version = 7;
  pod.worker = WorkerPod{.job = "a",
                         .job_uid = job.uid,
                         .worker = 1,
                         .generation = 2,
                         .template_hash = "h",
                         .ip = "10.0.0.1",
                         .agent_port = 7,
                         .started_at = at(4.5),
                         .container_running = true,
                         .waiting_reason = "w",
                         .waiting_message = "wm",
                         .exit_code = 137,
                         .exit_reason = "OOMKilled",
                         .memory_limited = true,
                         .exited_at = at(5),
                         .last_word = word,
                         .exit_message = "em",
                         .reason = "r",
                         .message = "m",
                         .unscheduled_message = "um",
                         .tolerations = {{"k", "Exists", "", "NoExecute"}}};
  cluster.put(pod);
  cluster.put(Claim{.key = {"default", "c"}, .phase = "Bound", .volume = "v", .deleting = true});
  cluster.put(Volume{.name = "v", .required_terms = Json::array({{{"matchExpressions", Json::array()}}})});
  cluster.put(PriorityClass{.name = "p", .value = -5, .is_default = true, .preempts = false});
  contract::TrainingQueueStatus status;
  status.running = 2;
  cluster.put(Queue{.name = "q",
                    .uid = "uq",
                    .resource_version = "7",
                    .generation = 2,
                    .parent = "org",
                    .weight = 3,
                    .stop = contract::Stop::kDrain,
                    .namespaces = contract::LabelSelector{.matchLabels = {{"a", "b"}}, .matchExpressions = {}},
                    .flavors = {{.labels = {{"gpu", "h100"}}, .resources = {{"cpu", {1, 2, 3}}}}},
                    .status = status,
                    .status_written = at(9)});
  cluster.put(Namespace{.name = "default", .labels = {{"team", "a"}}});
  cluster.put_agent("u", {.state = word, .reachable = true, .since = at(6), .error = "e", .other_key = true, .events_made = 2});
  TemplateCheck check{.accepted = true, .over_quota = true, .message = "m"};
  check.needs = {.requests = {{"cpu", 3}},
                 .rules = {.selector = {{"s", "t"}},
                           .required_terms = Json::array({{{"matchFields", Json::array()}}}),
                           .tolerations = {{"k", "Exists", "", "NoSchedule"}},
                           .volume_terms = {Json::array({1})},
                           .device = DeviceNeed{"nvidia.com/gpu", 5}},
                 .claims = {"c"}};
  check.beyond_direct = {{"spec.hostPorts", "no"}};
  check.at = at(8);
  cluster.put_template_check(job.uid, "h", check);
  cluster.put_refusal(job.uid, {.generation = 3, .request = "create pod", .message = "quota"});
  cluster.settings.preempted_min_run = std::chrono::seconds(17);
  cluster.settings.status_writes_per_second = 0.5;
  cluster.settings.maintenance_taints = {"t"};
  return cluster;
}

TEST(Snapshot, HoldsEveryFieldOfEveryObject) {
  const Cluster cluster = full_cluster();
  const Snapshot read = read_snapshot(Json::parse(to_json(cluster, at(10)).dump()));
  EXPECT_EQ(read.now, at(10));
  EXPECT_EQ(read.cluster.settings, cluster.settings);
  EXPECT_EQ(read.cluster.nodes(), cluster.nodes());
  EXPECT_EQ(read.cluster.pods(), cluster.pods());
  EXPECT_EQ(read.cluster.jobs(), cluster.jobs());
  EXPECT_EQ(read.cluster.claims(), cluster.claims());
  EXPECT_EQ(read.cluster.volumes(), cluster.volumes());
  EXPECT_EQ(read.cluster.priority_classes(), cluster.priority_classes());
  EXPECT_EQ(read.cluster.queues(), cluster.queues());
  EXPECT_EQ(read.cluster.namespaces(), cluster.namespaces());
  EXPECT_EQ(read.cluster.agents(), cluster.agents());
  EXPECT_EQ(read.cluster.template_checks(), cluster.template_checks());
  EXPECT_EQ(read.cluster.refusals(), cluster.refusals());
}

TEST(Snapshot, HoldsJobsThatRestAsIfTheyDidNot) {
  Cluster cluster = full_cluster();
  for (const char* name : {"resting", "zzz"}) {
    Job job = test::make_job(name);
    job.spec.suspend = true;
    cluster.put(job);
  }
  const Json before = to_json(cluster, at(10));
  cluster.pack_resting_jobs();
  ASSERT_EQ(cluster.packed_jobs().size(), 2u);
  EXPECT_EQ(to_json(cluster, at(10)), before);
}

TEST(Snapshot, NamesEveryFieldThatItCannotRead) {
  Json json = to_json(full_cluster(), at(10));
  json["pods"][0]["phase"] = "Lost";
  json["nodes"][1].erase("ready");
  json.erase("volumes");
  try {
    read_snapshot(json);
    FAIL();
  } catch (const std::invalid_argument& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("pods[0].phase"), std::string::npos) << text;
    EXPECT_NE(text.find("nodes[1].ready"), std::string::npos) << text;
    EXPECT_NE(text.find("volumes"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace trainyard::decide
