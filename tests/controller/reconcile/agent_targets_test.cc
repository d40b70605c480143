#include "controller/reconcile/agent_targets.h"

#include <gtest/gtest.h>

#include "crds/contract/signature.h"
#include "tests/support/builders.h"
#include "tests/support/virtual_time.h"

namespace trainyard::reconcile {
namespace {

struct RecordedAgents : agents::AgentApi {
  int calls = 0;
  std::map<std::string, agents::Target> targets;
  std::size_t changes = 0;
  void change_targets(std::map<std::string, std::optional<agents::Target>> by_pod_uid) override {
    ++calls;
    changes += by_pod_uid.size();
    for (auto& [uid, target] : by_pod_uid) {
      if (target) {
        targets.insert_or_assign(uid, std::move(*target));
      } else {
        targets.erase(uid);
      }
    }
  }
};

struct AgentTargetsTest : testing::Test {
  test::VirtualTime time;
  test::VirtualExecutor executor{time};
  RecordedAgents agents;
  AgentTargets targets{executor, agents, "the key"};
  decide::Cluster cluster;
  decide::ObjectKey job;

  void SetUp() override {
    const auto made = test::make_job("a");
    job = made.key;
    cluster.put(made);
    put_pod(0, "10.0.0.1");
    put_pod(1, "fd00::2");
  }
  void put_pod(int worker, const std::string& ip) {
    decide::Pod pod{.key = {"default", "a-" + std::to_string(worker) + "-1"}, .uid = "p" + std::to_string(worker)};
    pod.worker = decide::WorkerPod{.job = "a", .job_uid = "uid-a", .worker = worker, .generation = 1, .ip = ip};
    cluster.put(pod);
  }
  void settle() { time.run_for(std::chrono::seconds(1)); }
};

TEST_F(AgentTargetsTest, PollsByAddressWithTheJobsKey) {
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", contract::Assignment{.generation = 1}}});
  settle();
  ASSERT_EQ(agents.targets.size(), 2u);
  EXPECT_EQ(agents.targets["p0"].address, "10.0.0.1:8471");
  EXPECT_EQ(agents.targets["p1"].address, "[fd00::2]:8471");
  EXPECT_EQ(agents.targets["p0"].key, contract::job_key("the key", "uid-a"));
  EXPECT_FALSE(agents.targets["p0"].assignment);
  EXPECT_EQ(agents.targets["p1"].assignment->generation, 1);
}

TEST_F(AgentTargetsTest, PollsAtThePortThatThePodDeclares) {
  decide::Pod pod = *cluster.pod({"default", "a-0-1"});
  pod.worker->agent_port = 9000;
  cluster.put(pod);
  targets.set(job, cluster, {{"p0", std::nullopt}});
  settle();
  EXPECT_EQ(agents.targets["p0"].address, "10.0.0.1:9000");
}

TEST_F(AgentTargetsTest, LeavesOutPodsWithoutAnAddress) {
  put_pod(1, "");
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", std::nullopt}});
  settle();
  EXPECT_EQ(agents.targets.size(), 1u);
}

TEST_F(AgentTargetsTest, HandsOnManyChangesAtOnceAndNoneTwice) {
  targets.set(job, cluster, {{"p0", std::nullopt}});
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", std::nullopt}});
  settle();
  EXPECT_EQ(agents.calls, 1);
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", std::nullopt}});
  settle();
  EXPECT_EQ(agents.calls, 1);
  EXPECT_EQ(agents.changes, 2u);
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", contract::Assignment{.generation = 1}}});
  settle();
  EXPECT_EQ(agents.changes, 3u) << "of the others nothing is said";
}

TEST_F(AgentTargetsTest, ForgetsAllOfThem) {
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", std::nullopt}});
  settle();
  targets.clear();
  settle();
  EXPECT_TRUE(agents.targets.empty());
  targets.set(job, cluster, {{"p0", std::nullopt}});
  settle();
  EXPECT_EQ(agents.targets.size(), 1u);
}

TEST_F(AgentTargetsTest, KeepsThoseOfJobsThatAreThere) {
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", std::nullopt}});
  targets.keep(cluster);
  settle();
  EXPECT_EQ(agents.targets.size(), 2u);
  cluster.erase_job(job);
  targets.keep(cluster);
  settle();
  EXPECT_TRUE(agents.targets.empty());
}

TEST_F(AgentTargetsTest, ForgetsWhomNobodyWantsAnyMore) {
  targets.set(job, cluster, {{"p0", std::nullopt}, {"p1", std::nullopt}});
  targets.set(job, cluster, {{"p1", std::nullopt}});
  settle();
  EXPECT_EQ(agents.targets.size(), 1u);
  cluster.erase_job(job);
  targets.set(job, cluster, {});
  settle();
  EXPECT_TRUE(agents.targets.empty());
}

}  // namespace
}  // namespace trainyard::reconcile
