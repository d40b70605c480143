// A job's life, as sentences. tests/support/world.h carries plans out; settle() also proves that the same cluster gives the same plan
// and that a plan that was carried out leaves nothing to do.
#include "controller/decide/plan.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::ClusterBuilder;
using test::make_job;
using test::World;

TEST(AJob, RunsFromItsCreationToItsEnd) {
  World world = a_world();
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kStarting);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  EXPECT_EQ(world.status().workers, (contract::WorkersStatus{.desired = 2, .ready = 2}));
  ASSERT_TRUE(world.status().placement);
  EXPECT_EQ(world.status().placement->domains, std::vector<std::string>{"rack-0"});
  EXPECT_EQ(world.status().placement->nodes, 2);
  const auto& traffic = world.status().placement->traffic;
  ASSERT_EQ(traffic.size(), 2u);
  EXPECT_EQ(traffic[0], (contract::LevelTraffic{.level = "rack", .bytesPerStep = 0})) << "both are in one";
  EXPECT_EQ(traffic[1].level, "node");
  EXPECT_GT(traffic[1].bytesPerStep, 0);
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
  for (const char* reason : {"Placed", "Training", "Succeeded"}) EXPECT_TRUE(world.has_event(reason)) << reason;
  EXPECT_FALSE(world.has_event("Accepted")) << "it has a place, so it was";
  for (const auto& event : world.events) EXPECT_NE(event.message, "") << event.reason;
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

TEST(TheGeneration, IsInTheStatusBeforeAnythingOfItExists) {
  World world(ClusterBuilder{}.racks(0).build());
  world.add(make_job("a", 2, 8));
  world.settle();
  ASSERT_EQ(world.condition("Placed").reason, "NeverFits") << "there are no nodes";
  const Cluster nodes = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  for (const auto& [name, node] : nodes.nodes()) world.cluster.put(node);
  const auto phases = schedule(world.cluster, test::at(0)).at({"default", "a"}).phases;
  ASSERT_EQ(phases.size(), 3u);
  const auto& write = std::get<WriteStatus>(phases[0].at(0));
  ASSERT_EQ(phases[0].size(), 2u);
  EXPECT_EQ(write.status.generation, 1);
  EXPECT_EQ(write.resource_version, world.job().resource_version);
  EXPECT_EQ(std::get<Event>(phases[1].at(0)).reason, "Placed");  // what happens to the pods takes no transition back
  EXPECT_EQ(std::get<CreateSecret>(phases[0].at(1)).job_uid, "uid-a") << "which is of no generation";
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
    EXPECT_EQ(heir.status().uncountedRestarts, 0);
    for (int i : {0, 1})
      heir.cluster.put_agent(heir.pod(i).uid, {.reachable = false, .since = test::at(100'000), .error = "refused"});
    heir.settle();
    EXPECT_EQ(heir.status().uncountedRestarts, 0);
    heir.pass(10);
    EXPECT_EQ(heir.status().uncountedRestarts, 1);
    EXPECT_EQ(heir.status().failure->reason, "NodeLost");
  }
}

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
