#include "controller/decide/ending.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::FailureClass;
using contract::Phase;
using test::World;

TEST(AJob, FailsAtItsDeadline) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.activeDeadlineSeconds = 100; });
  world.settle();
  const auto plan = plan_job(world.cluster, world.job().key, test::at(1));
  EXPECT_EQ(plan.look_again, std::chrono::seconds(99));
  world.pass(100);
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.condition("Failed").reason, "DeadlineExceeded");
}

TEST(AFinishedJob, IsDeletedWhenItsTimeIsOver) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.ttlSecondsAfterFinished = 50; });
  world.finish();
  world.settle();
  world.pass(49);
  EXPECT_NE(world.cluster.job({"default", "a"}), nullptr);
  world.pass(1);
  EXPECT_EQ(world.cluster.job({"default", "a"}), nullptr);
}

TEST(AFinishedJob, IsKeptForAsLongAsTheSchemaCanSay) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) {
    spec.lifecycle.ttlSecondsAfterFinished = 3153600000;
    spec.lifecycle.activeDeadlineSeconds = 3153600000;
  });
  world.finish();
  world.settle();
  world.pass(3600);
  EXPECT_NE(world.cluster.job({"default", "a"}), nullptr);
}

TEST(AFinishedJob, LosesPodsThatTheReleaseDoesNotReach) {
  World world = a_running_world();
  world.silence(1);
  world.pass(1);
  world.fail_rank(0, {.failureClass = FailureClass::kUser, .reason = "CorpusMissing", .message = "no"});
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_TRUE(world.pods().empty());
}

TEST(AFinishedJob, KeepsPodsWhoseReleasedAgentsFallSilentBeforeTheirKubeletSaysThatTheyCompleted) {
  World world = a_running_world();
  world.finish();
  ASSERT_TRUE(world.decide_once());  // the end is written
  world.decide_once();
  world.silence(0);
  world.silence(1);
  while (world.decide_once()) {
  }
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
  EXPECT_TRUE(world.deleted_pods.empty());
  world.now += 30;  // one that never completes goes all the same
  world.decide_once();
  EXPECT_EQ(world.deleted_pods.size(), 2u);
}

TEST(AFinishedJob, WantsNothingMore) {
  World world = a_running_world();
  world.finish();
  world.settle();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
  EXPECT_EQ(world.status().observedGeneration, 2);
}

}  // namespace
}  // namespace trainyard::decide
