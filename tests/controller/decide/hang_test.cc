#include "controller/decide/hang.h"

#include <gtest/gtest.h>

#include "controller/decide/restart.h"
#include "crds/contract/hang.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::FailureClass;

/// Two workers with 8 ranks each: ranks 0 to 7 and 8 to 15, all of one data axis.
test::World a_world_with_a_limit() {
  test::World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.hangTimeoutSeconds = 30; });
  world.settle();
  world.train(5);
  world.settle();
  return world;
}

contract::RankActivity waits(std::int32_t rank) {
  return {.rank = rank,
          .warm = true,
          .call = contract::GroupCall{.group = "data", .operation = "all_reduce", .number = 42, .elements = 64, .seconds = 31},
          .started = {{"data", 42}},
          .stillSeconds = 31,
          .silentSeconds = 1};
}
contract::RankActivity silent(std::int32_t rank) {
  return {.rank = rank, .doing = "backward", .started = {{"data", 41}}, .stillSeconds = 31, .silentSeconds = 31};
}

void tell(test::World& world, int worker, std::vector<contract::RankActivity> activities) {
  world.say(worker, [&](contract::State& state) { state.activities = std::move(activities); });
}

TEST(AHungGang, IsExplainedByWhatAllAgentsTell) {
  test::World world = a_world_with_a_limit();
  tell(world, 0, {waits(0), waits(1)});
  tell(world, 1, {waits(8), silent(9)});
  world.fail_rank(1, {.failureClass = FailureClass::kInfrastructure,
                      .rank = 9,
                      .reason = contract::kRankHung,
                      .message = "rank 9 has not answered"});
  world.settle();
  const auto& failure = world.status().failure.value();
  EXPECT_EQ(failure.reason, "RankHung");
  EXPECT_EQ(failure.failureClass, FailureClass::kInfrastructure);
  EXPECT_EQ(failure.rank, 9);
  EXPECT_EQ(failure.worker, 1);
  EXPECT_TRUE(failure.node);
  EXPECT_NE(failure.message.find("30 s of lifecycle.hangTimeoutSeconds: rank 9 has not answered for 31 s"), std::string::npos)
      << failure.message;
  EXPECT_NE(failure.message.find("ranks 0, 1 and 8 wait for it in all_reduce 42 of the data axis (64 elements)"),
            std::string::npos)
      << failure.message;
  EXPECT_EQ(world.status().restarts, 0) << "what nodes do is not counted";
  EXPECT_EQ(world.status().uncountedRestarts, 1);
}

TEST(AHungGang, IsExplainedWhereOnlyAgentsOfWaitingRanksTell) {
  test::World world = a_world_with_a_limit();
  std::vector<contract::RankActivity> first;
  for (std::int32_t rank = 0; rank < 8; ++rank) first.push_back(waits(rank));
  tell(world, 0, first);
  world.fail_rank(0, {.failureClass = FailureClass::kInfrastructure, .reason = contract::kRankHung, .message = "they wait"},
                  true);
  world.pass(11);
  const auto& failure = world.status().failure.value();
  EXPECT_EQ(failure.worker, 1);
  EXPECT_EQ(failure.rank, 8) << "the first of those of whom nothing is known";
}

TEST(AHungGang, WhoseRanksWaitForEachOtherIsCounted) {
  test::World world = a_world_with_a_limit();
  auto one = waits(0), other = waits(1);
  one.call->peer = 1;
  other.call->peer = 0;
  tell(world, 0, {one, other});
  world.fail_rank(0, {.reason = contract::kRankHung, .message = "they wait"});
  world.settle();
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUnknown);
  EXPECT_EQ(world.status().restarts, 1);
}

TEST(AHungGang, WhoseRankAnswersButDoesNothingIsCounted) {
  test::World world = a_world_with_a_limit();
  auto busy = silent(9);
  busy.silentSeconds = 1;
  tell(world, 0, {waits(0)});
  tell(world, 1, {busy});
  world.fail_rank(
      1, {.failureClass = FailureClass::kInfrastructure, .reason = contract::kRankHung, .message = "rank 9 does nothing"});
  world.settle();
  EXPECT_EQ(world.status().failure->rank, 9);
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUnknown);
  EXPECT_EQ(world.status().restarts, 1) << "else it would hang again and again for nothing";
}

TEST(AHungGang, IsNotExplainedByRanksAndPeersThatItDoesNotHave) {
  test::World world = a_world_with_a_limit();
  auto wild = waits(0), far = waits(1'000'000), below = waits(-7);
  wild.call->peer = -1;
  far.call->peer = 2'000'000;
  tell(world, 0, {wild, far, below});
  world.fail_rank(0, {.failureClass = FailureClass::kInfrastructure, .reason = contract::kRankHung, .message = "they wait"});
  world.settle();
  EXPECT_EQ(world.status().failure->reason, "RankHung");
  EXPECT_EQ(world.status().uncountedRestarts, 1);
}

TEST(ALostPeer, IsNotTakenForAHangUnlessRanksHadWaitedForLong) {
  for (const double seconds : {1.0, 300.0}) {
    test::World world = a_running_world();
    auto one = waits(0);
    one.call->seconds = seconds;
    tell(world, 0, {one});
    tell(world, 1, {silent(9)});
    world.fail_rank(0, {.failureClass = FailureClass::kTransient, .reason = "PeerLost", .message = "Gloo all_reduce"}, true);
    world.fail_rank(1, {.failureClass = FailureClass::kTransient, .reason = "PeerLost", .message = "Gloo all_reduce"}, true);
    world.settle();
    EXPECT_EQ(world.status().failure->reason, seconds > 30 ? "RankHung" : "PeerLost");
  }
}

}  // namespace
}  // namespace trainyard::decide
