// One thing at a time goes right or wrong, and the whole system does what a person would expect.

#include <csignal>

#include <gtest/gtest.h>

#include "controller/cache/decode.h"
#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {
namespace {

using contract::Phase;

struct Story : testing::Test {
  World world{1};
  Invariants invariants{world};
  int pods_made = 0;

  void SetUp() override {
    world.add_nodes(3, 8, 0);
    world.start_controller(0);
    world.api.on_change(test::kPodsPath, [this](const auto& change) { pods_made += change.type == kube::EventType::kAdded; });
  }
  void TearDown() override { EXPECT_EQ(invariants.violations(), std::vector<std::string>{}); }
  void expect_phase(const std::string& job, Phase phase, seconds limit = seconds(120)) {
    EXPECT_TRUE(world.run_until_phase(job, phase, limit)) << "no " << contract::name_of(phase) << "; " << describe(world, job);
  }
  /// Applies a job of two workers and waits until it trains.
  void begin(const JobShape& shape = {.name = "a"}) {
    world.apply(shape);
    expect_phase(shape.name, Phase::kRunning);
    world.time.run_for(seconds(4));
  }
  std::string node_of(const std::string& job) {
    for (const auto& object : world.api.list(test::kPodsPath)) {
      const auto pod = cache::decode_pod(*object);
      if (pod->worker && pod->worker->job == job && !pod->is_finished()) return pod->node;
    }
    return "";
  }
  ObjectKey pod_of(const std::string& job) {
    for (const auto& object : world.api.list(test::kPodsPath)) {
      const auto pod = cache::decode_pod(*object);
      if (pod->worker && pod->worker->job == job && !pod->is_finished() && !pod->deletion_time) return pod->key;
    }
    return {};
  }
  contract::Condition condition(const std::string& job, const std::string& type) {
    for (const auto& found : world.status(job).conditions) {
      if (found.type == type) return found;
    }
    return {};
  }
  bool becomes(const std::string& job, const std::string& type, const std::string& reason, seconds limit = seconds(60)) {
    return world.time.run_until([&] { return condition(job, type).reason == reason; }, limit);
  }
  int events(const std::string& reason) {
    int count = 0;
    for (const auto& event : world.api.list(test::kEvents)) count += (*event)["reason"] == reason;
    return count;
  }
};

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
  EXPECT_GE(world.api.size(test::kEvents), 4u);
}

TEST_F(Story, AJobIsPlacedWithinASecond) {
  world.time.run_for(seconds(5));
  world.apply({.name = "a"});
  EXPECT_TRUE(world.time.run_until([this] { return pods_made == 2; }, seconds(1)));
}

TEST_F(Story, WhyAJobIsNotPlacedIsToldWithinASecond) {
  world.apply({.name = "full", .workers = 24, .steps = 10'000});
  expect_phase("full", Phase::kRunning);
  world.apply({.name = "waits", .workers = 1});
  EXPECT_TRUE(becomes("waits", "Placed", "Unschedulable", seconds(1))) << describe(world, "waits");
  EXPECT_EQ(
      condition("waits", "Placed").message,
      "needs 1 worker of 1 cpu and 1Gi memory; 0 fit now. Of 3 nodes, 3 are too full: cpu is held by job default/full (24).");
  world.apply({.name = "too-large", .workers = 25});
  EXPECT_TRUE(becomes("too-large", "Placed", "NeverFits", seconds(1))) << describe(world, "too-large");
  world.apply({.name = "unclaimed", .claim = "corpus"});
  EXPECT_TRUE(becomes("unclaimed", "Placed", "ClaimMissing", seconds(1))) << describe(world, "unclaimed");
}

TEST_F(Story, AJobStartsAsSoonAsItsClaimIsBound) {
  world.apply({.name = "a", .claim = "checkpoints"});
  ASSERT_TRUE(becomes("a", "Placed", "ClaimMissing")) << describe(world, "a");
  world.kubelets.add_claim("checkpoints");
  ASSERT_TRUE(becomes("a", "Placed", "ClaimUnbound", seconds(1))) << describe(world, "a");
  world.time.run_for(seconds(700));
  EXPECT_EQ(pods_made, 0);
  world.kubelets.bind_claim({"default", "checkpoints"});
  EXPECT_TRUE(world.time.run_until([this] { return pods_made == 2; }, seconds(1)));
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, AClaimThatWaitsForItsFirstConsumerIsForBindingScheduler) {
  world.kubelets.add_claim("checkpoints", test::kWaitsForConsumer);
  world.apply({.name = "a", .binding = contract::Binding::kScheduler, .claim = "checkpoints"});
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, AGangIsPlacedByWhatAdmissionMakesOfItsPods) {
  world.api.admit_pod = [](Json& pod) {  // a LimitRange's defaults and a RuntimeClass's overhead
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "4";
    pod["spec"]["overhead"] = {{"cpu", "500m"}};
  };
  world.apply({.name = "a", .workers = 3});
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(pods_made, 3) << "one a node; two would not fit, and their kubelet would reject them again and again";
}

TEST_F(Story, AGangThatAdmissionMakesLargerThanItWasIsCountedAnew) {
  world.apply({.name = "a", .workers = 3, .claim = "checkpoints"});
  ASSERT_TRUE(becomes("a", "Placed", "ClaimMissing"));
  world.api.admit_pod = [](Json& pod) { pod["spec"]["overhead"] = {{"cpu", "4"}}; };
  invariants.admission_changes = true;
  world.kubelets.add_claim("checkpoints");
  world.kubelets.bind_claim({"default", "checkpoints"});
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
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
  EXPECT_EQ(world.status("a").restarts, 1);
  EXPECT_EQ(world.status("a").failure->node, lost);
}

TEST_F(Story, ADeletedPodIsReplacedAlone) {
  begin();
  world.api.remove(test::kPodsPath, pod_of("a"));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 1);
  EXPECT_EQ(pods_made, 3);
}

TEST_F(Story, ASuspendedJobKeepsItsStepAndGivesItsNodesBack) {
  begin({.name = "a", .steps = 60, .checkpoint_every = 50});
  const auto step = world.workers.truth(world.uid("a")).step;
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended);
  EXPECT_EQ(world.live_pods("a"), 0);
  EXPECT_GE(world.status("a").checkpoint->step, step);
  world.set_suspend("a", false);
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").progress->step, 60);
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

TEST_F(Story, ALostRaceForANodeCostsNoRestart) {
  world.kubelets.reject_next = 1;
  world.apply({.name = "a"});
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
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

TEST_F(Story, ATemplateThatTheServerRefusesIsToldInItsWords) {
  world.api.refuse_pod = [](const Json&) { return std::optional<std::string>("violates PodSecurity restricted"); };
  world.apply({.name = "a"});
  ASSERT_TRUE(world.time.run_until([this] { return condition("a", "Accepted").status == contract::ConditionStatus::kFalse; },
                                   seconds(10)));
  EXPECT_NE(condition("a", "Accepted").message.find("violates PodSecurity restricted"), std::string::npos);
  const int before = world.api.num_requests;
  world.time.run_for(seconds(30));
  EXPECT_LE(world.api.num_requests - before, 3);
  EXPECT_EQ(pods_made, 0);
}

TEST_F(Story, PodsThatAQuotaRefusesAreTriedAgainWithPatienceAndToldOnce) {
  bool full = true;
  world.api.refuse_pod = [&full](const Json& pod) {
    return full && pod.contains("/spec/nodeName"_json_pointer) ? std::optional<std::string>("exceeded quota") : std::nullopt;
  };
  world.apply({.name = "a"});
  world.time.run_for(seconds(20));
  EXPECT_EQ(pods_made, 0);
  EXPECT_EQ(events("Refused"), 2);  // one a pod
  EXPECT_LE(world.api.num_requests, 60);
  full = false;
  expect_phase("a", Phase::kSucceeded, seconds(300));
}

TEST_F(Story, TwoGangsForOneRoomTakeTurns) {
  world.apply({.name = "a", .workers = 24});
  world.time.run_for(seconds(2));
  world.apply({.name = "b", .workers = 24});
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("b").restarts, 0);
  expect_phase("b", Phase::kSucceeded);
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
