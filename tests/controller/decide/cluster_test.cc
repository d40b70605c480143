#include "controller/decide/cluster.h"

#include <functional>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "controller/decide/engine_spec.h"
#include "controller/decide/pod_template.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

Pod pod(const std::string& name, const std::string& node, PodPhase phase = PodPhase::kRunning) {
  return {.key = {"default", name}, .uid = "uid-" + name, .node = node, .phase = phase, .requests = {{"cpu", 100}, {"pods", 1}}};
}

TEST(Cluster, CountsWhatPodsTakeUntilTheyAreFinished) {
  Cluster cluster;
  cluster.put(pod("a", "n"));
  cluster.put(pod("b", "n", PodPhase::kPending));
  cluster.put(pod("unbound", ""));
  EXPECT_EQ(cluster.used_on("n")["cpu"], 200);
  Pod leaving = pod("a", "n");
  leaving.deletion_time = test::at(0);
  cluster.put(leaving);
  EXPECT_EQ(cluster.used_on("n")["cpu"], 200) << "its processes may still run";
  cluster.put(pod("a", "n", PodPhase::kSucceeded));
  EXPECT_EQ(cluster.used_on("n")["cpu"], 100);
  cluster.erase_pod({"default", "b"});
  EXPECT_EQ(cluster.used_on("n"), Resources{});
  EXPECT_TRUE(cluster.pods_on("n").empty());
}

TEST(Cluster, CountsANominatedPodWhereRoomIsMadeForIt) {
  Cluster cluster;
  Pod nominated = pod("a", "");
  nominated.nominated_node = "n";
  cluster.put(nominated);
  EXPECT_EQ(cluster.used_on("n")["cpu"], 100);
}

TEST(Cluster, KnowsThePodsOfAJobByItsUid) {
  Cluster cluster;
  const Job job = test::make_job("a");
  Pod own = pod("a-0-1", "n"), of_the_deleted = pod("a-0-2", "n");
  own.worker = WorkerPod{.job = "a", .job_uid = job.uid};
  of_the_deleted.worker = WorkerPod{.job = "a", .job_uid = "another"};
  cluster.put(own);
  cluster.put(of_the_deleted);
  const auto found = cluster.pods_of(job);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]->key.name, "a-0-1");
}

TEST(Cluster, ForgetsTheAgentOfAPodThatIsGone) {
  Cluster cluster;
  cluster.put(pod("a", "n"));
  cluster.put_agent("uid-a", {.reachable = true});
  Pod again = pod("a", "n");
  again.uid = "other";
  cluster.put(again);
  EXPECT_EQ(cluster.agent("uid-a"), nullptr);
}

TEST(Cluster, CountsOurJobsThatHaveSomethingToTell) {
  Cluster cluster;
  Job job = test::make_job("a");
  cluster.put(job);
  job.status.phase = contract::Phase::kRunning;
  cluster.put(job);
  EXPECT_EQ(cluster.num_live_jobs(), 1);
  Job foreign = test::make_job("b");
  foreign.spec.managedBy = "example.com/other";
  cluster.put(foreign);
  EXPECT_EQ(cluster.num_live_jobs(), 1);
  job.status.phase = contract::Phase::kSucceeded;
  cluster.put(job);
  EXPECT_EQ(cluster.num_live_jobs(), 0);
}

TEST(Cluster, GetsOverAPodThatAsksForMoreThanCanBeCounted) {
  Cluster cluster;
  cluster.put(pod("a", "n"));
  Pod monster = pod("monster", "n");
  monster.requests = {{"cpu", std::numeric_limits<std::int64_t>::max()}, {"pods", 1}};
  cluster.put(monster);
  cluster.put(pod("monster", "n", PodPhase::kFailed));  // its kubelet rejected it
  EXPECT_EQ(cluster.used_on("n")["cpu"], 100);
  cluster.erase_pod({"default", "a"});
  EXPECT_EQ(cluster.used_on("n"), Resources{});
}

TEST(Cluster, KeepsTheHashOfWhatAGangTrainsAsLongAsThatIsTheSame) {
  Cluster cluster;
  Job job = test::make_job("a", 4);
  const auto hash = [&cluster] { return cluster.job({"default", "a"})->spec_hash; };
  cluster.put(job);
  EXPECT_EQ(hash(), "") << "nobody asks for it yet";
  job.status.specHash = spec_hash(job.spec, 4);
  cluster.put(job);
  EXPECT_EQ(hash(), spec_hash(job.spec, 4));
  EXPECT_FALSE(is_spec_edited(*cluster.job(job.key)));
  job.spec.checkpoint = contract::Checkpoint{.path = "/c", .keep = 7};
  cluster.put(job);
  EXPECT_EQ(hash(), spec_hash(job.spec, 4));
  EXPECT_TRUE(is_spec_edited(*cluster.job(job.key)));
  job.status.placement = contract::PlacementStatus{.workers = 2};
  cluster.put(job);
  EXPECT_EQ(hash(), spec_hash(job.spec, 2)) << "the gang has become smaller";
}

TEST(Cluster, KeepsItsIndexesThroughAnySequenceOfChanges) {
  std::mt19937 random(1);
  const auto below = [&random](int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random); };
  Cluster cluster;
  for (int step = 0; step < 2'000; ++step) {
    const std::string name = "p" + std::to_string(below(10));
    if (below(4) == 0) {
      cluster.erase_pod({"default", name});
    } else {
      Pod next = pod(name, below(4) == 0 ? "" : "n" + std::to_string(below(3)), static_cast<PodPhase>(below(4)));
      if (below(3) == 0) next.worker = WorkerPod{.job = "a", .job_uid = "uid-a"};
      cluster.put(next);
    }
    std::size_t ours = 0;
    std::map<std::string, std::int64_t> used;
    for (const auto& [key, item] : cluster.pods()) {
      if (item.worker) ++ours;
      if (!item.is_finished() && !item.node.empty()) used[item.node] += 100;
    }
    ASSERT_EQ(cluster.pods_of(test::make_job("a")).size(), ours);
    for (const char* node : {"n0", "n1", "n2"}) ASSERT_EQ(cluster.used_on(node)["cpu"], used[node]) << step;
  }
}

TEST(ACluster, FindsTheCheckOfTheTemplateThatAJobHasNow) {
  Cluster cluster;
  cluster.settings.default_image = "worker:1";
  Job job = test::make_job("a", 1, 8);
  cluster.put(job);
  cluster.put_template_check(job.uid, template_hash(job.spec, cluster.settings), {.accepted = true});
  ASSERT_NE(cluster.template_check(*cluster.job(job.key)), nullptr);
  EXPECT_EQ(template_hash(*cluster.job(job.key), cluster.settings), template_hash(job.spec, cluster.settings));
  cluster.settings.default_image = "worker:2";
  EXPECT_EQ(cluster.template_check(*cluster.job(job.key)), nullptr) << "the chart has another image since";
  cluster.settings.default_image = "worker:1";
  job.spec.workers.templ = {{"metadata", {{"labels", {{"team", "a"}}}}}};
  cluster.put(job);
  EXPECT_EQ(cluster.template_check(*cluster.job(job.key)), nullptr) << "it was edited";
  cluster.put_template_check(job.uid, template_hash(job.spec, cluster.settings), {.accepted = true});
  ++job.status.generation;
  cluster.put(job);
  EXPECT_NE(cluster.template_check(*cluster.job(job.key)), nullptr) << "its status was written";
  for (const auto& edit : std::vector<std::function<void(contract::TrainingJobSpec&)>>{
           [](auto& spec) { spec.workers.gpusPerWorker = 4; }, [](auto& spec) { spec.workers.gpuResourceName = "amd.com/gpu"; },
           [](auto& spec) { spec.placement.binding = contract::Binding::kScheduler; }}) {
    edit(job.spec);
    cluster.put(job);
    EXPECT_EQ(template_hash(*cluster.job(job.key), cluster.settings), template_hash(job.spec, cluster.settings));
  }
  cluster.put_template_check("uid-b", "another job's", {.accepted = true});
  cluster.erase_job(job.key);
  EXPECT_EQ(cluster.template_checks().size(), 1u) << "those of the job are gone with it, and no others";
}

}  // namespace
}  // namespace trainyard::decide
