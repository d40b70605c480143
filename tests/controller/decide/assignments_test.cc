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

}  // namespace
}  // namespace trainyard::decide
