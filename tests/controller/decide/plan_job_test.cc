// A job's life, as sentences. tests/support/world.h carries plans out; settle() also proves that the same cluster gives the same plan
// and that a plan that was carried out leaves nothing to do.
#include "controller/decide/plan.h"

#include <gtest/gtest.h>

#include "tests/support/world.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;
using contract::ConditionStatus;
using contract::Failure;
using contract::FailureClass;
using contract::Phase;
using test::ClusterBuilder;
using test::make_job;
using test::World;

World a_world(int workers = 2) {
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(make_job("a", workers, 8));
  return world;
}
World a_running_world(int workers = 2) {
  World world = a_world(workers);
  world.settle();
  world.train(5);
  world.settle();
  return world;
}
bool is(const World& world, const std::string& type, ConditionStatus status) { return world.condition(type).status == status; }

TEST(AJob, RunsFromItsCreationToItsEnd) {
  World world = a_world();
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kStarting);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  EXPECT_EQ(world.status().workers, (contract::WorkersStatus{.desired = 2, .ready = 2}));
  EXPECT_EQ(world.status().placement, (contract::PlacementStatus{.domains = {"rack-0"}, .nodes = 2}));
  EXPECT_EQ(world.status().startTime, "2026-01-01T00:00:00Z");
  EXPECT_EQ(world.status().selector, "trainyard.dev/job-name=a");
  world.now = 3;
  world.train(1);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().progress->step, 1);
  EXPECT_EQ(world.status().progress->loss, 3.33333) << "6 significant digits";
  world.now = 9;
  world.train(100);
  world.finish();
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
  EXPECT_EQ(world.status().progress->step, 100) << "the last progress is not held back by the interval";
  EXPECT_EQ(world.status().completionTime, "2026-01-01T00:00:09Z");
  EXPECT_TRUE(world.pods().empty()) << "agents were released";
  for (const char* reason : {"Accepted", "Placed", "Training", "Succeeded"}) EXPECT_TRUE(world.has_event(reason)) << reason;
  EXPECT_EQ(world.status().restarts, 0);
}

TEST(AJob, OfAnotherControllerIsLeftAlone) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.managedBy = "example.com/queue"; });
  world.settle();
  EXPECT_EQ(world.status_writes, 0);
  EXPECT_TRUE(world.pods().empty());
}

TEST(AJob, ThatIsBeingDeletedIsLeftToItsOwnerReferences) {
  World world = a_running_world();
  Job deleting = world.job();
  deleting.deleting = true;
  world.cluster.put(deleting);
  EXPECT_EQ(plan_job(world.cluster, deleting.key, test::at(1)), Plan{});
  EXPECT_EQ(plan_job(world.cluster, {"default", "unknown"}, test::at(1)), Plan{});
}

// ---- accepting

TEST(AJob, WhoseTemplateTheApiServerRefusesIsNotAcceptedAndAskedAboutAgainLater) {
  World world = a_world();
  world.templates_are_accepted = false;
  world.settle();
  EXPECT_TRUE(is(world, "Accepted", ConditionStatus::kFalse));
  EXPECT_EQ(world.condition("Accepted").reason, "TemplateRefused");
  EXPECT_NE(world.condition("Accepted").message.find(world.template_refusal), std::string::npos);
  EXPECT_EQ(world.status().phase, Phase::kPending);
  EXPECT_TRUE(world.pods().empty());
  EXPECT_TRUE(world.has_event("TemplateRefused"));
  world.templates_are_accepted = true;
  world.pass(59);
  EXPECT_TRUE(is(world, "Accepted", ConditionStatus::kFalse)) << "no hot loop";
  world.pass(1);
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AJob, WithSeveralMistakesHearsOfAllAtOnce) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) {
    spec.placement.pack = contract::Pack{.level = "shelf"};
    spec.workers.templ = Json::parse(R"({"spec": {"restartPolicy": "Always", "hostNetwork": true}})");
  });
  world.settle();
  const auto accepted = world.condition("Accepted");
  EXPECT_EQ(accepted.reason, "InvalidSpec");
  for (const char* word : {"shelf", "the levels are rack", "restartPolicy", "hostNetwork"}) {
    EXPECT_NE(accepted.message.find(word), std::string::npos) << word << ": " << accepted.message;
  }
}

TEST(AJob, SaysWhenAnEditedTemplateTakesEffect) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.pass(10);
  EXPECT_NE(world.condition("Accepted").message.find("suspended and resumed"), std::string::npos);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
}

// ---- placing

TEST(AJob, ThatFindsNoRoomSaysWhyAndStartsWhenThereIsSome) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).use("node-0", 8, "other").build());
  world.add(make_job("a", 2, 8));
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "Unschedulable");
  EXPECT_NE(world.condition("Placed").message.find("job default/other (8)"), std::string::npos)
      << world.condition("Placed").message;
  EXPECT_EQ(world.status().phase, Phase::kPending);
  EXPECT_EQ(world.status().generation, 0);
  world.cluster.erase_pod({"default", "taken-0"});
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AJob, ThatCanNeverFitSaysSo) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.gpusPerWorker = 9; });
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "NeverFits");
}

TEST(AJob, ThatWaitsDoesNotRewriteItsStatusWithEveryPodThatComesAndGoes) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).use("node-0", 8, "b").build());
  world.add(make_job("a", 1, 8));
  world.settle();
  const auto writes = world.status_writes;
  Pod pod = *world.cluster.pod({"default", "taken-0"});
  pod.worker->job = "c";
  world.cluster.put(pod);
  world.pass(1);
  EXPECT_EQ(world.status_writes, writes);
  world.pass(5);
  EXPECT_EQ(world.status_writes, writes + 1);
  EXPECT_NE(world.condition("Placed").message.find("job default/c"), std::string::npos);
}

TEST(Jobs, NeverShareAGpu) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  for (const char* name : {"a", "b", "c"}) world.add(make_job(name, 1, 8));
  world.settle();
  EXPECT_EQ(world.pods("a").size() + world.pods("b").size() + world.pods("c").size(), 2u);
  EXPECT_TRUE(world.pods("c").empty()) << "of the same age, the first by name";
}

TEST(Jobs, AreServedOldestFirst) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build());
  world.now = 5;
  world.add(make_job("a", 1, 8));
  world.now = 2;
  world.add(make_job("z", 1, 8));
  world.now = 6;
  world.settle();
  EXPECT_EQ(world.pods("z").size(), 1u);
}

TEST(AJob, OfANameThatAnotherHadTakesANameThatNoPodHas) {
  World world = a_world(1);
  Pod left{.key = {"default", "a-0-1"}, .uid = "old", .node = "node-0"};
  left.worker = WorkerPod{.job = "a", .job_uid = "uid-of-the-deleted", .worker = 0, .generation = 1};
  world.cluster.put(left);
  world.kubelets_work = false;
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2"}));
}

// ---- generations

TEST(TheGeneration, IsInTheStatusBeforeAnythingOfItExists) {
  World world(ClusterBuilder{}.racks(0).build());
  world.add(make_job("a", 2, 8));
  world.settle();
  ASSERT_EQ(world.condition("Placed").reason, "NeverFits") << "there are no nodes";
  const Cluster nodes = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  for (const auto& [name, node] : nodes.nodes()) world.cluster.put(node);
  const auto phases = schedule(world.cluster, test::at(0)).at({"default", "a"}).phases;
  ASSERT_GE(phases.size(), 3u);
  const auto& write = std::get<WriteStatus>(phases[0].at(0));
  EXPECT_EQ(phases[0].size(), 1u);
  EXPECT_EQ(write.status.generation, 1);
  EXPECT_EQ(write.resource_version, world.job().resource_version);
  EXPECT_EQ(std::get<CreateSecret>(phases[1].at(0)).job_uid, "uid-a");
  ASSERT_EQ(phases[2].size(), 2u);
  for (const auto& action : phases[2]) EXPECT_TRUE(std::holds_alternative<CreatePod>(action));
}

TEST(AController, ThatDiedAfterRaisingTheGenerationIsFollowedByOneThatMakesThePods) {
  World world = a_world();
  world.settle();
  const auto names = world.pods();
  // As if the last one had died before the second pod.
  World heir = a_world();
  heir.cluster.put(world.job());
  Job creating = world.job();
  for (auto& condition : creating.status.conditions) {
    if (condition.type == "Placed") condition.reason = "CreatingWorkers";
  }
  heir.cluster.put(creating);
  heir.cluster.put(world.pod(0));
  heir.settle();
  EXPECT_EQ(heir.pods(), names);
  EXPECT_EQ(heir.status().generation, 1);
  EXPECT_EQ(heir.status().restarts, 0) << "a pod that never was made was not lost";
}

TEST(AController, ThatStartsAnewWantsNothingOfAGangThatRuns) {
  World world = a_running_world();
  World heir(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  heir.cluster.put(world.job());
  for (int i : {0, 1}) heir.cluster.put(world.pod(i));
  const auto plan = plan_job(heir.cluster, world.job().key, test::at(1));
  EXPECT_TRUE(plan.is_empty());
  EXPECT_EQ(plan.agents.size(), 2u) << "it polls the agents";
  EXPECT_TRUE(schedule(heir.cluster, test::at(1)).empty());
}

TEST(AController, ThatStartsAnewDoesNotTakeAgentsItHasNotAskedYetForLost) {
  for (const bool was_training : {false, true}) {
    World world = was_training ? a_running_world() : a_world();
    world.settle();
    World heir(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
    heir.cluster.put(world.job());
    for (int i : {0, 1}) heir.cluster.put(world.pod(i));
    heir.change_node("node-1", [](Node& node) { node.ready = false; });
    heir.pass(100'000);
    EXPECT_EQ(heir.status().restarts, 0);
    for (int i : {0, 1})
      heir.cluster.put_agent(heir.pod(i).uid, {.reachable = false, .since = test::at(100'000), .error = "refused"});
    heir.settle();
    EXPECT_EQ(heir.status().restarts, 0);
    heir.pass(10);
    EXPECT_EQ(heir.status().restarts, 1);
    EXPECT_EQ(heir.status().failure->reason, "NodeLost");
  }
}

// ---- assignments

TEST(Assignments, GoToAllOrToNone) {
  World world = a_world();
  world.kubelets_work = false;
  world.settle();
  EXPECT_FALSE(world.told(0));
  world.kubelets_work = true;
  world.settle();
  for (int i : {0, 1}) {
    ASSERT_TRUE(world.told(i));
    EXPECT_EQ(world.told(i)->generation, 1);
    EXPECT_EQ(world.told(i)->worker, i);
    EXPECT_EQ(world.told(i)->worldSize, 16);
    EXPECT_EQ(world.told(i)->ranks.size(), 8u);
    EXPECT_EQ(world.told(i)->ranks.front(), 8 * i);
    EXPECT_EQ(world.told(i)->rendezvous.host, world.pod(0).worker->ip);
    EXPECT_EQ(world.told(i)->spec.workers.templ, Json::object());
  }
}

TEST(Assignments, WaitForAnAgentThatDoesNotAnswerYet) {
  World world = a_world();
  world.kubelets_work = false;
  world.settle();
  world.change_pod("a-0-1", [](Pod& pod) {
    pod.worker->ip = "10.0.0.1";
    pod.phase = PodPhase::kRunning;
  });
  world.change_pod("a-1-1", [](Pod& pod) { pod.worker->ip = "10.0.0.2"; });
  world.cluster.put_agent(world.pod(0).uid, {.state = contract::State{}, .reachable = true});
  world.settle();
  const auto plan = plan_job(world.cluster, world.job().key, test::at(0));
  EXPECT_EQ(plan.agents.size(), 2u);
  for (const auto& [uid, assignment] : plan.agents) EXPECT_FALSE(assignment) << uid;
}

TEST(Assignments, KeepTheirContentUnderAGeneration) {
  World world = a_running_world();
  const auto before = world.told(0);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.lifecycle.maxRestarts = 9; });
  world.settle();
  EXPECT_TRUE(!world.told(0) || world.told(0) == before);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.checkpoint->everySteps = 77; });
  world.settle();
  EXPECT_FALSE(world.told(0)) << "agents that have begun are not told another content; they are only polled";
}

// ---- starting

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
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
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

// ---- progress

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

TEST(Progress, IsWrittenLessOftenWhereManyJobsRun) {
  World world = a_running_world();
  for (int i = 0; i < 399; ++i) {
    Job other = make_job("other-" + std::to_string(i), 1, 8);
    other.spec.managedBy = "example.com/other";
    other.status.phase = Phase::kRunning;
    world.cluster.put(other);
  }
  const auto writes = world.status_writes;
  world.train(6);
  world.pass(19);
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

// ---- failures

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

TEST(ADeletedWorker, IsReplacedAlone) {
  World world = a_running_world();
  const auto kept = world.pod(0).uid;
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
  EXPECT_EQ(world.pod(0).uid, kept);
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts, 1);
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
  world.settle();
  EXPECT_EQ(world.status().restarts, 1);
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
  EXPECT_EQ(world.status().restarts, 0);
  world.pass(1);
  EXPECT_EQ(world.status().restarts, 1);
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

TEST(AnAgentThatIsSilentForLong, LosesItsPodButNotBeforeThatIsGone) {
  World world = a_running_world();
  world.kubelets_work = false;
  world.silence(1);
  world.pass(119);
  EXPECT_EQ(world.status().restarts, 0);
  world.pass(1);
  EXPECT_EQ(world.status().restarts, 1);
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
  EXPECT_EQ(world.status().failure->reason, "OutOfMemory");
  EXPECT_EQ(world.status().failure->exitCode, 137);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-2"}));
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

TEST(AGang, WhoseTemplateWasEditedIsReplacedWholeWhenAWorkerIsLost) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.settle();
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
}

// ---- suspending

TEST(Suspending, WritesACheckpointThenRemovesThePods) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.decide_once();
  EXPECT_EQ(world.condition("Running").reason, "Suspending");
  EXPECT_EQ(world.pods().size(), 2u);
  world.decide_once();
  EXPECT_EQ(world.told(0)->checkpointRequest, 1);
  EXPECT_EQ(world.told(0)->stopAfter, 1);
  EXPECT_EQ(world.pods().size(), 2u);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  EXPECT_TRUE(world.cluster.pods_of(world.job()).empty());
  EXPECT_EQ(world.status().workers, contract::WorkersStatus{});
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_TRUE(world.has_event("Suspended"));
}

TEST(Suspending, DoesNotWaitForEverForACheckpoint) {
  World world = a_running_world();
  world.silence(0);
  world.silence(1);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  world.pass(100);
  EXPECT_EQ(world.pods().size(), 2u);
  world.pass(20);
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
}

TEST(AJob, ThatIsCreatedSuspendedMakesNoPods) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  EXPECT_TRUE(world.pods().empty());
  EXPECT_EQ(world.status().generation, 0);
}

TEST(Resuming, StartsANewGenerationAndTheDeadlineAnew) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  world.now = 1000;
  world.edit("a", [](contract::TrainingJobSpec& spec) {
    spec.suspend = false;
    spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})");
  });
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.status().startTime, "2026-01-01T00:16:40Z");
  EXPECT_EQ(world.status().phase, Phase::kStarting);
  EXPECT_TRUE(world.has_event("Resumed"));
  EXPECT_EQ(world.condition("Accepted").message, "") << "the edited template is in effect";
  world.train(6);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(Suspending, ThatWasBegunIsCarriedThroughThoughTheUserChangedHisMind) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.decide_once();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"})) << "stopped, and started anew";
  EXPECT_EQ(world.status().restarts, 0);
}

// ---- time limits

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

TEST(AFinishedJob, LosesPodsThatTheReleaseDoesNotReach) {
  World world = a_running_world();
  world.silence(1);
  world.fail_rank(0, {.failureClass = FailureClass::kUser, .reason = "CorpusMissing", .message = "no"});
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_TRUE(world.pods().empty());
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

// ---- conditions

TEST(Conditions, ChangeTheirTimeWithTheirStatusAlone) {
  World world = a_running_world();
  const auto since = world.condition("Running").lastTransitionTime;
  world.silence(1);
  world.pass(20);
  EXPECT_EQ(world.condition("Running").reason, "AgentUnreachable");
  EXPECT_EQ(world.condition("Running").lastTransitionTime, since);
}

}  // namespace
}  // namespace trainyard::decide
