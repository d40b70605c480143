#include "controller/decide/kept_pods.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::CleanPodPolicy;

/// A job of any program, a, whose two workers run.
test::World a_world_of_programs(CleanPodPolicy policy = CleanPodPolicy::kRunning) {
  test::World world(test::ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  Job job = test::make_custom_job("a", 2, 8);
  job.spec.lifecycle.cleanPodPolicy = policy;
  world.add(std::move(job));
  world.settle();
  return world;
}
std::vector<std::string> failed_pods(const test::World& world) {
  std::vector<std::string> out;
  for (const auto* pod : world.cluster.pods_of(world.job())) {
    if (pod->phase == PodPhase::kFailed) out.push_back(pod->key.name);
  }
  return out;
}
using Names = std::vector<std::string>;

TEST(KeptPods, PodsThatFailedStayWhenTheGangIsRestartedAndAreNoPartOfIt) {
  test::World world = a_world_of_programs();
  world.exit(1, 7, "a look at this one would help");
  world.settle();
  EXPECT_EQ(failed_pods(world), (Names{"a-1-1"}));
  EXPECT_EQ(world.pods(), (Names{"a-0-2", "a-1-2"})) << "names of the next generation are free";
  EXPECT_EQ(world.condition(condition::kRunning).status, contract::ConditionStatus::kTrue);
  EXPECT_EQ(world.status().workers.ready, 2);
  EXPECT_EQ(world.status().restarts, 1);
}

TEST(KeptPods, AreThoseOfTheLastFailureAlone) {
  test::World world = a_world_of_programs();
  world.exit(1, 7);
  world.pass(300);
  world.exit(0, 8);
  world.pass(60);
  EXPECT_EQ(failed_pods(world), (Names{"a-0-2"}));
  EXPECT_EQ(world.pods(), (Names{"a-0-3", "a-1-3"}));
}

TEST(KeptPods, AnotherControllerKeepsThemToo) {
  test::World world = a_world_of_programs();
  world.exit(1, 7);
  world.settle();
  world.succeed_controller();
  world.pass(60);
  EXPECT_EQ(failed_pods(world), (Names{"a-1-1"}));
}

TEST(KeptPods, OfTrainyardsOwnEngineStayAsWell) {
  test::World world = a_running_world();
  world.exit(1, 137);
  world.pass(60);
  EXPECT_EQ(failed_pods(world), (Names{"a-1-1"}));
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-2"}));
}

TEST(KeptPods, OfTheLastFailureIsTheOneThatFailedLastWheneverItWasMade) {
  test::World world = a_running_world();
  for (const int worker : {1, 1, 0}) {
    world.pass(300);
    world.exit(worker, 137);
    world.pass(60);
  }
  EXPECT_EQ(failed_pods(world), (Names{"a-0-1"})) << "the others failed long before it";
  EXPECT_EQ(world.pods(), (Names{"a-0-4", "a-1-3"}));
}

TEST(KeptPods, DoNotComeBackWhenTheOnesInTheirPlaceVanish) {
  test::World world = a_running_world();
  world.exit(1, 137);
  world.pass(300);
  ASSERT_EQ(failed_pods(world), (Names{"a-1-1"}));
  const auto before = world.status();
  world.cluster.erase_pod({"default", "a-1-2"});
  world.pass(60);
  EXPECT_EQ(world.status().restarts, before.restarts) << "nobody judges the old failure again";
  EXPECT_EQ(world.status().uncountedRestarts, before.uncountedRestarts + 1);
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-3"}));
}

TEST(KeptPods, GiveWayWhereAQuotaCountsThem) {
  test::World world = a_world_of_programs();
  world.exit(1, 7);
  world.refuse_pod = [&](const CreatePod&) {
    return failed_pods(world).empty() ? std::nullopt : std::optional<std::string>("exceeded quota: count/pods=2");
  };
  world.pass(60);
  world.pass(60);
  EXPECT_EQ(failed_pods(world), Names{});
  EXPECT_EQ(world.pods(), (Names{"a-0-2", "a-1-2"}));
}

TEST(KeptPods, AreNoneWhereThePolicyIsAll) {
  test::World world = a_world_of_programs(CleanPodPolicy::kAll);
  world.exit(1, 7);
  world.settle();
  EXPECT_EQ(failed_pods(world), Names{});
  for (const int worker : {0, 1}) world.exit(worker, 0);
  world.pass(60);
  EXPECT_EQ(world.status().phase, contract::Phase::kSucceeded);
  EXPECT_TRUE(world.cluster.pods_of(world.job()).empty()) << "with their logs";
}

TEST(KeptPods, AJobThatFailsLeavesTheOthersRunningWhereThePolicyIsNone) {
  test::World world = a_world_of_programs(CleanPodPolicy::kNone);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 0; });
  world.exit(1, 7);
  world.pass(3'600);
  EXPECT_EQ(world.status().phase, contract::Phase::kFailed);
  EXPECT_EQ(world.pods(), (Names{"a-0-1"})) << "for kubectl exec";
  world.add(test::make_custom_job("b", 4, 8));
  world.settle();
  EXPECT_TRUE(world.pods("b").empty()) << "its GPUs are taken";
  EXPECT_FALSE(world.status("b").queue->estimatedStartTime) << "nobody knows until when";
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.cleanPodPolicy = CleanPodPolicy::kRunning; });
  world.pass(60);
  EXPECT_EQ(world.pods(), Names{}) << "the policy may change";
  EXPECT_EQ(world.pods("b").size(), 4u);
}

TEST(KeptPods, TheQuotaOfPodsThatStayIsPromisedToNobody) {
  test::World world = a_world_of_programs(CleanPodPolicy::kNone);
  Queue queue{.name = "default", .uid = "q", .flavors = {Flavor{.labels = {}, .resources = {}}}};
  queue.flavors[0].resources[test::kGpu].nominal = 16;
  world.cluster.put(std::move(queue));
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 0; });
  world.exit(1, 7);
  world.settle();
  world.add(test::make_custom_job("b", 2, 8));
  world.settle();
  EXPECT_EQ(world.condition(condition::kPlaced, "b").reason, reason::kQuotaExceeded);
}

TEST(KeptPods, ADeadlineEndsThoseThatStayedToo) {
  test::World world = a_world_of_programs(CleanPodPolicy::kNone);
  world.edit("a", [](contract::TrainingJobSpec& spec) {
    spec.lifecycle.maxRestarts = 0;
    spec.lifecycle.activeDeadlineSeconds = 1'000;
  });
  world.exit(1, 7);
  world.pass(900);
  EXPECT_EQ(world.pods(), (Names{"a-0-1"}));
  world.pass(101);
  EXPECT_EQ(world.pods(), Names{});
}

TEST(KeptPods, ADeadlineEndsThemEvenThen) {
  test::World world = a_world_of_programs(CleanPodPolicy::kNone);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.activeDeadlineSeconds = 100; });
  world.pass(200);
  world.pass(60);
  EXPECT_EQ(world.status().phase, contract::Phase::kFailed);
  EXPECT_EQ(world.pods(), Names{});
}

}  // namespace
}  // namespace trainyard::decide
