// Workers that are lost with their pods, nodes or agents, and what takes their place.
#include "controller/decide/plan.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;
using contract::Phase;
using test::ClusterBuilder;
using test::make_job;
using test::World;

TEST(ADeletedWorker, IsReplacedAlone) {
  World world = a_running_world();
  const auto kept = world.pod(0).uid;
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
  EXPECT_EQ(world.pod(0).uid, kept);
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts, 0) << "nobody's program is at fault";
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_TRUE(world.status().avoidedNodes.empty()) << "nor a node";
  EXPECT_EQ(world.status().failure->reason, "WorkerDeleted");
  EXPECT_EQ(world.said(1).generation, 2);
}

TEST(AWorkerThatIsDrained, MayWriteItsCheckpointBeforeItIsReplaced) {
  World world = a_running_world();
  world.kubelets_work = false;
  world.change_pod("a-1-1", [](Pod& pod) { pod.deletion_time = test::at(130); });
  world.pass(60);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().generation, 1);
  for (int i : {0, 1}) world.say(i, [](contract::State& state) { state.phase = AgentPhase::kStopped; });
  world.silence(1);  // its agent has ended
  world.settle();
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"})) << "the old pod is not gone yet";
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
}

TEST(ALostNode, LosesItsWorkerToAnotherThoughItsPodNeverGoes) {
  World world = a_running_world();
  const std::string node = world.pod(1).node;
  world.change_node(node, [](Node& n) {
    n.ready = false;
    n.ready_since = test::at(0);
  });
  world.silence(1);
  world.pass(9);
  EXPECT_EQ(world.status().uncountedRestarts, 0);
  world.pass(1);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().failure->reason, "NodeLost");
  EXPECT_NE(world.pod(1).node, node);
  EXPECT_EQ(world.pod(1).key.name, "a-1-2");
  EXPECT_EQ(world.said(0).generation, 2);
}

TEST(AKubeletThatIsDown, DoesNotStopTheTraining) {
  World world = a_running_world();
  world.change_node(world.pod(1).node, [](Node& n) {
    n.ready = false;
    n.ready_since = test::at(0);
  });
  world.pass(300);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(ASilentAgent, AloneStopsNoTrainingHoweverLongItIsSilent) {
  World world = a_running_world();
  for (int i : {0, 1}) world.silence(i);
  world.pass(100'000);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Running").reason, "AgentUnreachable");
}

TEST(ASilentAgent, IsWaitedForALittleWhereAnotherWorkerFailed) {
  World world = a_running_world();
  world.silence(1);
  world.fail_rank(0, {.reason = "RankCrashed", .message = "crash"});
  world.pass(9);
  EXPECT_EQ(world.status().restarts, 0);
  world.hear(1);
  world.settle();
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
}

TEST(ASilentAgent, LosesItsPodWhereAnotherWorkerFailedButNotBeforeThatIsGone) {
  World world = a_running_world();
  world.kubelets_work = false;
  world.silence(1);
  world.fail_rank(0, {.failureClass = contract::FailureClass::kTransient, .reason = "PeerLost", .message = "lost rank 9"}, true);
  world.pass(9);
  EXPECT_EQ(world.status().uncountedRestarts, 0);
  world.pass(1);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.status().failure->reason, "AgentLost");
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  EXPECT_TRUE(world.cluster.pod({"default", "a-1-1"})->deletion_time);
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
}

TEST(APod, ThatEndedWithoutALastWordIsReplacedWithItsEvidence) {
  World world = a_running_world();
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->exit_code = 137;
    pod.worker->exit_reason = "OOMKilled";
  });
  world.settle();
  EXPECT_EQ(world.status().failure->reason, "NodeOutOfMemory");
  EXPECT_EQ(world.status().failure->exitCode, 137);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
}

TEST(AContainer, ThatRunsAnotherProgramThanTheAgentSaysWhatToDo) {
  World world = a_running_world();
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->exit_code = 1;
    pod.worker->exit_reason = "Error";
  });
  world.settle();
  EXPECT_EQ(world.status().failure->message,
            "pod default/a-1-1's container ended with exit code 1 without a last word of its agent; its log says more. Where "
            "command or "
            "args of spec.workers.template start another program than `trainyard-worker agent`, leave them out");
}

TEST(AContainer, ThatIsKilledWhileItsNodeHasNoMemoryLeftHasNotUsedUpItsOwn) {
  for (const bool has_pressure : {true, false}) {
    World world = a_running_world();
    const std::string node = world.pod(1).node;
    world.change_node(node, [&](Node& changed) { changed.memory_pressure = has_pressure; });
    world.change_pod("a-1-1", [](Pod& pod) {
      pod.phase = PodPhase::kFailed;
      pod.worker->exit_code = 137;
      pod.worker->exit_reason = "OOMKilled";
      pod.worker->memory_limited = true;
    });
    world.settle();
    const auto& failure = *world.status().failure;
    EXPECT_EQ(failure.reason, has_pressure ? "NodeOutOfMemory" : "OutOfMemory");
    EXPECT_EQ(world.status().phase == contract::Phase::kFailed, !has_pressure);
    if (!has_pressure) continue;
    EXPECT_EQ(failure.failureClass, contract::FailureClass::kInfrastructure);
    EXPECT_EQ(failure.message, "pod default/a-1-1 was killed, since its node " + node +
                                   " had no memory left: it has the condition MemoryPressure");
    EXPECT_EQ(world.status().uncountedRestarts, 1);
    EXPECT_NE(world.pod(1).node, node);
  }
}

TEST(ARank, ThatIsKilledWhileItsNodeHasNoMemoryLeftIsItsNodesFault) {
  for (const bool has_pressure : {true, false}) {
    World world = a_running_world();
    const std::string node = world.pod(1).node;
    world.change_node(node, [&](Node& changed) { changed.memory_pressure = has_pressure; });
    world.fail_rank(1, {.exitCode = 137, .signal = "SIGKILL", .reason = "RankCrashed", .message = "rank 8 was ended by SIGKILL"});
    world.settle();
    EXPECT_EQ(world.status().failure->reason, has_pressure ? "NodeOutOfMemory" : "RankCrashed");
    EXPECT_EQ(world.status().restarts, has_pressure ? 0 : 1);
    EXPECT_EQ(world.status().avoidedNodes.size(), has_pressure ? 1u : 0u);
  }
}

TEST(ATrainingContainer, ThatEndedInAPodOfSeveralIsSeenAtOnce) {
  World world = a_running_world();
  world.change_pod("a-1-1", [](Pod& pod) {  // a side container runs on
    pod.worker->container_running = false;
    pod.worker->exit_code = 137;
    pod.worker->exit_reason = "OOMKilled";
  });
  world.settle();
  EXPECT_EQ(world.status().failure->reason, "NodeOutOfMemory");
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
  world.train(6);
  world.settle();
  world.change_pod("a-1-2", [](Pod& pod) {
    pod.worker->container_running = false;
    pod.worker->exit_code = 1;
    pod.worker->last_word = contract::State{.podUid = pod.uid,
                                            .generation = 2,
                                            .phase = AgentPhase::kFailed,
                                            .failure = contract::Failure{.reason = "RankCrashed", .message = "crash"}};
  });
  world.settle();
  EXPECT_EQ(world.status().failure->reason, "RankCrashed");
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-3"}));
}

TEST(TheLastWord, DecidesWhereTheAgentIsGone) {
  World world = a_running_world();
  for (const char* name : {"a-0-1", "a-1-1"}) {
    world.change_pod(name, [](Pod& pod) {
      pod.phase = PodPhase::kSucceeded;
      pod.worker->last_word = contract::State{.podUid = pod.uid, .generation = 1, .phase = AgentPhase::kSucceeded};
    });
    world.cluster.erase_agent(world.cluster.pod({"default", name})->uid);
  }
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
}

TEST(ALostRace, IsNotCountedAndItsNodeIsAvoided) {
  World world = a_world();
  world.kubelets_work = false;
  world.settle();
  const std::string node = world.pod(1).node;
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->reason = "OutOfnvidia.com/gpu";
    pod.worker->message = "Node didn't have enough resource";
  });
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
  EXPECT_NE(world.pod(1).node, node);
  EXPECT_TRUE(world.has_event("LostRace"));
  EXPECT_NE(world.cluster.pod({"default", "a-1-1"}), nullptr) << "it marks its node";
  world.pass(30);
  EXPECT_EQ(world.cluster.pod({"default", "a-1-1"}), nullptr);
}

TEST(AGang, ThatLostARaceDoesNotHoldNodesInVain) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(make_job("a", 2, 8));
  world.kubelets_work = false;
  world.settle();
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->reason = "OutOfcpu";
  });
  world.kubelets_work = true;
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  EXPECT_EQ(world.condition("Placed").reason, "Unschedulable");
  EXPECT_EQ(world.status().phase, Phase::kPending);
  world.pass(31);
  EXPECT_EQ(world.pods().size(), 2u) << "the node is tried again";
  EXPECT_EQ(world.status().restarts, 0);
}

TEST(AGang, ThatCannotReplaceAWorkerGivesItsNodesBackAfterTheStartTimeout) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(make_job("a", 2, 8));
  world.settle();
  world.change_node("node-1", [](Node& node) { node.unschedulable = true; });
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1"}));
  EXPECT_EQ(world.status().phase, Phase::kRestarting);
  EXPECT_NE(world.condition("Placed").message.find("1 is cordoned"), std::string::npos);
  world.pass(600);
  EXPECT_TRUE(world.pods().empty());
  world.change_node("node-1", [](Node& node) { node.unschedulable = false; });
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AGang, WhoseTemplateIsEditedWhileALostWorkerCannotBeReplacedIsMadeAnewWhole) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(make_job("a", 2, 8));
  world.settle();
  world.change_node("node-1", [](Node& node) { node.unschedulable = true; });
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "NoReplacement");
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  world.change_node("node-1", [](Node& node) { node.unschedulable = false; });
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
  EXPECT_EQ(world.pod(0).worker->template_hash, world.pod(1).worker->template_hash);
}

TEST(AGang, WhoseTemplateWasEditedIsReplacedWholeWhenAWorkerIsLost) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.settle();
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
}

}  // namespace
}  // namespace trainyard::decide
