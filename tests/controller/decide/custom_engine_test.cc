// The life of a job whose workers run any program: judged by pods and exit codes alone.
#include <gtest/gtest.h>

#include "controller/decide/plan.h"
#include "tests/support/world.h"

namespace trainyard::decide {
namespace {

using contract::FailureClass;
using contract::Phase;
using test::ClusterBuilder;
using test::World;

World a_custom_world(const std::function<void(contract::TrainingJobSpec&)>& change = [](auto&) {}) {
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  Job job = test::make_custom_job("a", 2, 8);
  change(job.spec);
  world.add(job);
  world.settle();
  return world;
}
contract::TrainingJobSpec& with_agent(contract::TrainingJobSpec& spec) {
  spec.workers.templ["spec"]["containers"][0]["ports"] = Json::array({{{"name", "trainyard"}, {"containerPort", 9000}}});
  return spec;
}

TEST(ACustomJob, RunsOnceAllItsContainersDoAndSucceedsOnceAllHaveExitedWithZero) {
  World world = a_custom_world();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().workers, (contract::WorkersStatus{.desired = 2, .ready = 2}));
  EXPECT_EQ(world.condition("Progressing").message, "the engine Custom tells no steps");
  world.exit(0, 0);
  world.pass(60);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Running").message, "1 of 2 workers are done");
  world.exit(1, 0);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
  EXPECT_EQ(world.condition("Complete").message, "all workers have exited with 0");
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_FALSE(world.status().progress);
  EXPECT_EQ(world.cluster.pods_of(world.job()).size(), 2u) << "they stay for their logs";
  for (const auto& event : world.events) EXPECT_NE(event.message, "") << event.reason;
}

TEST(ACustomJob, StartsUntilTheLastContainerRuns) {
  World world(ClusterBuilder{}.build());
  world.kubelets_work = false;
  world.add(test::make_custom_job("a"));
  world.settle();
  world.change_pod("a-0-1", [](Pod& pod) { pod.worker->container_running = true; });
  world.pass(40);
  EXPECT_EQ(world.status().phase, Phase::kStarting);
  EXPECT_EQ(world.status().workers.ready, 1);
  EXPECT_NE(world.condition("Running").message.find("1 of 2 workers are up; worker 1"), std::string::npos);
  world.change_pod("a-1-1", [](Pod& pod) { pod.worker->container_running = true; });
  world.pass(1);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(ACustomJob, ThatDoesNotComeUpInTimeIsPlacedAnewOnItsBudget) {
  World world(ClusterBuilder{}.build());
  world.kubelets_work = false;
  world.add(test::make_custom_job("a"));
  world.settle();
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.worker->ip = "10.0.0.9";
    pod.worker->waiting_reason = "ErrImagePull";
    pod.worker->waiting_message = "manifest unknown";
  });
  world.pass(5);
  EXPECT_EQ(world.condition("Running").reason, "ImageNotPulled");
  world.pass(600);
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->reason, "StartTimeout");
}

TEST(ACustomJob, BeginsAnewInNewPodsWhenAProgramFails) {
  World world = a_custom_world();
  world.now = 100;
  world.exit(1, 3, "step 41\nno such layer\n\n");
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  const auto& failure = *world.status().failure;
  EXPECT_EQ(failure.reason, "WorkerExited");
  EXPECT_EQ(failure.failureClass, FailureClass::kUnknown);
  EXPECT_EQ(failure.worker, 1);
  EXPECT_EQ(failure.node, "node-1");
  EXPECT_EQ(failure.exitCode, 3);
  EXPECT_FALSE(failure.signal);
  EXPECT_EQ(failure.message, "the program of pod default/a-1-1 ended with exit code 3: no such layer");
  EXPECT_EQ(failure.lastLines, (std::vector<std::string>{"step 41", "no such layer"}));
  EXPECT_EQ(failure.at, "2026-01-01T00:01:40Z");
}

TEST(ACustomJob, MakesEveryProgramAnewThoughSomeWereDoneBefore) {
  World world = a_custom_world();
  world.now = 100;
  world.exit(0, 0);
  world.exit(1, 3);
  world.refuse_pod = [](const CreatePod& pod) {
    return pod.key.name == "a-0-2" ? std::optional<std::string>("exceeded quota") : std::nullopt;
  };
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "CreatingWorkers") << "what an earlier gang's program did is no part of this one";
  world.refuse_pod = nullptr;
  world.pass(1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(ACustomJob, DoesNotMakeALostPodAgainBesideProgramsThatHaveEnded) {
  World world(ClusterBuilder{}.build());
  world.refuse_pod = [](const CreatePod& pod) {
    return pod.key.name == "a-1-1" ? std::optional<std::string>("exceeded quota") : std::nullopt;
  };
  world.add(test::make_custom_job("a"));
  world.settle();
  ASSERT_EQ(world.condition("Placed").reason, "CreatingWorkers");
  world.exit(0, 0);
  world.refuse_pod = nullptr;
  world.pass(1);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().failure->reason, "WorkerDeleted");
  world.pass(120);  // a gang whose pods were refused makes room for others meanwhile
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
}

TEST(ACustomJob, NamesTheSignalThatEndedItsProgram) {
  World world = a_custom_world();
  world.exit(0, 139);
  world.settle();
  EXPECT_EQ(world.status().failure->signal, "SIGSEGV");
  EXPECT_EQ(world.status().failure->exitCode, 139);
  EXPECT_EQ(world.status().failure->message, "the program of pod default/a-0-1 ended by SIGSEGV; its log says more");
}

TEST(ACustomJob, FailsAtOnceWhereItsProgramTellsOfItsUsersError) {
  World world = a_custom_world();
  world.exit(1, 1, "Traceback (most recent call last):\n  File \"train.py\", line 3\nValueError: no such layer\nstopping\n");
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.condition("Failed").reason, "ProgramError");
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUser);
  EXPECT_EQ(world.status().failure->message, "the program of pod default/a-1-1 ended with exit code 1: ValueError: no such layer")
      << "the line that tells, not the last";
  EXPECT_EQ(world.status().restarts, 0);
}

TEST(ACustomJob, ThatRanWellIsNotFailedByWordsOfItsUsersErrorAloneButOnItsBudget) {
  World world = a_custom_world([](auto& spec) { spec.lifecycle.maxRestarts = 1; });
  world.pass(61);
  world.exit(1, 1, "KeyError: 'text'");
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUser);
  EXPECT_EQ(world.status().restarts, 1);
  world.pass(61);
  world.exit(1, 1, "KeyError: 'text'");
  world.settle();
  EXPECT_EQ(world.condition("Failed").reason, "MaxRestartsExceeded");
}

TEST(ACustomJob, ThatRanWellFailsAtOnceByItsOwnRuleAndByWhatNoWordsTell) {
  World ruled = a_custom_world([](auto& spec) {
    spec.lifecycle.failurePolicy.rules = {{.action = contract::FailureAction::kFail, .onMessage = "KeyError"}};
  });
  ruled.pass(61);
  ruled.exit(1, 1, "KeyError: 'text'");
  ruled.settle();
  EXPECT_EQ(ruled.status().phase, Phase::kFailed);
  World killed = a_custom_world();
  killed.pass(61);
  killed.exit(1, 137);
  killed.change_pod("a-1-1", [](Pod& pod) {
    pod.worker->exit_reason = "OOMKilled";
    pod.worker->memory_limited = true;
  });
  killed.settle();
  EXPECT_EQ(killed.status().phase, Phase::kFailed);
  EXPECT_EQ(killed.condition("Failed").reason, "OutOfMemory");
}

TEST(ACustomJob, ShowsTheRankThatTorchrunSaysFailedFirst) {
  World world = a_custom_world();
  world.exit(1, 1,
             "Failures:\n[1]:\n  rank      : 9 (local_rank: 1)\n  exitcode  : 1 (pid: 90)\n"
             "Root Cause (first observed failure):\n[0]:\n  rank      : 13 (local_rank: 5)\n  exitcode  : -11 (pid: 93)\n"
             "  traceback : Signal 11 (SIGSEGV) received by PID 93\n");
  world.settle();
  const auto& failure = *world.status().failure;
  EXPECT_EQ(failure.rank, 13);
  EXPECT_EQ(failure.exitCode, 139);
  EXPECT_EQ(failure.signal, "SIGSEGV");
  EXPECT_TRUE(failure.message.starts_with("rank 13 of pod default/a-1-1 ended by SIGSEGV: ")) << failure.message;
  EXPECT_EQ(failure.failureClass, FailureClass::kUnknown);
}

TEST(ACustomJob, LeavesTheNodeOfABrokenGpu) {
  World world = a_custom_world();
  world.exit(1, 1, "RuntimeError: CUDA error: uncorrectable ECC error encountered");
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  for (int i : {0, 1}) EXPECT_NE(world.pod(i).node, "node-1");
  EXPECT_EQ(world.status().restarts, 0);
}

TEST(ACustomJob, FailsWhenItsRestartsAreUsedUpAndItsOtherProgramsAreEnded) {
  World world = a_custom_world([](auto& spec) { spec.lifecycle.maxRestarts = 1; });
  for (int i = 0; i < 2; ++i) {
    world.now += 100;
    world.exit(0, 1);
    world.settle();
  }
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.condition("Failed").reason, "MaxRestartsExceeded");
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_TRUE(world.pods().empty()) << "nobody else would end them";
}

TEST(ACustomJob, WhoseProgramIsNotInItsImageFailsAtOnce) {
  World world = a_custom_world();
  world.exit(0, 128, "exec: \"torchrn\": executable file not found in $PATH");
  world.change_pod("a-0-1", [](Pod& pod) { pod.worker->exit_reason = "StartError"; });
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.condition("Failed").reason, "ContainerNotStarted");
}

TEST(ACustomJob, ThatFailsAgainAndAgainSoonAfterItsStartIsRestartedEverMoreSlowly) {
  World world = a_custom_world();
  std::vector<double> waited;
  for (int i = 0; i < 4; ++i) {
    world.now += 1;
    world.exit(0, 1);
    world.settle();
    const double failed = world.now;
    while (world.status().restarts == i) world.pass(1);
    waited.push_back(world.now - failed);
  }
  EXPECT_EQ(waited, (std::vector<double>{0, 0, 1, 2}))
      << "of 0, 1, 2 and 4 s after the last failure it had run for one each time";
  world.pass(61);
  world.exit(0, 1);
  world.settle();
  EXPECT_EQ(world.status().restarts, 5) << "it had run for a minute";
}

TEST(ACustomJob, WaitsALittleForTheFailureThatBrokeTheConnections) {
  World world = a_custom_world();
  world.now = 100;
  world.exit(0, 1, "RuntimeError: [../gloo/transport/tcp/pair.cc] Connection closed by peer [10.0.0.2]:5000");
  world.settle();
  EXPECT_EQ(world.status().restarts, 0);
  world.now = 102;
  world.exit(1, 137);
  world.settle();
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->worker, 1);
  EXPECT_EQ(world.status().failure->signal, "SIGKILL");
}

TEST(ACustomJob, TakesADrainedProgramForLostEvenWhereItExitsWithZero) {
  World world = a_custom_world();
  world.kubelets_work = false;
  world.now = 50;
  world.change_pod("a-0-1", [](Pod& pod) { pod.deletion_time = test::at(80); });
  world.settle();
  EXPECT_EQ(world.status().uncountedRestarts, 0) << "it may still write a checkpoint";
  world.exit(0, 0);
  world.settle();
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().failure->reason, "WorkerDeleted");
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kInfrastructure);
}

TEST(ACustomJob, LeavesANodeThatIsNotReadyOrGone) {
  World world = a_custom_world();
  world.change_node("node-1", [](Node& node) {
    node.ready = false;
    node.ready_since = test::at(0);
  });
  world.settle();
  EXPECT_EQ(world.status().uncountedRestarts, 0);
  world.pass(10);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().failure->reason, "NodeLost");
  EXPECT_EQ(world.status().failure->node, "node-1");
  World gone = a_custom_world();
  gone.cluster.erase_node("node-1");
  gone.settle();
  EXPECT_EQ(gone.status().failure->reason, "NodeGone");
}

TEST(ACustomJob, IsToldOfAnEviction) {
  World world = a_custom_world();
  world.exit(0, 137);
  world.change_pod("a-0-1", [](Pod& pod) {
    pod.worker->reason = "Evicted";
    pod.worker->message = "the node was low on memory";
  });
  world.settle();
  EXPECT_EQ(world.status().failure->reason, "Evicted");
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kInfrastructure);
}

TEST(ACustomJob, IsSuspendedByTheEndOfItsPodsAloneAndStartsAnewAtItsResume) {
  World world = a_custom_world();
  world.kubelets_work = false;
  world.edit("a", [](auto& spec) { spec.suspend = true; });
  world.settle();
  EXPECT_EQ(world.condition("Running").reason, "Suspending");
  for (int i : {0, 1}) {
    EXPECT_TRUE(world.pod(i).deletion_time) << "nobody is asked for a checkpoint";
    EXPECT_FALSE(world.told(i));
  }
  world.kubelets_work = true;
  world.pass(1);
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  world.edit("a", [](auto& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().restarts, 0);
}

TEST(ACustomJob, IsPolledOnlyWhereAContainerDeclaresThePortAndIsToldNothing) {
  World silent = a_custom_world();
  EXPECT_TRUE(plan_job(silent.cluster, silent.job().key, test::at(1)).agents.empty());
  World world = a_custom_world([](auto& spec) { with_agent(spec); });
  const auto agents = plan_job(world.cluster, world.job().key, test::at(1)).agents;
  ASSERT_EQ(agents.size(), 2u);
  for (const auto& [uid, assignment] : agents) EXPECT_FALSE(assignment) << uid;
}

TEST(ACustomJob, ShowsTheProgressThatAnAgentTellsAndIsJudgedByItsPodsAllTheSame) {
  World world = a_custom_world([](auto& spec) { with_agent(spec); });
  world.say(0, [](contract::State& state) {
    state.phase = contract::AgentPhase::kFailed;
    state.failure = contract::Failure{.reason = "RankCrashed", .message = "says the agent"};
    state.progress = contract::Progress{.step = 7, .steps = 10, .updatedAt = "2026-01-01T00:00:00Z"};
  });
  world.pass(5);
  EXPECT_EQ(world.status().progress->step, 7);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().restarts, 0);
  for (int i : {0, 1}) world.silence(i);
  world.pass(60);
  EXPECT_EQ(world.condition("Running").reason, "AgentUnreachable");
  EXPECT_EQ(world.status().workers.ready, 2) << "their containers run";
  for (int i : {0, 1}) world.exit(i, 0);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
}

TEST(ACustomJob, GetsAServiceAndAKeyOnlyWhereItHasAnAgent) {
  for (const bool has_agent : {false, true}) {
    World world(ClusterBuilder{}.racks(0).build());
    Job job = test::make_custom_job("a");
    if (has_agent) with_agent(job.spec);
    world.add(job);
    world.settle();
    const Cluster nodes = ClusterBuilder{}.build();
    for (const auto& [name, node] : nodes.nodes()) world.cluster.put(node);
    const auto phases = schedule(world.cluster, test::at(0)).at({"default", "a"}).phases;
    const auto& first = phases.at(0);  // the status, and what the pods need beside themselves
    ASSERT_EQ(first.size(), has_agent ? 3u : 2u);
    const auto& service = std::get<CreateService>(first.back());
    EXPECT_EQ(service.key, (ObjectKey{"default", "tj-a-uid-a"}));
    EXPECT_EQ(service.job_uid, "uid-a");
    EXPECT_EQ(std::holds_alternative<CreateSecret>(first.at(1)), has_agent);
  }
}

}  // namespace
}  // namespace trainyard::decide
