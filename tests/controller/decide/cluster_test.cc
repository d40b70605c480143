#include "controller/decide/cluster.h"

#include <functional>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
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

/// One that rests.
Job suspended(const std::string& name) {
  Job job = test::make_job(name);
  job.spec.suspend = true;
  return job;
}
Job ended(const std::string& name, const char* how = condition::kComplete) {
  Job job = test::make_job(name);
  set_condition(job.status, {how, true, "Because", ""}, 1, test::at(5));
  job.status.phase = phase_of(job.status);
  return job;
}
Pod pod_of(const Job& job) {
  Pod out = pod(job.key.name + "-0-1", "n");
  out.worker = WorkerPod{.job = job.key.name, .job_uid = job.uid};
  return out;
}
std::vector<std::string> names_of(const auto& jobs) {
  std::vector<std::string> out;
  for (const auto& [key, job] : jobs) out.push_back(key.name);
  return out;
}
using Names = std::vector<std::string>;

TEST(RestingJobs, ArePackedUntilSomebodyAsksForThem) {
  Cluster cluster;
  const std::vector<Job> resting{suspended("a"), ended("b"), ended("c", condition::kFailed)};
  for (const auto& job : resting) cluster.put(job);
  EXPECT_EQ(names_of(cluster.jobs()), (Names{"a", "b", "c"})) << "whoever put them may still look at them";
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.packed_jobs()), (Names{"a", "b", "c"}));
  EXPECT_EQ(names_of(cluster.jobs()), Names{});
  for (const auto& job : resting) {
    ASSERT_NE(cluster.job(job.key), nullptr);
    EXPECT_EQ(*cluster.job(job.key), job);
  }
  EXPECT_EQ(names_of(cluster.jobs()), (Names{"a", "b", "c"}));
  EXPECT_EQ(names_of(cluster.packed_jobs()), Names{});
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.packed_jobs()), (Names{"a", "b", "c"})) << "they rest again";
  EXPECT_EQ(cluster.job({"default", "d"}), nullptr);
}

TEST(RestingJobs, AreNoneThatWaitRunOrHaveAPlaceOrAreAnotherControllers) {
  Cluster cluster;
  cluster.put(test::make_job("waits"));
  Job placed = suspended("placed"), stopping = suspended("stopping"), in_line = suspended("in-line"),
      foreign = suspended("foreign"), deleted = suspended("deleted");
  set_condition(placed.status, {condition::kPlaced, true, reason::kGangPlaced, ""}, 1, test::at(5));
  set_condition(stopping.status, {condition::kRunning, false, reason::kSuspending, ""}, 1, test::at(5));
  in_line.status.queue = contract::QueueStatus{.position = 3};
  foreign.spec.managedBy = "example.com/other";
  deleted.deleting = true;
  for (const auto& job : {placed, stopping, in_line, foreign, deleted}) cluster.put(job);
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.packed_jobs()), Names{});
}

TEST(RestingJobs, WakeWhenTheyAreEditedOrGetPodsAndRestOnceThoseAreGone) {
  Cluster cluster;
  const Job job = suspended("a");
  cluster.put(job);
  cluster.pack_resting_jobs();
  cluster.put(pod_of(job));
  EXPECT_EQ(names_of(cluster.jobs()), Names{"a"});
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.jobs()), Names{"a"}) << "its pod holds room and quota";
  Pod over = pod_of(job);
  over.phase = PodPhase::kFailed;
  cluster.put(over);
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.packed_jobs()), Names{"a"}) << "its pod is kept for its log alone";
  cluster.put(pod_of(job));
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.packed_jobs()), Names{});
  cluster.erase_pod(over.key);
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.packed_jobs()), Names{"a"});
  Job resumed = job;
  resumed.spec.suspend = false;
  cluster.put(resumed);
  cluster.pack_resting_jobs();
  EXPECT_EQ(names_of(cluster.packed_jobs()), Names{});
  EXPECT_EQ(*cluster.job(job.key), resumed);
}

TEST(RestingJobs, AreCountedAndErasedAsOthersAre) {
  Cluster cluster;
  cluster.put(suspended("new"));
  cluster.put(ended("over"));
  cluster.put(test::make_job("waits"));
  const auto live = cluster.num_live_jobs();
  cluster.pack_resting_jobs();
  EXPECT_EQ(cluster.num_live_jobs(), live);
  const auto keys = [&cluster] {
    Names out;
    for (const auto& key : cluster.job_keys()) out.push_back(key.name);
    return out;
  };
  EXPECT_EQ(keys(), (Names{"new", "over", "waits"})) << "in the order of their names";
  cluster.erase_job({"default", "new"});
  cluster.erase_job({"default", "over"});
  EXPECT_EQ(keys(), Names{"waits"});
  EXPECT_EQ(cluster.num_live_jobs(), 1);
}

TEST(RestingJobs, KeepWhatTheServerSaidToTheirTemplatesWhereTheyMayStartAgain) {
  Cluster cluster;
  const Job waits = suspended("a"), over = ended("b");
  for (const auto& job : {waits, over}) {
    cluster.put(job);
    cluster.put_template_check(job.uid, "hash", {.accepted = true});
    cluster.put_refusal(job.uid, {.generation = 0, .request = "create pod", .message = "quota"});
  }
  cluster.pack_resting_jobs();
  EXPECT_NE(cluster.template_check(waits.uid, "hash"), nullptr);
  EXPECT_EQ(cluster.template_check(over.uid, "hash"), nullptr);
  EXPECT_EQ(cluster.refusals().size(), 1u);
}

TEST(RestingJobs, AreTheirOwnInACopyOfTheCluster) {
  Cluster cluster;
  cluster.put(suspended("a"));
  cluster.pack_resting_jobs();
  Cluster copy = cluster;
  copy.erase_job({"default", "a"});
  EXPECT_NE(cluster.job({"default", "a"}), nullptr);
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
