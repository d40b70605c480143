// Of jobs that run any program, those of one worker: it has nobody to find, and is told of in fewer words.
#include <algorithm>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/plan.h"
#include "tests/support/world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::ClusterBuilder;
using test::World;

TEST(ALoneWorker, GetsAServiceOnceItsGangHasSeveral) {
  World world(ClusterBuilder{}.racks(0).build());
  world.add(test::make_custom_job("a", 1, 8));
  world.settle();
  const Cluster nodes = ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build();
  for (const auto& [name, node] : nodes.nodes()) world.cluster.put(node);
  const auto makes_service = [&world] {
    const auto plans = schedule(world.cluster, test::at(world.now));
    const auto& first = plans.at({"default", "a"}).phases.at(0);
    return std::any_of(first.begin(), first.end(),
                       [](const Action& action) { return std::holds_alternative<CreateService>(action); });
  };
  EXPECT_FALSE(makes_service());
  world.settle();
  ASSERT_EQ(world.pods(), std::vector<std::string>{"a-0-1"});
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.count = 2; });
  world.settle();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(60);
  ASSERT_TRUE(world.pods().empty());
  for (const auto& [name, node] : nodes.nodes()) world.cluster.erase_node(name);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.pass(60);
  for (const auto& [name, node] : nodes.nodes()) world.cluster.put(node);
  EXPECT_TRUE(makes_service());
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(ALoneWorker, WhoseProgramIsUpAtOnceIsToldSoInOneWordWithItsPlace) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build());
  world.kubelets_work = false;
  world.add(test::make_custom_job("a", 1, 8));
  world.settle();  // the pod is there, and decided about, before its program runs
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Placed").reason, reason::kGangPlaced);
  EXPECT_EQ(world.status_writes, 2) << "its generation, and that it runs";
}

TEST(ALoneWorker, WhoseProgramTakesItsTimeIsToldAfterSomeSecondsThatItsPodIsThere) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build());
  world.kubelets_work = false;
  world.add(test::make_custom_job("a", 1, 8));
  world.settle();
  world.pass(4);
  EXPECT_EQ(world.condition("Placed").reason, reason::kCreatingWorkers);
  world.pass(1);
  EXPECT_EQ(world.condition("Placed").reason, reason::kGangPlaced);
  EXPECT_EQ(world.status().phase, Phase::kStarting);
}

TEST(SeveralWorkers, WhoseProgramsAreUpAtOnceAreToldSoInOneWordWithTheirPlace) {
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  world.kubelets_work = false;
  world.add(test::make_custom_job("a", 2, 8));
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, reason::kCreatingWorkers);
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Placed").reason, reason::kGangPlaced);
  EXPECT_EQ(world.status_writes, 2) << "its generation, and that it runs";
}

TEST(SeveralWorkers, WhoseProgramsTakeTheirTimeAreToldSoonThatTheirPodsAreThere) {
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  world.kubelets_work = false;
  world.add(test::make_custom_job("a", 2, 8));
  world.settle();
  const Plan plan = plan_job(world.cluster, {"default", "a"}, test::at(world.now));
  ASSERT_TRUE(plan.look_again);
  EXPECT_EQ(*plan.look_again, std::chrono::milliseconds(200)) << "not at the end of a whole second";
  EXPECT_TRUE(plan_job(world.cluster, {"default", "a"}, test::at(world.now + 0.125)).phases.empty());
  EXPECT_FALSE(plan_job(world.cluster, {"default", "a"}, test::at(world.now + 0.25)).phases.empty())
      << "whatever it is looked at for";
  world.pass(1);
  EXPECT_EQ(world.condition("Placed").reason, reason::kGangPlaced);
  EXPECT_EQ(world.status().phase, Phase::kStarting);
}

TEST(ALoneWorker, WhosePodIsDeletedBeforeItIsUpIsToldSoAtOnce) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build());
  world.kubelets_work = false;
  world.add(test::make_custom_job("a", 1, 8));
  world.settle();
  world.change_pod("a-0-1", [](Pod& pod) { pod.deletion_time = test::at(30); });
  world.settle();
  EXPECT_NE(world.condition("Placed").reason, reason::kCreatingWorkers) << "its successor is of the next generation";
}

}  // namespace
}  // namespace trainyard::decide
