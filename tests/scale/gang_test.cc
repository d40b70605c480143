// One gang of 32 workers x 8 GPUs: it is placed, trains, and loses pods, nodes and ranks.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "tests/crds/yaml.h"
#include "tests/scale/gang256.h"

namespace trainyard {
namespace {

TEST_F(Gang256, IsPlacedOneWorkerANodeTellsItsProgressAndSucceeds) {
  apply(simulated_job("whole", 32, 8, 60));
  const Json running = eventually(kJobs + "/whole", has_done(1));
  EXPECT_EQ(running.at("status").at("phase"), "Running");
  EXPECT_EQ(running.at("status").at("workers"), Json({{"desired", 32}, {"ready", 32}}));
  std::set<std::string> nodes;
  for (const auto& pod : pods()) nodes.insert(pod.at("spec").at("nodeName"));
  EXPECT_EQ(nodes.size(), 32u);
  const Json done = eventually(kJobs + "/whole", is_phase("Succeeded"));
  EXPECT_EQ(done.at("status").at("progress").at("step"), 60);
  EXPECT_EQ(done.at("status").at("checkpoint").at("step"), 60);
  const Json ended = eventually(kPods, [](const Json& list) {
    return std::all_of(list.at("items").begin(), list.at("items").end(),
                       [](const Json& pod) { return pod.at("status").at("phase") == "Succeeded"; });
  });
  EXPECT_EQ(ended.at("items").size(), 32u);
}

TEST_F(Gang256, IsSuspendedAfterACheckpointAndResumesFromIt) {
  Json job = simulated_job("suspended", 32, 8, 300);
  job["spec"]["checkpoint"]["everySteps"] = 1'000;
  apply(job);
  eventually(kJobs + "/suspended", has_done(1));
  request(Method::kPatch, kJobs + "/suspended", {{"spec", {{"suspend", true}}}});
  const Json suspended = eventually(kJobs + "/suspended", is_phase("Suspended"));
  eventually(kPods, [](const Json& list) { return list.at("items").empty(); });
  const int kept = suspended.at("status").at("checkpoint").at("step");
  EXPECT_GE(kept, 1);
  EXPECT_LT(kept, 300) << "there was nothing to suspend any more";
  request(Method::kPatch, kJobs + "/suspended", {{"spec", {{"suspend", false}}}});
  const Json done = eventually(kJobs + "/suspended", is_phase("Succeeded"));
  EXPECT_EQ(done.at("status").value("restarts", 0), 0);
  const Json truth = cluster_->ask_fleet("GET", "/truths").at(done.at("metadata").at("uid").get<std::string>());
  EXPECT_EQ(truth.at("generationsRun"), 2);
  EXPECT_EQ(truth.at("step"), 300);
}

TEST_F(Gang256, ReplacesADeletedPodAloneAndTrainsOnWithAllOthers) {
  apply(simulated_job("bereft", 32, 8, 300));
  eventually(kJobs + "/bereft", has_done(1));
  const Json before = pods();
  request(Method::kDelete, kPods + "/bereft-7-1", {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}});
  const Json again = eventually(kJobs + "/bereft", [](const Json& job) {
    return job.at("status").value("generation", 0) == 2 && job.at("status").at("phase") == "Running";
  });
  EXPECT_EQ(again.at("status").at("failure").at("worker"), 7);
  const auto had = uids(before), has = uids(pods());
  std::set<std::string> kept;
  std::set_intersection(had.begin(), had.end(), has.begin(), has.end(), std::inserter(kept, kept.begin()));
  EXPECT_EQ(kept.size(), 31u);
  EXPECT_EQ(has.size(), 32u);
  eventually(kJobs + "/bereft", is_phase("Succeeded"));
}

TEST_F(Gang256, GoesOnWithItsSpareInTheLostWorkersPlaceAndWaitsForNoPod) {
  Json job = simulated_job("spared", 31, 8, 300);
  job["spec"]["workers"]["spares"] = 1;
  apply(job);
  eventually(kJobs + "/spared",
             [](const Json& seen) { return has_done(1)(seen) && seen.value("/status/spares/ready"_json_pointer, 0) == 1; });
  const Json before = pods();
  EXPECT_EQ(before.size(), 32u);
  request(Method::kDelete, kPods + "/spared-7-1", {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}});
  const Json again = eventually(kJobs + "/spared", [](const Json& seen) {
    return seen.at("status").value("generation", 0) == 2 && seen.at("status").at("phase") == "Running";
  });
  EXPECT_EQ(again.at("status").at("spares").at("standIns"), Json({{{"worker", 7}, {"pod", "spared-s1-1"}, {"generation", 2}}}));
  const Json done = eventually(kJobs + "/spared", is_phase("Succeeded"));
  EXPECT_EQ(done.at("status").value("restarts", 0), 0);
  EXPECT_EQ(done.at("status").at("failure").at("worker"), 7);
  // A spare that is none any more has another after it, on the node that was left; no worker is new.
  const auto had = uids(before);
  int kept = 0;
  for (const auto& pod : pods()) {
    const std::string name = pod.at("metadata").at("name"), uid = pod.at("metadata").at("uid");
    kept += static_cast<int>(had.contains(uid));
    EXPECT_TRUE(had.contains(uid) || name.starts_with("spared-s2-")) << name;
  }
  EXPECT_EQ(kept, 31);
  const Json truth = cluster_->ask_fleet("GET", "/truths").at(done.at("metadata").at("uid").get<std::string>());
  EXPECT_EQ(truth.at("generationsRun"), 2);
}

TEST_F(Gang256, LeavesThreeTaintedNodesTogetherAndKeepsAllOtherPods) {
  apply(simulated_job("drained", 24, 8, 300));
  eventually(kJobs + "/drained", has_done(1));
  const Json before = pods();
  const auto taint = [this](const std::string& node, const Json& taints) {
    request(Method::kPatch, "/api/v1/nodes/" + node, {{"spec", {{"taints", taints}}}});
  };
  std::set<std::string> left;
  for (int i : {3, 11, 19}) left.insert(before.at(static_cast<std::size_t>(i)).at("spec").at("nodeName"));
  const auto begin = std::chrono::steady_clock::now();
  for (const auto& node : left) taint(node, {{{"key", "example.com/maintenance"}, {"effect", "NoExecute"}}});
  eventually(kPods, [&left](const Json& list) {
    const auto stays = [&left](const Json& pod) { return !left.contains(pod.at("spec").at("nodeName")); };
    return list.at("items").size() == 24 && std::all_of(list.at("items").begin(), list.at("items").end(), stays);
  });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::cout << "from three taints to the pods in their places: " << took.count() << " s\n";
  const auto had = uids(before), has = uids(pods());
  std::set<std::string> kept;
  std::set_intersection(had.begin(), had.end(), has.begin(), has.end(), std::inserter(kept, kept.begin()));
  EXPECT_EQ(kept.size(), 21u);
  const Json done = eventually(kJobs + "/drained", is_phase("Succeeded"));
  EXPECT_EQ(done.at("status").value("restarts", 0), 0);
  EXPECT_EQ(done.at("status").at("failure").at("reason"), "NodeDrained");
  for (const auto& node : left) taint(node, Json::array());
}

TEST_F(Gang256, ReplacesTheWorkersOfThreeNodesLostAtOnceInOnePassAndKeepsAllOtherPods) {
  apply(simulated_job("struck", 28, 8, 400));
  eventually(kJobs + "/struck", has_done(1));
  const Json before = pods();
  std::set<std::string> lost, healthy;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const auto& pod = before.at(i);
    if (i % 9 == 4) {
      lost.insert(pod.at("spec").at("nodeName"));
    } else {
      healthy.insert(pod.at("metadata").at("uid"));
    }
  }
  ASSERT_EQ(lost.size(), 3u);
  std::vector<Json> nodes;
  for (const auto& node : lost) nodes.push_back(cluster_->api().perform({.path = "/api/v1/nodes/" + node}).body);
  // At once for the controller, which does not look while they go one by one.
  ASSERT_EQ(::kill(cluster_->controller().pid(), SIGSTOP), 0);
  for (const auto& node : lost) {
    request(Method::kDelete, "/api/v1/nodes/" + node, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}});
  }
  ASSERT_EQ(::kill(cluster_->controller().pid(), SIGCONT), 0);
  const Json again = eventually(kJobs + "/struck", [](const Json& job) {
    return job.at("status").value("generation", 0) > 1 && job.at("status").at("phase") == "Running";
  });
  EXPECT_EQ(again.at("status").at("failure").at("reason"), "NodeGone");
  EXPECT_EQ(again.at("status").at("workers"), Json({{"desired", 28}, {"ready", 28}}));
  std::set<std::string> kept;
  for (const auto& pod : pods()) {
    if (pod.at("metadata").contains("deletionTimestamp")) continue;
    EXPECT_FALSE(lost.contains(pod.at("spec").at("nodeName")));
    const std::string uid = pod.at("metadata").at("uid");
    if (healthy.contains(uid)) kept.insert(uid);
  }
  EXPECT_EQ(kept, healthy);
  const Json done = eventually(kJobs + "/struck", is_phase("Succeeded"));
  EXPECT_EQ(done.at("status").at("generation"), 2);
  EXPECT_EQ(done.at("status").at("uncountedRestarts"), 1);
  EXPECT_EQ(done.at("status").value("restarts", 0), 0);
  const Json truth = cluster_->ask_fleet("GET", "/truths").at(done.at("metadata").at("uid").get<std::string>());
  EXPECT_EQ(truth.at("generationsRun"), 2);
  for (auto& node : nodes) {
    for (const char* part : {"resourceVersion", "uid", "creationTimestamp", "managedFields"}) node["metadata"].erase(part);
    request(Method::kPost, "/api/v1/nodes", node);
  }
}

TEST_F(Gang256, StartsACrashedRankAnewWithoutANewPod) {
  apply(simulated_job("crashed", 32, 8, 300));
  const Json running = eventually(kJobs + "/crashed", has_done(1));
  const Json before = pods();
  cluster_->ask_fleet("POST", "/crash?pod=" + before.at(3).at("metadata").at("uid").get<std::string>() + "&exitCode=0&signal=11");
  const Json again = eventually(kJobs + "/crashed", [](const Json& job) { return job.at("status").value("generation", 0) == 2; });
  EXPECT_EQ(again.at("status").at("restarts"), 1);
  const Json done = eventually(kJobs + "/crashed", is_phase("Succeeded"));
  EXPECT_EQ(done.at("status").at("failure").at("signal"), "SIGSEGV");
  EXPECT_EQ(uids(pods()), uids(before));
}

TEST_F(Gang256, OfTheFoundingCaseIsRefusedWhereItDoesNotFitAndElseTellsWhatItTakes) {
  label_nodes();
  for (const char* claim : {"tokens", "checkpoints"}) bind_claim(claim);
  Json example = crd_test::load("crds/examples/gpt-175b-256gpu.yaml");
  example["spec"]["workers"]["template"]["spec"]["containers"][0]["image"] = "trainyard.test/worker:dev";
  Json without = example;
  without["metadata"]["name"] = "without-recomputation";
  without["spec"]["training"].erase("activationCheckpointing");
  apply(without);
  const Json refused = eventually(kJobs + "/without-recomputation", is_refused_for("DoesNotFit"));
  EXPECT_NE(refused.at("status")
                .at("conditions")
                .dump()
                .find("The nearest layout that fits: training.activationCheckpointing.mode Full"),
            std::string::npos)
      << refused.at("status").at("conditions").dump(1);
  EXPECT_TRUE(pods().empty());
  apply(example);
  const Json running = eventually(kJobs + "/gpt-175b", has_done(1));
  std::set<std::string> nodes;
  for (const auto& pod : pods()) nodes.insert(pod.at("spec").at("nodeName"));
  EXPECT_EQ(nodes.size(), 32u);
  const Json& place = running.at("status").at("placement");
  std::cout << "gpt-175b: " << place.dump() << "\n";
  EXPECT_LT(place.at("memoryPerRank").at("total"), place.at("memoryPerRank").at("device"));
  EXPECT_GT(place.at("memoryPerRank").at("host"), 0);
  EXPECT_GT(place.at("offloadBytesPerStep"), 0);
  ASSERT_EQ(place.at("traffic").size(), 5u) << "zone, block, rack, host, node";
  std::int64_t wider = 0;
  for (const auto& level : place.at("traffic")) {
    EXPECT_GT(level.at("bytesPerStep"), 0);
    EXPECT_GE(level.at("bytesPerStep"), wider);
    EXPECT_GT(level.at("seconds"), 0);
    wider = level.at("bytesPerStep");
  }
  EXPECT_GT(place.at("estimate").at("mfu"), 0);
  EXPECT_LE(place.at("estimate").at("mfu"), 1);
}

}  // namespace
}  // namespace trainyard
