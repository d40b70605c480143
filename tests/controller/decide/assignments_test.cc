#include "controller/decide/assignments.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::World;

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

void edit_checkpoints(contract::TrainingJobSpec& spec) { spec.checkpoint->everySteps = 77; }

TEST(Assignments, AreNotRepeatedToAgentsThatHaveTakenThem) {
  World world = a_running_world();
  EXPECT_FALSE(world.told(0));
  world.edit("a", edit_checkpoints);
  world.settle();
  EXPECT_FALSE(world.told(0));
}

TEST(Assignments, AreAmendedWhateverTheUserEditedMeanwhile) {
  World world = a_running_world();
  world.edit("a", edit_checkpoints);
  world.settle();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.decide_once();
  world.decide_once();
  const contract::Assignment stop{
      .jobUid = "uid-a", .job = "default/a", .generation = 1, .amends = true, .checkpointRequest = 1, .stopAfter = 1};
  EXPECT_EQ(world.told(0), stop);
  EXPECT_EQ(world.told(1), stop);
  EXPECT_EQ(contract::encode(stop).contains("spec"), false);
}

TEST(Assignments, ReleaseAgentsAfterAnEdit) {
  World world = a_running_world();
  world.edit("a", edit_checkpoints);
  world.finish();
  world.settle();
  EXPECT_TRUE(world.pods().empty()) << "the agents were released, and ended";
  EXPECT_TRUE(world.deleted_pods.empty());
}

TEST(Assignments, ReleaseAPodThatIsDeletedSinceItsGangIsMadeAnew) {
  World world = a_running_world();
  world.kubelets_work = false;
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_TRUE(world.cluster.pod({"default", "a-0-1"})->is_finished()) << "its ranks had lost their peers, and wait for them long";
}

TEST(Assignments, ReleaseAPodThatIsDrainedOnceAnotherWorkerIsLost) {
  World world = a_running_world();
  world.kubelets_work = false;
  world.change_pod("a-1-1", [](Pod& pod) { pod.deletion_time = test::at(130); });
  world.settle();
  EXPECT_FALSE(world.told(1)) << "it may write its checkpoint while all are there";
  world.cluster.erase_pod({"default", "a-0-1"});
  world.settle();
  EXPECT_TRUE(world.cluster.pod({"default", "a-1-1"})->is_finished());
}

TEST(Assignments, ReleaseAPodWhosePlaceIsTaken) {
  World world = a_running_world();
  const std::string node = world.pod(1).node;
  world.change_node(node, [](Node& n) { n.ready = false; });
  world.silence(1);
  world.pass(20);
  ASSERT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1", "a-1-2"}));
  world.train(6);
  const auto uid = world.cluster.pod({"default", "a-1-1"})->uid;  // its node is back, its kubelet not yet
  auto view = *world.cluster.agent(uid);
  view.reachable = true;
  world.cluster.put_agent(uid, view);
  world.settle();
  EXPECT_TRUE(world.cluster.pod({"default", "a-1-1"})->is_finished());
  EXPECT_EQ(world.status().uncountedRestarts, 1);
}

TEST(AGang, OfWhichOnlySomeWereToldBeforeTheSpecWasEditedBeginsAgainWithoutCounting) {
  World world = a_world();
  world.settle();
  world.say(1, [](contract::State& state) { state = {.version = 1, .podUid = state.podUid}; });  // it has not heard of it yet
  world.edit("a", edit_checkpoints);
  world.settle();
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts, 0);
  for (int i : {0, 1}) EXPECT_EQ(world.said(i).generation, 2);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
}

TEST(AnEdit, OfEvaluationOrCheckpointsIsToldAndTakesEffectWithTheNextRestart) {
  World world = a_running_world();
  world.edit("a", edit_checkpoints);
  world.pass(10);
  EXPECT_NE(world.condition("Accepted").message.find("takes effect at the next restart"), std::string::npos);
  EXPECT_EQ(world.status().generation, 1);
  world.fail_rank(1, {.reason = "RankCrashed", .message = "crash"});
  world.settle();
  world.pass(10);
  EXPECT_EQ(world.said(0).generation, 2);
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run");
}

}  // namespace
}  // namespace trainyard::decide
