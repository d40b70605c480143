#include "controller/decide/node_health.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;
using contract::Phase;
using test::ClusterBuilder;
using test::World;

const Taint kMaintenance{.key = "example.com/maintenance", .value = "soon", .effect = "NoExecute"};

World a_wide_world() {  // a gang of four on eight nodes
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(4).gpus_per_node(8).build());
  world.add(test::make_job("a", 4, 8));
  world.settle();
  world.train(5);
  world.settle();
  return world;
}
void taint(World& world, const std::string& node, const Taint& taint) {
  world.change_node(node, [&taint](Node& n) { n.taints.push_back(taint); });
}
/// Ranks that were asked to end have written their checkpoint, all of them at the same step, and the agents told to end do so.
void stop_ranks(World& world) {
  for (int i = 0; i < 4; ++i) {
    if (world.said(i).phase == AgentPhase::kRunning)
      world.say(i, [](contract::State& state) { state.phase = AgentPhase::kStopped; });
    if (world.pod(i).deletion_time) world.silence(i);
  }
}

TEST(ANoExecuteTaint, MovesItsWorkerAtOnceAndKeepsTheOthers) {
  World world = a_wide_world();
  world.kubelets_work = false;
  const std::string node = world.pod(2).node;
  taint(world, node, kMaintenance);
  world.settle();
  ASSERT_TRUE(world.pod(2).deletion_time) << "its ranks are asked for a checkpoint";
  EXPECT_EQ(world.deleted_pods.back(), "its node " + node + " has the taint example.com/maintenance=soon:NoExecute");
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Running").reason, "NodeDrained");
  EXPECT_EQ(world.condition("Running").message, "worker 2 (pod default/a-2-1 on " + node + ") leaves, since its node " + node +
                                                    " has the taint example.com/maintenance=soon:NoExecute");
  stop_ranks(world);
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.now, 0) << "and the new pod is there as soon as the old one is gone";
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1", "a-2-2", "a-3-1"}));
  EXPECT_NE(world.pod(2).node, node);
  EXPECT_EQ(world.status().failure->reason, "NodeDrained");
  EXPECT_EQ(world.status().failure->node, node);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_TRUE(world.status().avoidedNodes.empty()) << "maintenance is no fault";
}

TEST(ANoExecuteTaint, ThatThePodToleratesMovesNobody) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  Job job = test::make_job("a", 2, 8);
  job.spec.workers.templ = Json::parse(
      R"({"spec": {"containers": [{"name": "worker", "image": "i"}], "tolerations": [{"key": "example.com/maintenance", "operator": "Exists"}]}})");
  world.add(job);
  world.settle();
  world.train(5);
  taint(world, world.pod(1).node, kMaintenance);
  world.pass(600);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
}

TEST(ATaint, OfAMaintenanceIsObeyedBeforeTheEvictionAndOthersOfItsEffectAreNot) {
  World world = a_wide_world();
  taint(world, world.pod(0).node, {.key = "example.com/reserved", .effect = "NoSchedule"});
  world.settle();
  EXPECT_FALSE(world.pod(0).deletion_time);
  world.kubelets_work = false;
  taint(world, world.pod(0).node, {.key = "karpenter.sh/disrupted", .effect = "NoSchedule"});
  world.settle();
  EXPECT_TRUE(world.pod(0).deletion_time);
}

TEST(TaintsOfANodeThatIsNotReady, MoveNobodyWhileItsAgentAnswers) {
  World world = a_wide_world();
  taint(world, world.pod(0).node, {.key = "node.kubernetes.io/unreachable", .effect = "NoExecute"});
  world.pass(600);
  EXPECT_EQ(world.status().uncountedRestarts, 0);
}

TEST(ACordon, LeavesAJobThatRunsAlone) {
  World world = a_wide_world();
  for (int i = 0; i < 4; ++i) world.change_node(world.pod(i).node, [](Node& node) { node.unschedulable = true; });
  taint(world, world.pod(0).node, {.key = "node.kubernetes.io/unschedulable", .effect = "NoSchedule"});
  world.pass(3'600);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().generation, 1);
}

TEST(APodThatLeft, IsToldAsSuchThoughItIsGoneBeforeTheOthersHaveStopped) {
  World world = a_wide_world();
  taint(world, world.pod(2).node, kMaintenance);
  world.settle();  // kubelets here are fast
  EXPECT_EQ(world.status().failure->reason, "NodeDrained");
  EXPECT_NE(world.status().failure->message.find("example.com/maintenance"), std::string::npos);
}

TEST(AnUnhealthyNode, IsLeftAndThenAvoided) {
  World world = a_wide_world();
  const std::string node = world.pod(1).node;
  world.kubelets_work = false;
  world.change_node(node, [](Node& n) { n.trouble = "XIDErrors"; });
  world.settle();
  stop_ranks(world);
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.status().failure->reason, "NodeUnhealthy");
  EXPECT_EQ(world.status().failure->failureClass, contract::FailureClass::kInfrastructure);
  EXPECT_NE(world.pod(1).node, node);
  EXPECT_EQ(world.status().avoidedNodes.at(0).node, node);
  EXPECT_EQ(world.status().avoidedNodes.at(0).failures, 1);
}

TEST(AnUnhealthyNode, TakesNoNewPods) {
  World world(ClusterBuilder{}
                  .racks(1)
                  .nodes_per_rack(1)
                  .gpus_per_node(8)
                  .change("node-0", [](Node& n) { n.trouble = "GPUMissing"; })
                  .build());
  world.add(test::make_job("a", 1, 8));
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "Unschedulable");
  EXPECT_NE(world.condition("Placed").message.find("1 is unhealthy by one of its conditions"), std::string::npos);
}

TEST(SeveralNodes, ThatAreLostAtOnceAreReplacedInOnePass) {
  World world = a_wide_world();
  const std::string first = world.pod(1).node, second = world.pod(3).node;
  const std::string kept = world.pod(0).uid;
  for (const auto& [node, since] :
       {std::pair(first, 0.0), std::pair(second, 4.0)}) {  // seen by the node controller a little apart
    world.change_node(node, [since = since](Node& n) {
      n.ready = false;
      n.ready_since = test::at(since);
    });
  }
  world.now = 4;
  for (int i : {1, 3}) world.silence(i);
  world.pass(5.9);
  EXPECT_EQ(world.status().uncountedRestarts, 0);
  world.pass(10);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1", "a-1-2", "a-2-1", "a-3-1", "a-3-2"}));
  EXPECT_EQ(world.status().generation, 2) << "one generation for both";
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.pod(0).uid, kept);
  for (int i : {1, 3}) EXPECT_TRUE(world.pod(i).node != first && world.pod(i).node != second);
}

TEST(SeveralNodes, OfACustomJobAreLeftInOnePassToo) {
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(4).gpus_per_node(8).build());
  world.add(test::make_custom_job("a", 4, 8));
  world.settle();
  const std::string first = world.pod(1).node, second = world.pod(3).node;
  for (const auto& [node, since] : {std::pair(first, 0.0), std::pair(second, 4.0)}) {
    world.change_node(node, [since = since](Node& n) {
      n.ready = false;
      n.ready_since = test::at(since);
    });
  }
  world.pass(20);
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(world.pod(i).node != first && world.pod(i).node != second);
}

TEST(SeveralNodes, ThatHaveToBeLeftAreLeftTogether) {
  World world = a_wide_world();
  world.kubelets_work = false;
  for (int i : {0, 3}) taint(world, world.pod(i).node, kMaintenance);
  world.settle();
  for (int i : {0, 3}) EXPECT_TRUE(world.pod(i).deletion_time);
  stop_ranks(world);
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-1", "a-2-1", "a-3-2"}));
  EXPECT_EQ(world.status().generation, 2);
}

TEST(ANodeOutOfService, LosesItsWorkerAtOnce) {
  World world = a_wide_world();
  const std::string node = world.pod(1).node;
  world.silence(1);
  taint(world, node, {.key = "node.kubernetes.io/out-of-service", .value = "nodeshutdown", .effect = "NoExecute"});
  world.settle();
  EXPECT_EQ(world.now, 0);
  EXPECT_EQ(world.status().failure->reason, "NodeLost");
  EXPECT_NE(world.pod(1).node, node);
}

TEST(APodThatNeverEnds, IsNotWaitedForBeyondItsGrace) {
  World world = a_wide_world();
  world.kubelets_work = false;
  world.silence(1);
  taint(world, world.pod(1).node, kMaintenance);
  world.settle();
  ASSERT_TRUE(world.pod(1).deletion_time);  // 30 s from now
  world.pass(39);
  EXPECT_EQ(world.status().generation, 1);
  world.pass(1);
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.pod(1).key.name, "a-1-2");
}

TEST(CapacityThatShrinksUnderARunningJob, StopsNobodyAndTakesNobody) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(test::make_job("a", 1, 8));
  world.settle();
  world.train(5);
  const std::string node = world.pod(0).node;
  world.change_node(node, [](Node& n) { n.allocatable.set(test::kGpu, 6); });
  world.pass(60);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().generation, 1);
  world.add(test::make_job("b", 2, 4));
  world.settle();
  for (int i : {0, 1}) EXPECT_NE(world.pod(i, "b").node, node);
  world.fail_rank(0, {.reason = "RankCrashed", .message = "crash"});
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1"})) << "its pod has its GPUs still";
}

}  // namespace
}  // namespace trainyard::decide
