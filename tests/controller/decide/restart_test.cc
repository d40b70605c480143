#include "controller/decide/restart.h"

#include <gtest/gtest.h>

#include "crds/contract/sparse.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;
using contract::FailureClass;
using contract::Phase;
using test::World;

TEST(ACrashedRank, IsRestartedInItsPodUnderTheNextGeneration) {
  World world = a_running_world();
  world.fail_rank(1, {.failureClass = FailureClass::kUnknown,
                      .rank = 9,
                      .signal = "SIGKILL",
                      .reason = "RankCrashed",
                      .message = "rank 9 died"});
  world.settle();
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().phase, Phase::kRestarting);
  EXPECT_EQ(world.status().failure->rank, 9);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  EXPECT_EQ(world.said(0).generation, 2);
  EXPECT_EQ(world.said(0).phase, AgentPhase::kStarting);
  EXPECT_TRUE(world.has_event("Restarting"));
  world.train(6);
  world.pass(5);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().restarts, 1);
}

TEST(TheFirstCause, IsTheOneThatDoesNotFollowFromAnother) {
  World world = a_running_world();
  world.fail_rank(0, {.failureClass = FailureClass::kTransient, .reason = "PeerLost", .message = "lost rank 9"}, true);
  world.settle();
  EXPECT_EQ(world.status().restarts, 0) << "worth waiting for";
  world.now += 2;
  world.fail_rank(1, {.failureClass = FailureClass::kUnknown, .rank = 9, .reason = "RankCrashed", .message = "rank 9 died"});
  world.settle();
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->reason, "RankCrashed");
}

TEST(TheFirstCause, IsNotWaitedForLongNorWhenAllHaveFailed) {
  World world = a_running_world();
  world.fail_rank(0, {.reason = "PeerLost", .message = "lost"}, true);
  world.pass(10);
  EXPECT_EQ(world.status().restarts, 1);
  World all = a_running_world();
  all.fail_rank(0, {.reason = "PeerLost", .message = "lost"}, true);
  all.fail_rank(1, {.reason = "PeerLost", .message = "lost"}, true);
  all.settle();
  EXPECT_EQ(all.status().restarts, 1);
}

TEST(AUserError, FailsTheJobAtOnce) {
  World world = a_running_world();
  world.fail_rank(0, {.failureClass = FailureClass::kUser, .reason = "CorpusMissing", .message = "/data/nothing does not exist"});
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.condition("Failed").reason, "CorpusMissing");
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUser);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_TRUE(world.pods().empty());
}

TEST(AJob, WhoseWorkersAreOfAnOlderReleaseThanItsFieldsFailsAndNamesThemAndTheImage) {
  World world = a_world();
  world.settle();
  world.fail_rank(1, {.failureClass = FailureClass::kUser,
                      .worker = 1,
                      .reason = contract::kWorkerOutdated,
                      .message = "does not know:\nspec.training.sharpness: unknown field\n"});
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.condition("Failed").reason, contract::kWorkerOutdated);
  EXPECT_EQ(world.condition("Failed").message, "does not know:\nspec.training.sharpness: unknown field\nthe workers' image is " +
                                                   world.cluster.settings.default_image);
  EXPECT_EQ(world.status().restarts, 0);
}

TEST(AJob, FailsWhenItsRestartsAreUsedUp) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 2; });
  world.settle();
  for (int i = 0; i < 3; ++i) {
    world.fail_rank(0, {.reason = "RankCrashed", .message = "crash"});
    world.pass(5);
  }
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.status().restarts, 2);
  EXPECT_EQ(world.condition("Failed").reason, "MaxRestartsExceeded");
  EXPECT_NE(world.condition("Failed").message.find("crash"), std::string::npos);
}

TEST(AGang, ThatFailsBeforeItsFirstStepAgainAndAgainIsRestartedEverMoreSlowly) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 100; });
  world.settle();
  for (; world.now < 120; world.pass(0.5)) {
    if (world.said(0).phase == AgentPhase::kStarting) world.fail_rank(0, {.reason = "RankCrashed", .message = "crash"});
  }
  EXPECT_GE(world.status().restarts, 7);
  EXPECT_LE(world.status().restarts, 12);
  world.pass(30);
  world.train(1);
  world.settle();
  world.fail_rank(0, {.reason = "RankCrashed", .message = "crash"});
  const auto before = world.status().restarts;
  world.settle();
  EXPECT_EQ(world.status().restarts, before + 1) << "a gang that trained is restarted at once";
}

}  // namespace
}  // namespace trainyard::decide
