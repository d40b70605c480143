// The same of jobs that run any program: see story_test.cc.

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

JobShape custom(std::int64_t steps = 20) { return {.name = "a", .steps = steps, .engine = contract::Engine::kCustom}; }

TEST_F(Story, ACustomJobRunsToItsEndWithAServiceAndWithoutASecret) {
  world.apply(custom());
  expect_phase("a", Phase::kRunning);
  EXPECT_EQ(world.api.size(test::kServices), 1u);
  EXPECT_EQ(world.api.size(test::kSecrets), 0u);
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").generation, 1);
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.live_pods("a"), 0);
  EXPECT_EQ(world.api.size(test::kPodsPath), 2u) << "they stay for their logs";
  world.api.remove(test::kJobs, job_key("a"));
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.api.size(test::kServices), 0u);
  EXPECT_EQ(world.api.size(test::kPodsPath), 0u);
}

TEST_F(Story, ACustomJobsCrashIsToldByItsFirstCauseAndStartsTheGangAnew) {
  begin(custom(60));
  const auto pods = world.running_pods("a");
  ASSERT_TRUE(world.programs.crash(pods.back(), 7));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  const auto status = world.status("a");
  EXPECT_EQ(status.restarts, 1);
  EXPECT_EQ(status.generation, 2);
  EXPECT_EQ(status.failure->exitCode, 7) << "not the 1 of the other, whose connection broke";
  EXPECT_EQ(pods_made, 4);
}

TEST_F(Story, AGangIsToldByAWorkloadAndAPodGroupWhereTheServerHasThemAndTheyGoWithTheJob) {
  world.kill_controller(0);
  world.api.has_pod_groups = true;
  world.start_controller(0);
  begin(custom(60));
  EXPECT_EQ(world.api.size(test::kPodGroups), 1u);
  ASSERT_TRUE(world.programs.crash(world.running_pods("a").back(), 7));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.api.size(test::kWorkloads), 1u) << "one for all generations";
  EXPECT_EQ(world.api.size(test::kPodGroups), 1u);
  world.api.remove(test::kJobs, job_key("a"));
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.api.size(test::kPodGroups), 0u);
  EXPECT_EQ(world.api.size(test::kWorkloads), 0u);
}

TEST_F(Story, ACustomJobLeavesALostNode) {
  begin(custom(60));
  const std::string lost = node_of("a");
  world.kubelets.kill(lost);
  expect_phase("a", Phase::kSucceeded, seconds(400));
  EXPECT_GE(world.status("a").uncountedRestarts, 1);
}

TEST_F(Story, ACustomJobIsSuspendedWithinThePodsGraceAndStartsAgain) {
  begin(custom(60));
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended, seconds(40));
  EXPECT_EQ(world.live_pods("a"), 0);
  world.set_suspend("a", false);
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, ACustomJobThatEndsWithoutAControllerSucceeds) {
  begin(custom(30));
  world.kill_controller(0);
  world.time.run_for(seconds(200));
  world.start_controller(0);
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
}

}  // namespace
}  // namespace trainyard::simulate
