#include "controller/decide/starting.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::ConditionStatus;
using test::make_job;
using test::World;

TEST(AGang, WhoseImageCannotBePulledSaysSoAtOnceWithTheKubeletsWords) {
  World world = a_world();
  world.kubelets_work = false;
  world.settle();
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.worker->waiting_reason = "ErrImagePull";
    pod.worker->waiting_message = "nowhere.test/none:1: not found";
  });
  world.settle();
  EXPECT_EQ(world.condition("Running").reason, "ImageNotPulled");
  EXPECT_NE(world.condition("Running").message.find("nowhere.test/none:1"), std::string::npos);
  const auto writes = world.status_writes;
  world.change_pod("a-1-1", [](Pod& pod) { pod.worker->waiting_reason = "ImagePullBackOff"; });
  world.settle();
  EXPECT_EQ(world.status_writes, writes) << "the kubelet says both by turns";
  EXPECT_TRUE(world.has_event("ImageNotPulled"));
}

TEST(AGang, ThatDoesNotComeUpInTimeIsPlacedAnewAndThatCounts) {
  World world = a_world();
  world.kubelets_work = false;
  world.settle();
  world.pass(599);
  EXPECT_EQ(world.status().restarts, 0);
  world.kubelets_work = true;
  world.change_pod("a-0-1", [](Pod& pod) { pod.worker->waiting_reason = "ContainerCreating"; });
  world.change_pod("a-1-1", [](Pod& pod) { pod.worker->waiting_reason = "ContainerCreating"; });
  world.pass(1);
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->reason, "StartTimeout");
  EXPECT_TRUE(world.pods().empty());
  world.pass(10);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
}

TEST(AGang, WhoseContainersAreNotCreatedForHalfAMinuteSaysWhereTheCauseIsToBeFound) {
  World world = a_world();
  world.kubelets_work = false;
  world.settle();
  for (const char* pod : {"a-0-1", "a-1-1"}) {
    world.change_pod(pod, [](Pod& waiting) { waiting.worker->waiting_reason = "ContainerCreating"; });
  }
  world.pass(20);
  EXPECT_EQ(world.condition("Running").message, "0 of 2 workers are up");
  world.pass(10);
  EXPECT_EQ(
      world.condition("Running").message,
      "0 of 2 workers are up; " + name_of_worker({.index = 0, .pod = world.cluster.pod({"default", "a-0-1"})}) +
          " waits: ContainerCreating; `kubectl -n default events --for pod/a-0-1` says for what: a Secret, ConfigMap or volume "
          "that is missing, or a large image");
}

TEST(AnAgent, ThatIsHiddenGivesAConditionThatNamesTheNetworkPolicy) {
  World world = a_running_world();
  world.silence(1);
  world.pass(14);
  EXPECT_EQ(world.condition("Running").reason, "Training");
  world.pass(1);
  EXPECT_EQ(world.condition("Running").reason, "AgentUnreachable");
  for (const char* word : {"NetworkPolic", "8471", "trainyard-system", "connect: timed out", "worker 1"}) {
    EXPECT_NE(world.condition("Running").message.find(word), std::string::npos) << word;
  }
  world.hear(1);
  world.settle();
  EXPECT_EQ(world.condition("Running").reason, "Training");
  EXPECT_EQ(world.status().restarts, 0);
}

TEST(AnAgent, ThatHasAnotherKeyIsNotTakenForOneThatANetworkPolicyHides) {
  World world = a_running_world();
  world.silence(1);
  auto view = *world.cluster.agent(world.pod(1).uid);
  view.other_key = true;
  world.cluster.put_agent(world.pod(1).uid, view);
  world.pass(600);
  EXPECT_EQ(world.condition("Running").reason, "OtherControllerKey");
  EXPECT_EQ(world.condition("Running").message.find("NetworkPolic"), std::string::npos);
  EXPECT_NE(world.condition("Running").message.find("the controller's key is not the one that worker 1"), std::string::npos);
  EXPECT_TRUE(world.has_event("OtherControllerKey"));
  EXPECT_EQ(world.status().restarts, 0) << "it trains";
}

TEST(AnAssignment, ThatAnAgentRefusesIsToldAndHasTheStartTimeout) {
  World world = a_world();
  world.settle();
  const auto refuse = [&world](int worker) {
    auto view = *world.cluster.agent(world.pod(worker).uid);
    view.state = contract::State{.version = 1, .podUid = world.pod(worker).uid};
    view.error = "PUT /v1/assignment: 400 the body is no assignment";
    world.cluster.put_agent(world.pod(worker).uid, view);
  };
  refuse(1);
  world.decide_once();
  EXPECT_EQ(world.condition("Running").reason, "AssignmentRefused");
  EXPECT_NE(world.condition("Running").message.find("400 the body is no assignment"), std::string::npos);
  world.now = 599;
  world.decide_once();
  EXPECT_EQ(world.status().restarts, 0);
  world.now = 600;
  world.decide_once();
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->reason, "StartTimeout");
  EXPECT_NE(world.status().failure->message.find("400 the body is no assignment"), std::string::npos);
}

TEST(Progress, IsWrittenAtMostEveryFiveSeconds) {
  World world = a_running_world();
  const auto writes = world.status_writes;
  for (int step = 6; step < 16; ++step) {
    world.train(step);
    world.pass(1);
  }
  EXPECT_EQ(world.status_writes, writes + 2);
  EXPECT_EQ(world.status().progress->step, 15);
}

TEST(Progress, IsWrittenLessOftenWhereManyJobsRunOrWait) {
  World world = a_running_world();
  for (int i = 0; i < 399; ++i) world.add(make_job("other-" + std::to_string(i), 1, 9));  // there is no such node
  world.pass(1);
  const auto writes = world.status_writes;
  world.train(6);
  world.pass(18);
  EXPECT_EQ(world.status_writes, writes);
  world.pass(1);
  EXPECT_EQ(world.status_writes, writes + 1) << "400 jobs, 20 writes a second";
}

TEST(Progress, ThatStopsIsTold) {
  World world = a_running_world();
  world.pass(599);
  EXPECT_TRUE(is(world, "Progressing", ConditionStatus::kTrue));
  world.pass(1);
  EXPECT_EQ(world.condition("Progressing").reason, "NoProgress");
  EXPECT_EQ(world.status().restarts, 0) << "a hang is only reported";
}

TEST(Progress, IsNotTakenFromAnAnswerThatIsOlderThanTheStatus) {
  World world = a_running_world();
  const contract::State old = world.said(0);
  world.now = 6;
  world.train(30);
  world.settle();
  world.say(0, [&old](contract::State& state) { state = old; });
  world.pass(10);
  EXPECT_EQ(world.status().progress->step, 30);
}

TEST(Progress, GoesBackToTheCheckpointAfterARestart) {
  World world = a_running_world();
  world.fail_rank(1, {.reason = "RankCrashed", .message = "crash"});
  world.settle();
  world.train(2);
  world.settle();
  EXPECT_EQ(world.status().progress->step, 2);
}

TEST(ANotice, BecomesAnEventOnce) {
  World world = a_running_world();
  world.say(0, [](contract::State& state) { state.notices.push_back({1, true, "CheckpointCorrupt", "step-20 is damaged"}); });
  world.settle();
  world.pass(60);
  EXPECT_EQ(std::count_if(world.events.begin(), world.events.end(),
                          [](const Event& event) { return event.reason == "CheckpointCorrupt"; }),
            1);
}

TEST(AGang, ThatWentBackToAnOlderCheckpointSaysSoWithTheReasonUntilItResumesAnew) {
  World world = a_running_world();
  const auto say = [&](const std::string& reason, const std::string& message) {
    world.say(0, [&](contract::State& state) {
      if (!state.progress) state.progress.emplace();
      state.notices.push_back({std::ssize(state.notices) + 1, reason == "CheckpointCorrupt", reason, message});
    });
  };
  const std::string before = world.condition("Running").message;
  say("CheckpointCorrupt", "step-30 lacks a file");
  say("CheckpointCorrupt", "step-20 is damaged");
  say("Resumed", "training goes on from step 10");
  world.settle();
  world.pass(10);  // words alone wait for the next progress
  EXPECT_EQ(world.condition("Running").status, ConditionStatus::kTrue);
  EXPECT_EQ(
      world.condition("Running").message,
      before +
          "; training goes on from step 10, since newer checkpoints are not whole; step-30 lacks a file; step-20 is damaged");
  say("Resumed", "training goes on from step 15");
  world.settle();
  world.pass(10);
  EXPECT_EQ(world.condition("Running").message, before);
}

}  // namespace
}  // namespace trainyard::decide
