#include "controller/decide/lost_connections.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::World;
using Names = std::vector<std::string>;

/// As Gloo tells it of a worker's peer at that address.
contract::Failure closed_by(const std::string& ip) {
  return {.failureClass = contract::FailureClass::kTransient,
          .exitCode = 76,
          .reason = "PeerLost",
          .message = "all_reduce: [pair.cc:534] Connection closed by peer [" + ip + "]:50231"};
}

/// Each of the workers reports that a connection broke to that one; afterwards the gang goes on, and trains.
void break_connections(World& world, const std::map<int, int>& peers) {
  for (const auto& [worker, peer] : peers) world.fail_rank(worker, closed_by(world.pod(peer).worker->ip), true);
  world.pass(10);
  world.pass(10);
  world.train(world.status().progress->step + 1);
  world.pass(5);
}

Names avoided(const World& world) {
  Names out;
  for (const auto& entry : world.status().avoidedNodes) out.push_back(entry.node);
  return out;
}

TEST(ConnectionsThatBreakAgain, DriveThePeerThatIsNamedFromItsNodeUncounted) {
  World world = a_running_world();
  const std::string node = world.pod(1).node;
  break_connections(world, {{0, 1}});
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1"})) << "most are over with the first restart";
  EXPECT_TRUE(world.status().avoidedNodes.empty());
  world.pass(300);
  break_connections(world, {{0, 1}});
  EXPECT_EQ(avoided(world), Names{node});
  EXPECT_EQ(world.status().avoidedNodes.at(0).reason, "ConnectionLost");
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-3"}));
  EXPECT_NE(world.pod(1).node, node);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().uncountedRestarts, 2);
}

TEST(ConnectionsThatBreakAgain, AreHeldAgainstThePeerThatMostName) {
  World world = a_running_world(4);
  const std::string node = world.pod(3).node;
  break_connections(world, {{3, 0}});
  world.pass(300);
  break_connections(world, {{0, 1}, {1, 3}, {2, 3}});
  EXPECT_EQ(avoided(world), Names{node});
}

TEST(ConnectionsThatBreakAgain, AreHeldAgainstWhoReportsThemWhereNobodyIsNamed) {
  World world = a_running_world();
  const std::string node = world.pod(1).node;
  for (int i = 0; i < 2; ++i) {
    auto failure = closed_by("10.9.9.9");
    world.fail_rank(1, failure, true);
    world.pass(10);
    world.pass(10);
    world.train(6 + i);
    world.pass(5);
  }
  EXPECT_EQ(avoided(world), Names{node});
}

TEST(ConnectionsThatBreakAgain, AfterHalfAnHourAreTheFirstOnceMore) {
  World world = a_running_world();
  break_connections(world, {{0, 1}});
  world.pass(1'800);
  break_connections(world, {{0, 1}});
  EXPECT_TRUE(world.status().avoidedNodes.empty());
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1"}));
}

TEST(ConnectionsThatBreakAgain, AfterAnotherFailureAreTheFirstOnceMore) {
  World world = a_running_world();
  break_connections(world, {{0, 1}});
  world.fail_rank(1, {.reason = "RankCrashed", .message = "crash"});
  world.pass(10);
  world.train(9);
  world.pass(5);
  break_connections(world, {{0, 1}});
  EXPECT_TRUE(world.status().avoidedNodes.empty());
}

TEST(ThePeer, IsToldByItsWholeAddress) {
  World world = a_running_world(3);
  world.change_pod("a-1-1", [](Pod& pod) { pod.worker->ip = "10.0.0.1"; });
  world.change_pod("a-2-1", [](Pod& pod) { pod.worker->ip = "10.0.0.12"; });
  const std::string node = world.pod(2).node;
  break_connections(world, {{0, 2}});
  break_connections(world, {{0, 2}});
  EXPECT_EQ(avoided(world), Names{node});
}

TEST(ThePeer, IsNotTheOneWhoseAddressIsTheEndOfAnothers) {
  World world = a_running_world(3);
  world.change_pod("a-1-1", [](Pod& pod) { pod.worker->ip = "0.0.0.7"; });
  world.change_pod("a-2-1", [](Pod& pod) { pod.worker->ip = "10.0.0.7"; });
  const std::string node = world.pod(2).node;
  break_connections(world, {{0, 2}});
  break_connections(world, {{0, 2}});
  EXPECT_EQ(avoided(world), Names{node});
}

TEST(ThePeer, MayBeNamedByItsPodAsProgramsOfTheEngineCustomDo) {
  World world(test::ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(test::make_custom_job("a", 2, 8));
  world.settle();
  Names blamed;
  for (int i = 1; i <= 2; ++i) {
    world.pass(100);
    blamed = {world.pod(1).node};
    world.exit(0, 1,
               "DistBackendError: NCCL error\nncclRemoteError: A call failed possibly due to a network error\nLast error:\n"
               "socketProgress: Connection closed by remote peer a-1-" +
                   std::to_string(i) + ".a<50231>");
    world.settle();
    world.pass(10);
    EXPECT_EQ(avoided(world), i == 1 ? Names{} : blamed);
  }
  EXPECT_NE(world.pod(1).node, blamed.front());
}

}  // namespace
}  // namespace trainyard::decide
