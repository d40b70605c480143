// Where spares are placed, and who comes before them.
#include "controller/decide/spare_places.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::make_job;
using test::World;
using Names = std::vector<std::string>;

Job job_with_spares(const std::string& name, int workers, int spares, int gpus = 8) {
  Job job = make_job(name, workers, gpus);
  job.spec.workers.spares = spares;
  return job;
}

World a_world_of(int racks, int nodes_per_rack, const Job& job) {
  World world(ClusterBuilder{}.racks(racks).nodes_per_rack(nodes_per_rack).gpus_per_node(8).build());
  world.add(job);
  world.settle();
  return world;
}

std::string node_of(const World& world, const std::string& pod) { return world.cluster.pod({"default", pod})->node; }

TEST(AGangWithSpares, StartsWithThoseThatFindRoomAndSaysSo) {
  World world = a_world_of(1, 4, job_with_spares("a", 3, 2));
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1", "a-2-1", "a-s1-1"}));
  EXPECT_EQ(world.status().spares->placed, 1);
  EXPECT_TRUE(world.status().spares->message);
  EXPECT_EQ(world.condition("Placed").message, "3 workers on 3 nodes and 1 of 2 spares");
  Node more = world.cluster.nodes().at("node-0");
  more.name = "node-9";
  world.cluster.put(more);
  world.pass(20);
  EXPECT_EQ(world.status().spares->placed, 2);
  EXPECT_EQ(node_of(world, "a-s2-1"), "node-9");
  EXPECT_FALSE(world.status().spares->message);
}

TEST(AGangWithSpares, StartsWithoutAnyRatherThanWait) {
  World world = a_world_of(1, 2, job_with_spares("a", 2, 1));
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1"}));
  EXPECT_EQ(world.status().spares->placed, 0);
  const auto writes = world.status_writes;
  for (int i = 0; i < 20; ++i) world.pass(60);
  EXPECT_LE(world.status_writes, writes + 1) << "it waits without a word";
}

TEST(AGangWithSpares, HasThemBeforeThoseBehindItInTheLine) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(3).gpus_per_node(8).build());
  world.add(job_with_spares("a", 2, 1));
  world.now = 1;
  world.add(make_job("b", 1, 8));
  world.settle();
  EXPECT_EQ(world.pods("a").size(), 3u);
  EXPECT_TRUE(world.pods("b").empty());
}

TEST(ASpareThatWasUsed, IsMadeAnewOnlyOfWhatOthersLeave) {
  World world = a_world_of(1, 3, job_with_spares("a", 2, 1));
  world.train(1);
  world.settle();
  world.add(make_job("b", 1, 8));
  world.settle();
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.pods("a"), (Names{"a-0-1", "a-s1-1"}));
  EXPECT_EQ(world.pods("b").size(), 1u) << "b waited before there was a second spare to be made";
  EXPECT_EQ(world.status("a").spares->placed, 0);
}

TEST(Spares, LieOnNodesWithoutAWorkerOfTheirGangWhereThereAreSuch) {
  World world = a_world_of(1, 2, job_with_spares("a", 2, 1, 2));  // node-0 has room for four
  ASSERT_EQ(node_of(world, "a-0-1"), node_of(world, "a-1-1"));
  EXPECT_NE(node_of(world, "a-s1-1"), node_of(world, "a-0-1"));
}

TEST(Spares, LieBesideAWorkerWhereThereIsNoOtherNode) {
  World world = a_world_of(1, 1, job_with_spares("a", 2, 1, 2));
  EXPECT_EQ(world.pods().size(), 3u);
}

TEST(Spares, LieInTheGangsDomainWherePackIsRequired) {
  Job job = job_with_spares("a", 2, 1);
  job.spec.placement.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
  // rack-0 has two free nodes, which would be the tighter place; rack-1 has three.
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(3).gpus_per_node(8).use("node-0", 8).build());
  world.add(job);
  world.settle();
  EXPECT_EQ(node_of(world, "a-0-1"), "node-3");
  EXPECT_EQ(node_of(world, "a-s1-1"), "node-5");
}

TEST(AGangWithSpares, IsPlacedInADomainWithoutRoomForThemRatherThanWait) {
  Job job = job_with_spares("a", 2, 1);
  job.spec.placement.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
  World world = a_world_of(2, 2, job);
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1"})) << "and no spare lies in the other rack";
}

TEST(Spares, CountInTheQuotaOfTheirQueue) {
  Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(5).gpus_per_node(8).build();
  Queue queue{.name = "research", .uid = "uid-research", .resource_version = "1"};
  queue.flavors = {Flavor{.labels = {}, .resources = {{test::kGpu, QuotaLimits{.nominal = 32, .borrowing = {}, .lending = {}}}}}};
  cluster.put(queue);
  World world(std::move(cluster));
  Job job = job_with_spares("a", 3, 2);
  job.spec.queue = "research";
  world.add(job);
  world.settle();
  EXPECT_EQ(world.pods().size(), 4u) << "a fifth has a node, and no quota";
  EXPECT_EQ(world.status().admission->resources.at(test::kGpu).text, "32");
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.spares = 0; });
  world.settle();
  EXPECT_EQ(world.status().admission->resources.at(test::kGpu).text, "24");
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.spares = 1; });
  world.settle();
  EXPECT_EQ(world.status().admission->resources.at(test::kGpu).text, "32");
  world.train(1);
  world.settle();
  world.cluster.erase_pod({"default", "a-0-1"});
  world.settle();
  EXPECT_EQ(world.pods().size(), 4u);
  EXPECT_EQ(world.status().admission->resources.at(test::kGpu).text, "32") << "one was used, and another one made";
}

TEST(Spares, AvoidNodesThatFailedTheJob) {
  World world = a_world_of(1, 4, job_with_spares("a", 2, 1));
  world.train(1);
  world.settle();
  const std::string failing = world.pod(1).node;
  world.fail_rank(1, {.rank = 1,
                      .exitCode = contract::kEngineErrorExitCode,
                      .reason = "EngineError",
                      .message = "it failed",
                      .lastLines = {"CUDA error: uncorrectable ECC error encountered"}});
  world.settle();
  world.pass(20);
  ASSERT_EQ(world.status().avoidedNodes.size(), 1u);
  EXPECT_EQ(world.pod(1).key.name, "a-s1-1");
  EXPECT_EQ(world.status().spares->placed, 1);
  EXPECT_NE(node_of(world, "a-s2-2"), failing);
}

TEST(SparesThatTheApiServerRefuses, AreAskedForEverMoreSlowly) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(3).gpus_per_node(8).build());
  world.pod_quota = 2;
  world.add(job_with_spares("a", 2, 1));
  for (int i = 0; i < 3; ++i) world.pass(1);
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1"})) << "the quota is the workers'";
  world.train(1);
  for (int i = 0; i < 120; ++i) world.pass(1);
  EXPECT_LE(world.status().spares->made, 6) << "in two minutes";
  EXPECT_EQ(world.status().phase, contract::Phase::kRunning);
  EXPECT_NE(world.status().spares->message.value_or("").find("exceeded quota: pods"), std::string::npos);
  world.pod_quota.reset();
  world.pass(600);
  EXPECT_EQ(world.pods().size(), 3u);
}

TEST(ADryRunOfAJobWithSpares, TellsHowManyThereWouldBe) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(3).gpus_per_node(8).build());
  Job job = job_with_spares("a", 2, 2);
  job.spec.dryRun = true;
  world.add(job);
  world.settle();
  EXPECT_NE(world.condition("Placed").message.find("with 1 of 2 spares"), std::string::npos) << world.condition("Placed").message;
}

TEST(Spares, AreRefusedWhereNobodySeesNodes) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(3).gpus_per_node(8).build());
  world.cluster.settings.sees_cluster = false;
  Job job = job_with_spares("a", 1, 1);
  job.spec.placement.binding = contract::Binding::kScheduler;
  world.add(job);
  world.settle();
  EXPECT_NE(world.condition("Accepted").message.find("spec.workers.spares: must be 0 or left out"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::decide
