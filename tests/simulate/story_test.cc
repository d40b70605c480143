// One thing at a time goes right or wrong in a job's life, and the whole system does what a person would expect.

#include <csignal>
#include <iostream>

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

TEST_F(Story, AJobRunsToItsEnd) {
  world.apply({.name = "a"});
  expect_phase("a", Phase::kSucceeded);
  const auto status = world.status("a");
  EXPECT_EQ(status.progress->step, 20);
  EXPECT_EQ(status.checkpoint->step, 20);
  EXPECT_EQ(status.restarts, 0);
  EXPECT_EQ(status.generation, 1);
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.live_pods("a"), 0);
  EXPECT_GE(world.api.size(test::kEvents), 3u);
}

TEST_F(Story, ACrashedRankRestartsTheGangInItsPods) {
  begin();
  ASSERT_TRUE(world.workers.crash(world.running_pods("a").front(), 0, SIGSEGV));
  expect_phase("a", Phase::kSucceeded);
  const auto status = world.status("a");
  EXPECT_EQ(status.restarts, 1);
  EXPECT_EQ(status.generation, 2);
  EXPECT_EQ(status.failure->signal, "SIGSEGV");
  EXPECT_EQ(pods_made, 2);
}

TEST_F(Story, ALostNodesWorkersAreReplacedElsewhere) {
  begin();
  const std::string lost = node_of("a");
  world.kubelets.kill(lost);
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").uncountedRestarts, 1);
  EXPECT_EQ(world.status("a").failure->node, lost);
}

TEST_F(Story, ABrokenGpusWorkerGoesElsewhereAloneAndUncounted) {
  begin();
  const std::string left = node_of("a"), pod = world.running_pods("a").front();
  ASSERT_TRUE(world.workers.crash(pod, contract::kEngineErrorExitCode, 0, "CUDA error: uncorrectable ECC error encountered"));
  expect_phase("a", Phase::kSucceeded);
  const auto status = world.status("a");
  EXPECT_EQ(status.restarts, 0);
  EXPECT_EQ(status.uncountedRestarts, 1);
  ASSERT_EQ(status.avoidedNodes.size(), 1u);
  EXPECT_EQ(status.avoidedNodes[0].reason, "GpuFailed");
  EXPECT_EQ(status.failure->lastLines, std::vector<std::string>{"CUDA error: uncorrectable ECC error encountered"});
}

TEST_F(Story, ATaintedNodeIsLeftAtACheckpointWithinSeconds) {
  begin({.name = "a", .steps = 200, .checkpoint_every = 190});
  const std::string left = node_of("a");
  const auto tainted = world.time.uptime();
  const auto step = world.workers.truth(world.uid("a")).step;
  const int before = pods_made;
  world.api.edit(test::kNodes, {"", left}, [](Json& node) {
    node["spec"]["taints"] = {{{"key", "example.com/maintenance"}, {"effect", "NoExecute"}}};
  });
  ASSERT_TRUE(world.time.run_until([&] { return pods_made > before; }, seconds(60)));
  std::cout << "from the taint to the pod in its place: " << (world.time.uptime() - tainted).count() << " ms\n";
  EXPECT_LE(world.time.uptime() - tainted, milliseconds(2'000)) << "checkpoint included";
  EXPECT_GE(world.workers.truth(world.uid("a")).checkpoint, step) << "nothing was lost";
  expect_phase("a", Phase::kSucceeded, seconds(400));
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").failure->reason, "NodeDrained");
}

TEST_F(Story, ADeletedPodIsReplacedAlone) {
  begin();
  world.api.remove(test::kPodsPath, pod_of("a"));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").uncountedRestarts, 1);
  EXPECT_EQ(pods_made, 3);
}

TEST_F(Story, ASuspendedJobKeepsItsStepAndGivesItsNodesBack) {
  begin({.name = "a", .steps = 60, .checkpoint_every = 50});
  const auto step = world.workers.truth(world.uid("a")).step;
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended);
  EXPECT_EQ(world.live_pods("a"), 0);
  ASSERT_TRUE(world.status("a").checkpoint) << describe(world, "a");
  EXPECT_GE(world.status("a").checkpoint->step, step);
  EXPECT_EQ(world.status("a").checkpoint->step, world.workers.truth(world.uid("a")).checkpoint);
  EXPECT_EQ(world.status("a").progress->step, world.workers.truth(world.uid("a")).step);
  world.set_suspend("a", false);
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").progress->step, 60);
}

TEST_F(Story, ASuspensionDoesNotWaitForANodeThatIsDead) {
  begin({.name = "a", .steps = 60});
  world.kubelets.kill(node_of("a"));
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended);
  EXPECT_GT(world.live_pods("a"), 0) << "nobody tells of its end";
  world.set_suspend("a", false);
  expect_phase("a", Phase::kSucceeded);
}

TEST_F(Story, AnEditOfTheCheckpointsHoldsUpNeitherASuspensionNorTheEnd) {
  begin({.name = "a", .steps = 40, .checkpoint_every = 50});
  const auto keep = [this](int number) {
    world.api.edit(test::kJobs, job_key("a"), [number](Json& job) { job["spec"]["checkpoint"]["keep"] = number; });
  };
  keep(7);
  world.time.run_for(seconds(1));
  EXPECT_NE(condition("a", "Accepted").message.find("next restart"), std::string::npos);
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended, seconds(5));
  world.set_suspend("a", false);
  expect_phase("a", Phase::kRunning);
  EXPECT_EQ(condition("a", "Accepted").message, "the spec and its template can be run");
  keep(8);
  expect_phase("a", Phase::kSucceeded);
  world.time.run_for(seconds(2));
  EXPECT_EQ(world.live_pods("a"), 0) << "released, not deleted";
  EXPECT_EQ(world.api.size(test::kPodsPath), 2u);
}

TEST_F(Story, AUsersErrorFailsAtOnceAndSaysWhy) {
  world.apply({.name = "a"});
  world.workers.spoil(world.uid("a"), {.failureClass = contract::FailureClass::kUser,
                                       .reason = "CorpusMissing",
                                       .message = "spec.data.train[0].path: /data/train does not exist"});
  expect_phase("a", Phase::kFailed);
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(condition("a", "Failed").reason, "CorpusMissing");
}

TEST_F(Story, RestartsAreCountedUntilTheyAreUsedUp) {
  begin({.name = "a", .steps = 100, .max_restarts = 2});
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(world.workers.crash(world.running_pods("a").front(), 0, SIGKILL));
    world.time.run_for(seconds(10));
  }
  expect_phase("a", Phase::kFailed);
  EXPECT_EQ(world.status("a").restarts, 2);
  EXPECT_EQ(condition("a", "Failed").reason, "MaxRestartsExceeded");
}

TEST_F(Story, AnImageThatCannotBePulledIsToldAndForgivenWithinTheStartTimeout) {
  bool broken = true;
  world.kubelets.cannot_start = [&broken](const Json&) {
    return broken ? std::optional<std::string>("manifest unknown") : std::nullopt;
  };
  world.apply({.name = "a"});
  ASSERT_TRUE(becomes("a", "Running", "ImageNotPulled")) << describe(world, "a");
  EXPECT_NE(condition("a", "Running").message.find("manifest unknown"), std::string::npos);
  broken = false;
  expect_phase("a", Phase::kSucceeded);
}

TEST_F(Story, AnApiServerThatIsAwayForTwentySecondsLosesNothing) {
  begin({.name = "a", .steps = 60});
  world.api.outage(seconds(20));
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").progress->step, 60);
}

TEST_F(Story, ATrainingThatEndsWhileTheApiServerIsAwaySucceeds) {
  begin();
  world.api.outage(seconds(30));
  world.time.run_for(seconds(20));
  ASSERT_TRUE(world.workers.truth(world.uid("a")).finished);
  expect_phase("a", Phase::kSucceeded);
}

TEST_F(Story, ATrainingThatEndsWithoutAControllerSucceeds) {
  begin();
  world.kill_controller(0);
  world.time.run_for(seconds(200));
  world.start_controller(0);
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, AHiddenAgentIsToldWithTheNetworkPolicyToAdd) {
  begin({.name = "a", .steps = 100});
  const auto pod = world.running_pods("a").front();
  world.workers.hide(pod);
  ASSERT_TRUE(becomes("a", "Running", "AgentUnreachable")) << describe(world, "a");
  EXPECT_NE(condition("a", "Running").message.find("NetworkPolic"), std::string::npos);
  world.workers.show(pod);
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, AControllerThatReachesNoAgentForAnHourStopsNoTraining) {
  begin({.name = "a", .steps = 7'200});
  for (const auto& pod : world.running_pods("a")) world.workers.hide(pod);
  world.time.run_for(seconds(3'000));
  EXPECT_EQ(condition("a", "Running").reason, "AgentUnreachable");
  const auto& truth = world.workers.truth(world.uid("a"));
  EXPECT_GT(truth.step, 5'900) << "it trained on";
  expect_phase("a", Phase::kSucceeded, seconds(1'000));  // by the last words of agents that nobody heard
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(truth.generations_run, 1);
}

TEST_F(Story, AWorkerThatIsHiddenWhenAnotherCrashesIsReplaced) {
  begin({.name = "a", .steps = 100});
  const auto pods = world.running_pods("a");
  world.workers.hide(pods.front());
  world.time.run_for(seconds(5));
  ASSERT_TRUE(world.workers.crash(pods.back(), 0, SIGKILL));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 1);
  EXPECT_EQ(pods_made, 3);
}

TEST_F(Story, ADeletedJobLeavesNothingBehind) {
  begin({.name = "a", .steps = 1000});
  world.api.remove(test::kJobs, job_key("a"));
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.live_pods("a"), 0);
  EXPECT_EQ(world.api.size(test::kSecrets), 0u);
  const int before = world.api.num_requests;
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.api.num_requests, before);
}

TEST_F(Story, AJobOfTheSameNameStartsAfreshWhileTheOldOnesPodsStillEnd) {
  begin({.name = "a", .steps = 1000});
  world.api.remove(test::kJobs, job_key("a"));
  world.apply({.name = "a", .steps = 10});
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").progress->step, 10);
}

TEST_F(Story, AnotherControllerTakesOverFromOneThatDied) {
  world.start_controller(1);
  begin({.name = "a", .steps = 100});
  const int leader = world.leader();
  world.kill_controller(leader);
  expect_phase("a", Phase::kSucceeded);
  EXPECT_NE(world.leader(), leader);
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, AnotherControllerKeyStopsNoTrainingAndNewWorkersGetIt) {
  begin({.name = "a", .steps = 2000});
  begin({.name = "b", .steps = 200});
  world.kill_controller(0);
  world.controller_key = "another key";
  world.start_controller(0);
  EXPECT_TRUE(becomes("a", "Running", "OtherControllerKey"));
  expect_phase("b", Phase::kSucceeded, seconds(300));  // by its last word
  world.time.run_for(seconds(200));
  EXPECT_EQ(world.status("a").restarts, 0);
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended, seconds(300));
  world.set_suspend("a", false);
  EXPECT_TRUE(becomes("a", "Running", "Training", seconds(120)));
  EXPECT_GT(world.status("a").progress->step, 400) << "it wrote a checkpoint when it was suspended";
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, ARankThatCrashesUnderAnotherControllerKeyIsKnownByItsAgentsLastWord) {
  begin({.name = "a", .steps = 300});
  world.kill_controller(0);
  world.controller_key = "another key";
  world.start_controller(0);
  EXPECT_TRUE(becomes("a", "Running", "OtherControllerKey"));
  ASSERT_TRUE(world.workers.crash(world.running_pods("a").front(), 0, SIGSEGV));
  EXPECT_TRUE(becomes("a", "Running", "Training", seconds(900))) << "agents that nobody asks end after ten minutes";
  EXPECT_EQ(world.status("a").restarts, 1);
  expect_phase("a", Phase::kSucceeded, seconds(300));
}

TEST_F(Story, ALeaderThatWasFrozenDoesNoHarmWhenItWakes) {
  world.start_controller(1);
  begin({.name = "a", .steps = 150});
  world.controller(world.leader())->freeze(seconds(40));
  world.time.run_for(seconds(30));
  ASSERT_TRUE(world.workers.crash(world.running_pods("a").front(), 0, SIGKILL));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 1);
}

TEST_F(Story, ARunningJobWritesItsStatusNoMoreOftenThanItsBudget) {
  begin({.name = "a", .steps = 400, .checkpoint_every = 1000});
  const int before = world.api.num_requests;
  world.time.run_for(seconds(100));
  EXPECT_LE(world.api.num_requests - before, 100 / 5 + 2);
  EXPECT_GE(world.api.num_requests - before, 100 / 5 - 2);
}

}  // namespace
}  // namespace trainyard::simulate
