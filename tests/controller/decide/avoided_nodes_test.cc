#include "controller/decide/avoided_nodes.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Failure;
using test::ClusterBuilder;
using test::World;

const Failure kEcc{.exitCode = 70, .reason = "EngineError", .message = "CUDA error: uncorrectable ECC error encountered"};

/// The rank of worker 1 meets a broken GPU; afterwards the gang trains again.
void break_gpu(World& world, int worker = 1) {
  world.fail_rank(worker, kEcc);
  world.settle();
}
void train_for(World& world, double seconds) {
  world.train(world.status().progress->step + 1);
  world.pass(5);
  world.pass(seconds);
}

TEST(ABrokenNode, IsLeftByItsWorkerAloneThoughItsPodIsWell) {
  World world = a_running_world();
  const std::string node = world.pod(1).node, other = world.pod(0).uid;
  break_gpu(world);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
  EXPECT_EQ(world.pod(0).uid, other);
  EXPECT_NE(world.pod(1).node, node);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().failure->failureClass, contract::FailureClass::kInfrastructure);
  EXPECT_EQ(world.status().failure->reason, "GpuFailed");
  EXPECT_EQ(world.status().avoidedNodes,
            (std::vector<contract::AvoidedNode>{
                {.node = node, .reason = "GpuFailed", .failures = 1, .generation = 1, .until = "2026-01-01T00:10:00Z"}}));
  EXPECT_EQ(world.said(1).generation, 2) << "and the gang goes on";
}

TEST(ABrokenNode, IsAvoidedForLongerEachTimeAndForgottenAtLast) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build());
  world.add(test::make_job("a", 1, 8));
  world.settle();
  world.train(1);
  world.settle();
  std::vector<double> minutes;
  for (int i = 0; i < 6; ++i) {
    break_gpu(world, 0);
    const auto until = contract::parse_rfc3339(world.status().avoidedNodes.at(0).until);
    minutes.push_back(std::chrono::duration<double>(*until - test::at(world.now)).count() / 60);
    train_for(world, 100);
  }
  EXPECT_EQ(minutes, (std::vector<double>{10, 20, 40, 80, 120, 120}));
  world.pass(5 * 3'600);
  break_gpu(world, 0);
  EXPECT_EQ(world.status().avoidedNodes.at(0).failures, 1);
}

TEST(ABrokenNode, IsTakenAllTheSameWhereThereIsNoOther) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(test::make_job("a", 2, 8));
  world.settle();
  world.train(5);
  world.settle();
  const std::string node = world.pod(1).node;
  break_gpu(world);
  EXPECT_EQ(world.pod(1).node, node);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"})) << "in a new pod";
  world.fail_rank(0, {.reason = "RankCrashed", .message = "crash"});
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"})) << "which then stays";
}

TEST(ABrokenNode, IsTakenAgainOnceItWasAvoidedForLongEnough) {
  World world = a_running_world();
  const std::string node = world.pod(1).node;
  break_gpu(world);
  const std::string refuge = world.pod(1).node;
  train_for(world, 700);
  world.cluster.erase_pod(world.pod(1).key);
  world.change_node(refuge, [](Node& n) { n.unschedulable = true; });
  world.settle();
  EXPECT_EQ(world.pod(1).node, node);
}

TEST(ATrouble, ThatMostNodesOfTheGangShareIsNoNodes) {
  World world = a_running_world();
  const Failure storage{.failureClass = contract::FailureClass::kInfrastructure,
                        .exitCode = 70,
                        .reason = "StorageUnavailable",
                        .message = "spec.checkpoint.path: Stale file handle"};
  for (int i : {0, 1}) world.fail_rank(i, storage);
  world.settle();
  EXPECT_TRUE(world.status().avoidedNodes.empty());
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  EXPECT_EQ(world.status().uncountedRestarts, 1);
}

TEST(ALostConnection, RestartsTheGangInItsPodsUncountedAndBlamesNobody) {
  World world = a_running_world();
  for (int i : {0, 1}) {
    world.fail_rank(i,
                    {.failureClass = contract::FailureClass::kTransient,
                     .exitCode = 76,
                     .reason = "PeerLost",
                     .message = "all_reduce: [pair.cc:534] Connection closed by peer [10.0.0.2]:50231"},
                    true);
  }
  world.settle();
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_TRUE(world.status().avoidedNodes.empty());
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
}

TEST(AProgramThatIsDoneFirst, IsNoNetworksFault) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(test::make_custom_job("a", 2, 8));
  world.settle();
  world.exit(0, 0);
  world.exit(1, 1, "RuntimeError: Connection closed by peer [10.0.0.2]:5000");
  world.settle();
  EXPECT_EQ(world.status().failure->failureClass, contract::FailureClass::kUnknown);
  EXPECT_EQ(world.status().restarts, 1) << "it would be so for ever";
}

TEST(InfrastructureThatFailsForEver, IsTriedEverMoreSlowly) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 0; });
  for (; world.now < 3'600; world.pass(1)) {
    const int worker = 1;
    if (world.said(worker).phase != contract::AgentPhase::kFailed) world.fail_rank(worker, kEcc);
  }
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_GE(world.status().uncountedRestarts, 8);
  EXPECT_LE(world.status().uncountedRestarts, 24);
  EXPECT_EQ(world.status().failuresInARow, world.status().uncountedRestarts);
  EXPECT_LE(world.status().avoidedNodes.size(), 4u);
}

}  // namespace
}  // namespace trainyard::decide
