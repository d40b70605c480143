// A controller that reads the cluster and runs the jobs of some namespaces: pods of another release's jobs, which it does not see, are as
// anybody's pods. docs/design/0013-namespaced.md.

#include <gtest/gtest.h>

#include "controller/decide/holdings.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::ConditionStatus;
using test::World;

/// Two nodes; the jobs of the namespace default are run here, those of team-b by another release. A gang of that, big, fills both nodes.
struct OtherReleases : testing::Test {
  World world{test::ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build()};

  void SetUp() override {
    world.cluster.settings.namespaces = {"default"};
    world.cluster.put(PriorityClass{.name = "high", .value = 1'000});
    for (const int worker : {0, 1}) world.cluster.put(of_others(worker));
  }
  static Pod of_others(int worker, const std::string& job = "big") {
    Pod pod{.key = {"team-b", job + "-" + std::to_string(worker) + "-7"},
            .uid = "pod-9" + std::to_string(worker),
            .node = "node-" + std::to_string(worker),
            .requests = {{"nvidia.com/gpu", 8}, {"pods", 1}},
            .created = test::at(-100)};
    pod.worker = WorkerPod{.job = job, .job_uid = "uid-" + job, .worker = worker, .generation = 7};
    return pod;
  }
  bool are_all_there() const {
    for (const int worker : {0, 1}) {
      const Pod* pod = world.cluster.pod(of_others(worker).key);
      if (pod == nullptr || pod->deletion_time || pod->is_finished()) return false;
    }
    return true;
  }
};

TEST_F(OtherReleases, PodsOfTheirJobsTakeUpRoomAndAreNamedToWhoWaits) {
  world.add(test::make_job("a", 1, 8));
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  const auto placed = world.condition("Placed");
  EXPECT_EQ(placed.status, ConditionStatus::kFalse);
  EXPECT_NE(placed.message.find("nvidia.com/gpu is held by job team-b/big (16)"), std::string::npos) << placed.message;
  world.cluster.erase_pod(of_others(1).key);
  world.settle();
  ASSERT_EQ(world.pods().size(), 1u);
  EXPECT_EQ(world.pod(0).node, "node-1");
}

TEST_F(OtherReleases, PodsOfTheirJobsAreNotTakenForLeaving) {
  world.add(test::make_job("a", 1, 8));
  world.settle();
  ASSERT_TRUE(world.status().queue);
  EXPECT_FALSE(world.status().queue->estimatedStartTime) << "nobody here knows when they end";
  EXPECT_TRUE(holdings(world.cluster, Topology(world.cluster), test::at(0)).empty());
  // Here they would be those of a job that was deleted.
  world.cluster.settings.namespaces.clear();
  const auto held = holdings(world.cluster, Topology(world.cluster), test::at(0));
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(held[0].ends, test::at(0));
}

TEST_F(OtherReleases, APodOfTheirsThatIsBeingDeletedIsWaitedFor) {
  Pod going = of_others(0);
  going.deletion_time = test::at(30);
  world.cluster.put(going);
  const auto held = holdings(world.cluster, Topology(world.cluster), test::at(0));
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].ends, test::at(30));
}

TEST_F(OtherReleases, TheirGangsArePreemptedByNoJobOfOurs) {
  Job urgent = test::make_job("a", 1, 8);
  urgent.spec.priorityClassName = "high";
  world.add(urgent);
  for (int i = 0; i < 10; ++i) world.pass(300);
  EXPECT_TRUE(world.pods().empty());
  EXPECT_TRUE(world.deleted_pods.empty());
  EXPECT_TRUE(are_all_there());
}

TEST_F(OtherReleases, TheirPodsAreLeftAloneOnNodesThatOursMustLeave) {
  for (const char* node : {"node-0", "node-1"}) {
    world.change_node(node, [](Node& n) {
      n.trouble = "KernelDeadlock";
      n.ready = false;
      n.ready_since = test::at(0);
    });
  }
  world.add(test::make_job("a", 1, 8));
  for (int i = 0; i < 10; ++i) world.pass(300);
  EXPECT_TRUE(world.deleted_pods.empty());
  EXPECT_TRUE(are_all_there());
}

TEST_F(OtherReleases, AJobOfOursOfTheSameNameLivesAndEndsWithoutTouchingTheirs) {
  world.cluster.put(of_others(0, "a"));
  world.cluster.erase_pod(of_others(0).key);
  world.cluster.erase_pod(of_others(1).key);
  world.add(test::make_job("a", 1, 8));
  world.settle();
  EXPECT_EQ(world.pods(), std::vector<std::string>{"a-0-1"}) << "their generation is no concern of ours";
  EXPECT_EQ(world.pod(0).node, "node-1");
  world.train(3);
  world.exit(0, 137);
  world.settle();
  world.pass(60);
  world.train(6);
  world.finish();
  world.settle();
  world.pass(10'000);
  world.cluster.erase_job({"default", "a"});
  for (const auto& [key, pod] : world.cluster.pods()) EXPECT_TRUE(key.ns == "default" || !pod.deletion_time);
  EXPECT_NE(world.cluster.pod(of_others(0, "a").key), nullptr);
}

}  // namespace
}  // namespace trainyard::decide
