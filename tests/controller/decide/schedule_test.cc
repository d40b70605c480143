// schedule(), as part of jobs' lives. The search for nodes itself is in placement_test.cc.
#include "controller/decide/plan.h"

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::ClusterBuilder;
using test::make_job;
using test::World;

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
  world.pass(10);
  EXPECT_EQ(world.status_writes, writes);
  world.pass(5);
  EXPECT_EQ(world.status_writes, writes + 1);
  EXPECT_NE(world.condition("Placed").message.find("job default/c"), std::string::npos);
}

TEST(AJob, IsPlacedByWhatAdmissionMakesOfItsPods) {
  World world(ClusterBuilder{}
                  .racks(1)
                  .nodes_per_rack(2)
                  .change("node-0",
                          [](Node& node) {
                            node.taints = {{"team", "a", "NoSchedule"}};
                          })
                  .change("node-1",
                          [](Node& node) {
                            node.taints = {{"team", "a", "NoSchedule"}};
                          })
                  .build());
  world.admit_pod = [](Json& pod) {  // a LimitRange, a RuntimeClass and a webhook
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "10";
    pod["spec"]["overhead"] = {{"cpu", "1"}};
    pod["spec"]["tolerations"].push_back({{"key", "team"}, {"operator", "Exists"}});
  };
  world.add(make_job("a", 2));
  world.settle();
  EXPECT_EQ(world.pods().size(), 2u);
  EXPECT_NE(world.pod(0).node, world.pod(1).node) << "a node of 16 cpu holds one worker of 11";
  world.add(make_job("b", 1));
  world.settle();
  EXPECT_NE(world.condition("Placed", "b").message.find("11 cpu"), std::string::npos) << world.condition("Placed", "b").message;
}

TEST(AJob, ThatWaitsMayBeEditedIntoAnything) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).use("node-0", 8, "b").build());
  world.add(make_job("a", 1, 8));
  world.settle();
  for (const char* text : {"5", R"({"spec": 5})", R"({"spec": {"containers": [5]}})",
                           R"({"spec": {"containers": "x", "volumes": [5], "affinity": {"nodeAffinity": 5}}})"}) {
    Job job = world.job();  // in the line still, since nobody has said yet that this is no template
    job.spec.workers.templ = Json::parse(text);
    ++job.generation;
    Cluster edited = world.cluster;
    edited.put(std::move(job));
    ASSERT_TRUE(is_true(edited.job({"default", "a"})->status, condition::kAccepted));
    EXPECT_EQ(schedule(edited, test::at(100)).count({"default", "a"}), 0u) << text;
  }
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

}  // namespace
}  // namespace trainyard::decide
