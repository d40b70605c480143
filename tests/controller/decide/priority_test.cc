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

Job job_of_class(const char* name, const char* priority_class) {
  Job job = make_job(name, 1, 8);
  job.spec.priorityClassName = priority_class;
  return job;
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
            "spec.priorityClassName: names no PriorityClass of the cluster: high; `kubectl get priorityclasses` lists them\n");
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
