#include "controller/decide/priority.h"

#include <gtest/gtest.h>

#include "controller/decide/pod_template.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::make_job;
using test::World;

Cluster with_classes() {
  Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build();
  cluster.put(PriorityClass{.name = "high", .value = 1000});
  cluster.put(PriorityClass{.name = "polite", .value = 500, .preempts = false});
  cluster.put(PriorityClass{.name = "standard", .value = 10, .is_default = true});
  return cluster;
}

TEST(APriority, IsThatOfTheClassOfTheSpecThenOfTheTemplateThenOfTheClusterThenZero) {
  const Cluster cluster = with_classes();
  Job job = make_job("a");
  EXPECT_EQ(priority_of(cluster, job), (Priority{10, true}));
  EXPECT_EQ(priority_of(Cluster{}, job), (Priority{0, true}));
  job.spec.workers.templ["spec"]["priorityClassName"] = "polite";
  EXPECT_EQ(priority_of(cluster, job), (Priority{500, false}));
  job.spec.priorityClassName = "high";
  EXPECT_EQ(priority_of(cluster, job), (Priority{1000, true}));
}

TEST(AJob, OfAPriorityClassThatIsNotThereSaysSoUntilItIs) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).build());
  world.add(job_of_class("a", "high"));
  world.settle();
  EXPECT_EQ(world.condition("Accepted").reason, "InvalidSpec");
  EXPECT_EQ(world.condition("Accepted").message,
            "spec.priorityClassName: names no PriorityClass of the cluster: high; `kubectl get priorityclasses` lists them");
  world.cluster.put(PriorityClass{.name = "high", .value = 1000});
  world.settle();
  EXPECT_EQ(world.pods().size(), 1u);
}

TEST(Jobs, OfHigherPriorityAreServedBeforeOlderOnes) {
  World world(with_classes());
  world.add(make_job("a", 1, 8));
  world.add(job_of_class("z", "polite"));
  world.settle();
  EXPECT_EQ(world.pods("z").size(), 1u);
  EXPECT_EQ(world.pods("a").size(), 0u);
}

/// The positions of a and b in the line.
std::pair<std::int32_t, std::int32_t> positions(const World& world) {
  const auto position = [&world](const char* name) {
    const auto& queue = world.status(name).queue;
    return queue && queue->position ? *queue->position : 0;
  };
  return {position("a"), position("b")};
}

TEST(AJobThatWaits, MovesInTheLineWhenItsPriorityChanges) {
  World world(with_classes());
  world.add(job_of_class("runs", "high"));
  world.settle();
  for (const char* name : {"a", "b"}) {
    world.now += 1;
    world.add(make_job(name, 1, 8));
  }
  world.settle();
  EXPECT_EQ(positions(world), std::pair(1, 2)) << "the older goes first";
  world.edit("b", [](auto& spec) { spec.priorityClassName = "polite"; });
  for (int i = 0; i < 4; ++i) world.pass(10);
  EXPECT_EQ(positions(world), std::pair(2, 1));
  world.edit("b", [](auto& spec) { spec.priorityClassName.reset(); });
  for (int i = 0; i < 4; ++i) world.pass(10);
  EXPECT_EQ(positions(world), std::pair(1, 2));
  world.edit("b", [](auto& spec) { spec.priorityClassName = "high"; });
  world.settle();
  world.finish("runs");
  world.settle();
  EXPECT_EQ(world.pods("b").size(), 1u);
  EXPECT_TRUE(world.pods("a").empty());
}

TEST(AJobThatWaits, StopsOthersOnceItsPriorityIsRaised) {
  World world(with_classes());
  world.add(make_job("runs", 1, 8));
  world.settle();
  world.train(1, "runs");
  world.now += 1;
  world.add(make_job("a", 1, 8));
  world.settle();
  EXPECT_EQ(world.status("runs").preemptions, 0);
  world.edit("a", [](auto& spec) { spec.priorityClassName = "high"; });
  world.settle();
  EXPECT_EQ(world.status("runs").preemptions, 1);
  EXPECT_EQ(world.pods("a").size(), 1u);
}

TEST(AJobThatRuns, IsStoppedForOthersOnceItsPriorityIsLowered) {
  World world(with_classes());
  world.add(job_of_class("runs", "high"));
  world.settle();
  world.train(1, "runs");
  world.now += 1;
  world.add(job_of_class("a", "high"));
  world.settle();
  EXPECT_EQ(world.status("runs").preemptions, 0) << "of equals none stops the other";
  const std::string pod = world.pod(0, "runs").uid;
  world.edit("runs", [](auto& spec) { spec.priorityClassName = "polite"; });
  world.decide_once();
  EXPECT_EQ(world.condition("Running", "runs").reason, "Preempting") << "at a checkpoint, in the pod that it has";
  EXPECT_EQ(world.pod(0, "runs").uid, pod);
  world.settle();
  EXPECT_EQ(world.status("runs").preemptions, 1);
  EXPECT_EQ(world.status("runs").restarts + world.status("runs").uncountedRestarts, 0);
  EXPECT_EQ(world.pods("a").size(), 1u);
}

TEST(AJobThatRuns, IsSparedOnceItsPriorityIsRaised) {
  Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  const Cluster classes = with_classes();
  for (const auto& [name, priority_class] : classes.priority_classes()) cluster.put(priority_class);
  const auto victim = [&cluster](bool is_raised) {
    World world(cluster);
    for (const char* name : {"a", "b"}) {
      world.add(make_job(name, 1, 8));
      world.settle();
      world.train(1, name);
      world.settle();
      world.pass(name == std::string("a") ? 1'000 : 10);  // b loses less by its end
    }
    const std::string pod = world.pod(0, "b").uid;
    if (is_raised) world.edit("b", [](auto& spec) { spec.priorityClassName = "polite"; });
    world.settle();
    EXPECT_EQ(world.pod(0, "b").uid, pod) << "the change alone stops nobody";
    world.add(job_of_class("urgent", "high"));
    world.settle();
    return std::pair(world.status("a").preemptions, world.status("b").preemptions);
  };
  EXPECT_EQ(victim(false), std::pair(0, 1));
  EXPECT_EQ(victim(true), std::pair(1, 0));
}

TEST(Pods, CarryTheirJobsPriorityClass) {
  const Job job = job_of_class("a", "high");
  EXPECT_EQ(worker_pod(job, {}, {.worker = 0, .generation = 1, .node = "n"}).at("/spec/priorityClassName"_json_pointer), "high");
}

TEST(ATemplate, ThatNamesAnotherPriorityClassThanItsJobIsRefused) {
  World world(with_classes());
  Job job = job_of_class("a", "high");
  job.spec.workers.templ["spec"]["priorityClassName"] = "polite";
  world.add(job);
  world.settle();
  EXPECT_NE(world.condition("Accepted").message.find("is \"polite\", and spec.priorityClassName is high; leave it out here"),
            std::string::npos)
      << world.condition("Accepted").message;
}

}  // namespace
}  // namespace trainyard::decide
