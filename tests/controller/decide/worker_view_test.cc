#include "controller/decide/worker_view.h"

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;
using contract::Failure;
using contract::State;

/// A job of one worker at generation 3, whose pod runs on node-0, and whose agent answers.
struct OneWorker {
  Cluster cluster = test::ClusterBuilder{}.racks(1).nodes_per_rack(1).build();
  Job job = test::make_job("a", 1);
  Pod pod{.key = {"default", "a-0-2"}, .uid = "u", .node = "node-0", .phase = PodPhase::kRunning, .created = test::at(0)};
  AgentView agent{
      .state = State{.podUid = "u", .generation = 3, .phase = AgentPhase::kRunning}, .reachable = true, .since = test::at(0)};

  OneWorker() {
    job.status.generation = 3;
    pod.worker =
        WorkerPod{.job = "a", .job_uid = job.uid, .worker = 0, .generation = 2, .ip = "10.0.0.1", .container_running = true};
  }
  GangView gang(double now, bool asked = true) {
    cluster.put(job);
    cluster.put(pod);
    if (asked) cluster.put_agent("u", agent);
    return view_gang(cluster, job, test::at(now));
  }
  Worker worker(double now = 1, bool asked = true) { return gang(now, asked).workers.at(0); }
};

TEST(AWorker, IsWhatItsAgentSaysOfThePresentGeneration) {
  for (const auto& [phase, state] : std::map<AgentPhase, WorkerState>{{AgentPhase::kStarting, WorkerState::kUp},
                                                                      {AgentPhase::kRunning, WorkerState::kUp},
                                                                      {AgentPhase::kStopped, WorkerState::kStopped},
                                                                      {AgentPhase::kSucceeded, WorkerState::kSucceeded},
                                                                      {AgentPhase::kFailed, WorkerState::kFailed}}) {
    OneWorker scene;
    scene.agent.state->phase = phase;
    EXPECT_EQ(scene.worker().state, state) << contract::name_of(phase);
    EXPECT_TRUE(scene.worker().reusable);
    scene.agent.state->generation = 2;
    EXPECT_EQ(scene.worker().state, WorkerState::kUp) << "what was said of the last generation is over";
  }
}

TEST(AWorker, IsMissingWithoutAPodAndComingWithoutAnAgent) {
  OneWorker scene;
  scene.cluster.put(scene.job);
  const auto gang = view_gang(scene.cluster, scene.job, test::at(0));
  EXPECT_EQ(gang.workers.at(0).state, WorkerState::kMissing);
  EXPECT_EQ(gang.workers.at(0).failure->reason, "WorkerDeleted");
  EXPECT_EQ(scene.worker(1, false).state, WorkerState::kComing);
}

TEST(AWorker, SpeaksThroughItsLastWordWhenItsPodHasEnded) {
  OneWorker scene;
  scene.pod.phase = PodPhase::kFailed;
  scene.pod.worker->last_word =
      State{.generation = 3, .phase = AgentPhase::kFailed, .failure = Failure{.reason = "RankCrashed"}, .secondary = true};
  const Worker worker = scene.worker();
  EXPECT_EQ(worker.state, WorkerState::kFailed);
  EXPECT_EQ(worker.failure->reason, "RankCrashed");
  EXPECT_TRUE(worker.secondary);
  EXPECT_FALSE(worker.reusable);
  scene.pod.worker->last_word->generation = 2;
  scene.agent.state.reset();
  EXPECT_EQ(scene.worker().state, WorkerState::kLost) << "it says nothing of this generation";
}

TEST(AWorker, IsLeavingUntilItsGraceIsLongOver) {
  OneWorker scene;
  scene.pod.deletion_time = test::at(100);
  EXPECT_EQ(scene.worker(1).state, WorkerState::kLeaving);
  EXPECT_EQ(scene.gang(1).changes_at, test::at(110));
  EXPECT_EQ(scene.worker(110).state, WorkerState::kLost);
  scene.agent.state->phase = AgentPhase::kStopped;
  EXPECT_EQ(scene.worker(1).state, WorkerState::kStopped);
  EXPECT_FALSE(scene.worker(1).reusable);
}

TEST(AWorker, IsLostWithItsNodeOnlyWhereItIsSilentToo) {
  OneWorker scene;
  scene.cluster.put(Node{.name = "node-0", .ready = false, .ready_since = test::at(50)});
  EXPECT_EQ(scene.worker(1'000).state, WorkerState::kUp);
  scene.agent.reachable = false;
  scene.agent.since = test::at(55);
  EXPECT_EQ(scene.worker(64).state, WorkerState::kUp);
  EXPECT_EQ(scene.worker(65).state, WorkerState::kLost);
  EXPECT_EQ(scene.worker(65).failure->reason, "NodeLost");
  scene.cluster.erase_node("node-0");
  EXPECT_EQ(scene.worker(64).failure->reason, "NodeGone");
}

TEST(AWorker, IsNotLostWhereOnlyItsAgentIsSilent) {
  OneWorker scene;
  scene.agent.reachable = false;
  EXPECT_EQ(scene.worker(1e6).state, WorkerState::kUp);
  EXPECT_TRUE(scene.worker(1e6).reusable);
  EXPECT_FALSE(scene.gang(1).changes_at);
}

TEST(AWorker, IsLostWhereItsAgentIsSilentAndAnotherWorkerFailed) {
  OneWorker scene;
  scene.job.spec.workers.count = 2;  // worker 1 has no pod
  scene.agent.reachable = false;
  EXPECT_EQ(scene.worker(9).state, WorkerState::kUp);
  EXPECT_EQ(scene.gang(9).changes_at, test::at(10));
  EXPECT_TRUE(scene.gang(9).awaits_silent);
  EXPECT_EQ(scene.worker(10).state, WorkerState::kLost);
  EXPECT_EQ(scene.worker(10).failure->reason, "AgentLost");
  EXPECT_FALSE(scene.gang(10).awaits_silent);
}

TEST(AWorker, WhoseRanksHaveEndedCannotBeUsedAgainWhereItsAgentIsSilent) {
  OneWorker scene;
  scene.agent.reachable = false;
  for (const auto phase : {AgentPhase::kStopped, AgentPhase::kFailed}) {
    scene.agent.state->phase = phase;
    EXPECT_TRUE(scene.worker(9).reusable);
    EXPECT_FALSE(scene.worker(10).reusable);
    EXPECT_NE(scene.worker(10).state, WorkerState::kLost) << "its word stands";
  }
}

TEST(AWorker, IsLostWithItsContainerThoughItsPodRunsOn) {
  OneWorker scene;
  scene.pod.worker->exit_code = 137;
  EXPECT_EQ(scene.worker().state, WorkerState::kLost);
  EXPECT_EQ(scene.worker().failure->exitCode, 137);
  EXPECT_FALSE(scene.worker().reusable);
  scene.pod.worker->last_word = State{.generation = 3, .phase = AgentPhase::kSucceeded};
  EXPECT_EQ(scene.worker().state, WorkerState::kSucceeded);
}

TEST(AWorker, WhoseContainerCannotBeStartedIsTheUsersFaultWhereTheCommandIs) {
  OneWorker scene;
  scene.pod.worker->exit_code = 128;
  scene.pod.worker->exit_reason = "StartError";
  scene.pod.worker->exit_message = "exec: \"python3\": executable file not found in $PATH: unknown";
  EXPECT_EQ(scene.worker().failure->failureClass, contract::FailureClass::kUser);
  EXPECT_EQ(scene.worker().failure->message,
            "pod default/a-0-2's container could not be started: exec: \"python3\": executable file not found in $PATH: unknown; "
            "look at command, args and volumeMounts of spec.workers.template");
  scene.pod.worker->exit_message = "failed to create shim task: context deadline exceeded";
  EXPECT_EQ(scene.worker().failure->failureClass, contract::FailureClass::kInfrastructure);
}

TEST(AWorker, WhoseAgentHasAnotherKeyIsKeptWhileItsGangRunsAndIsLostToTheNextOne) {
  OneWorker scene;
  scene.agent.reachable = false;
  scene.agent.other_key = true;
  set_condition(scene.job.status, {.type = condition::kRunning, .is_true = true, .reason = "Training"}, 1, test::at(0));
  EXPECT_EQ(scene.worker(100'000).state, WorkerState::kUp);
  EXPECT_FALSE(scene.worker().reusable) << "nobody could tell it of another generation";
  set_condition(scene.job.status, {.type = condition::kRunning, .is_true = false, .reason = "Restarting"}, 1, test::at(1));
  EXPECT_EQ(scene.worker(1).state, WorkerState::kLost);
  EXPECT_EQ(scene.worker(1).failure->reason, "OtherControllerKey");
}

TEST(APod, IsRejectedOnlyWhereItNeverRan) {
  OneWorker scene;
  scene.pod.phase = PodPhase::kFailed;
  for (const char* reason : {"OutOfcpu", "OutOfnvidia.com/gpu", "UnexpectedAdmissionError", "NodeAffinity"}) {
    scene.pod.worker->reason = reason;
    EXPECT_TRUE(is_rejected(scene.pod)) << reason;
  }
  scene.pod.worker->reason = "Evicted";
  EXPECT_FALSE(is_rejected(scene.pod));
  scene.pod.worker->reason = "OutOfcpu";
  scene.pod.worker->exit_code = 1;
  EXPECT_FALSE(is_rejected(scene.pod));
}

TEST(AGangsView, TakesTheNewestPodOfEachWorker) {
  OneWorker scene;
  Pod newer = scene.pod;
  newer.key.name = "a-0-3";
  newer.uid = "newer";
  newer.worker->generation = 3;
  scene.cluster.put(newer);
  const auto gang = scene.gang(1);
  EXPECT_EQ(gang.workers.at(0).pod->uid, "newer");
  ASSERT_EQ(gang.superseded.size(), 1u);
  EXPECT_EQ(gang.superseded[0]->uid, "u");
}

TEST(TheFirstCause, IsPrimaryThenSaidThenEarliest) {
  const auto worker = [](const char* name, bool secondary, WorkerState state, const char* at) {
    return Worker{.state = state, .failure = Failure{.reason = name, .at = at}, .secondary = secondary};
  };
  GangView gang;
  EXPECT_FALSE(first_cause(gang));
  gang.workers.push_back(worker("follows", true, WorkerState::kFailed, "2026-01-01T00:00:01Z"));
  EXPECT_EQ(first_cause(gang)->reason, "follows");
  gang.workers.push_back(worker("concluded", false, WorkerState::kLost, "2026-01-01T00:00:02Z"));
  EXPECT_EQ(first_cause(gang)->reason, "concluded");
  gang.workers.push_back(worker("late", false, WorkerState::kFailed, "2026-01-01T00:00:04Z"));
  EXPECT_EQ(first_cause(gang)->reason, "late");
  gang.workers.push_back(worker("early", false, WorkerState::kFailed, "2026-01-01T00:00:03Z"));
  EXPECT_EQ(first_cause(gang)->reason, "early");
}

}  // namespace
}  // namespace trainyard::decide
