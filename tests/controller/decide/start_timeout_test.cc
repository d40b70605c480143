#include "controller/decide/start_timeout.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::AvoidedNode;
using contract::FailureClass;
using test::ClusterBuilder;
using test::make_job;
using test::World;

using Names = std::vector<std::string>;

/// Pods begin to come up, but for the newest ones of those workers, for which their kubelets do not say why.
void come_up_but(World& world, const std::vector<int>& stuck, const std::string& name = "a") {
  world.kubelets_work = false;
  world.settle();
  for (const int worker : stuck) {
    world.change_pod(world.pod(worker, name).key.name, [](Pod& pod) { pod.worker->waiting_reason = "ContainerCreating"; });
  }
  world.kubelets_work = true;
  world.settle();
}

TEST(AGangOfWhichSomeComeUp, IsPlacedAnewWithoutTheNodeAtFaultAndThatDoesNotCount) {
  World world = a_world();
  come_up_but(world, {1});
  const std::string node = world.pod(1).node;
  world.pass(600);
  EXPECT_TRUE(world.pods().empty());
  const auto& failure = *world.status().failure;
  EXPECT_EQ(failure.reason, "StartTimeout");
  EXPECT_EQ(failure.failureClass, FailureClass::kInfrastructure);
  EXPECT_EQ(failure.worker, 1);
  EXPECT_EQ(failure.node, node);
  EXPECT_NE(failure.message.find("; " + node + " is avoided for a while"), std::string::npos) << failure.message;
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().avoidedNodes,
            (std::vector<AvoidedNode>{
                {.node = node, .reason = "StartTimeout", .failures = 1, .generation = 1, .until = "2026-01-01T00:20:00Z"}}));
  world.pass(10);
  EXPECT_EQ(world.pods(), (Names{"a-0-2", "a-1-2"}));
  for (const int worker : {0, 1}) EXPECT_NE(world.pod(worker).node, node);
}

TEST(AGangOfWhichSomeComeUp, CountsWhereTheNextOneDoesNotComeUpEither) {
  World world = a_world();
  come_up_but(world, {1});
  world.pass(600);
  world.kubelets_work = false;
  world.pass(10);
  come_up_but(world, {0});
  const std::string second = world.pod(0).node;
  world.pass(600);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUnknown);
  EXPECT_EQ(world.status().avoidedNodes.size(), 2u);
  EXPECT_EQ(world.status().avoidedNodes.at(0).node, second);
}

TEST(AGangOfWhichSomeComeUp, ComesToAnEndWhereThatIsSoOnEveryNode) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 3; });
  std::int64_t attempts = 0;
  for (; attempts < 20 && world.status().phase != contract::Phase::kFailed; ++attempts) {
    world.kubelets_work = false;
    world.pass(300);
    come_up_but(world, {1});
    world.pass(600);
  }
  EXPECT_EQ(world.condition("Failed").reason, "MaxRestartsExceeded");
  EXPECT_EQ(attempts, 5) << "one that is not counted, three that are, and the last";
  EXPECT_EQ(world.status().uncountedRestarts, 1);
}

TEST(AGangOfWhichSomeComeUp, CountsNothingWhereItWasResumedSinceTheLastTimeWhetherOrNotItHasTrained) {
  for (const bool trains : {true, false}) {
    World world = a_world();
    come_up_but(world, {1});
    world.pass(600);
    world.pass(10);
    if (trains) {
      world.train(5);
      world.pass(5);
    }
    world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
    world.pass(1);
    world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
    come_up_but(world, {1});
    world.pass(600);
    EXPECT_EQ(world.status().restarts, 0) << trains;
    EXPECT_EQ(world.status().uncountedRestarts, 2) << trains;
  }
}

TEST(AGangOfWhichNoneComeUp, BlamesNoNodeAndCounts) {
  World world = a_world();
  come_up_but(world, {0, 1});
  world.pass(600);
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUnknown);
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_TRUE(world.status().avoidedNodes.empty());
}

TEST(AGangOfWhichMostStayAway, BlamesNoNodeForWhatTheyShare) {
  World world = a_world(4);
  come_up_but(world, {1, 2, 3});
  world.pass(600);
  EXPECT_EQ(world.status().failure->reason, "StartTimeout");
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_TRUE(world.status().avoidedNodes.empty());
}

TEST(AGangOnOneNode, ThatDoesNotComeUpIsTriedElsewhereAndCounts) {
  World world = a_world(1);
  come_up_but(world, {0});
  const std::string node = world.pod(0).node;
  world.pass(600);
  world.pass(10);
  EXPECT_EQ(world.pods(), (Names{"a-0-2"}));
  EXPECT_NE(world.pod(0).node, node);
  EXPECT_EQ(world.status().restarts, 1) << "nobody knows whether it is the node";
}

TEST(AGangOnOneNode, WhoseImageCannotBePulledBlamesNoNode) {
  World world = a_world(1);
  world.kubelets_work = false;
  world.settle();
  world.change_pod("a-0-1", [](Pod& pod) { pod.worker->waiting_reason = "ImagePullBackOff"; });
  world.pass(600);
  EXPECT_EQ(world.status().failure->reason, "StartTimeout");
  EXPECT_TRUE(world.status().avoidedNodes.empty());
}

TEST(AGangThatDidNotComeUp, WaitsLongerEachTimeBeforeItIsPlacedAnew) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 10; });
  for (const double wait : {10, 20, 40, 80, 160, 300, 300}) {
    come_up_but(world, {0, 1});
    world.pass(600);
    EXPECT_TRUE(world.pods().empty()) << wait;
    world.pass(wait - 1);
    EXPECT_TRUE(world.pods().empty()) << wait;
    const auto until = contract::to_rfc3339(test::at(world.now + 1));
    const std::string words = world.condition("Placed").message;
    EXPECT_NE(words.find("; the gang is placed anew from " + until + " on"), std::string::npos) << words;
    world.kubelets_work = false;
    world.pass(1);
    EXPECT_EQ(world.pods().size(), 2u) << wait;
  }
}

TEST(AGangThatDidNotComeUp, IsPlacedAnewAtOnceWhereItsTemplateIsMended) {
  World world = a_world();
  come_up_but(world, {0, 1});
  world.pass(600);
  EXPECT_TRUE(world.pods().empty());
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AGangThatDidNotComeUp, LeavesItsRoomToOthersMeanwhile) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(make_job("a", 2, 8));
  come_up_but(world, {0, 1});
  world.now += 1;
  world.add(make_job("b", 2, 8));
  world.settle();
  EXPECT_TRUE(world.pods("b").empty());
  world.pass(600);
  EXPECT_TRUE(world.pods("a").empty());
  EXPECT_EQ(world.pods("b").size(), 2u);
}

}  // namespace
}  // namespace trainyard::decide
