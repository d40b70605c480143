// How many workers a gang has: fewer than asked for where there is no room, more once there is, another number when the user says so.
#include "controller/decide/elastic.h"

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "crds/contract/layout.h"
#include "crds/contract/validate.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::ClusterBuilder;
using test::World;

using Sizes = std::vector<std::int32_t>;

/// Each worker fills a node; the batch is eight ranks a node, eight nodes.
Job elastic_job(int count, std::optional<int> least, const std::string& name = "a") {
  Job job = test::make_job(name, count, 8);
  job.spec.workers.minCount = least;
  job.spec.training.globalBatchSize = 8 * 8;
  return job;
}
World world_of(int nodes) { return World(ClusterBuilder{}.racks(1).nodes_per_rack(nodes).gpus_per_node(8).build()); }

/// Trains a job of that many workers in a cluster of so many nodes.
World a_world_that_trains(int nodes, const Job& job) {
  World world = world_of(nodes);
  world.add(job);
  world.settle();
  world.train(5);
  world.settle();
  return world;
}
std::int32_t size_of(const World& world, const std::string& name = "a") {
  return world.status(name).placement ? world.status(name).placement->workers.value_or(-1) : 0;
}
void scale(World& world, int count) {
  world.edit("a", [count](contract::TrainingJobSpec& spec) { spec.workers.count = count; });
  world.settle();
}
void add_node(World& world, const std::string& name) {
  Node node = *world.cluster.node("node-0");
  node.name = name;
  world.cluster.put(node);
  world.settle();
}
void lose_node(World& world, const std::string& name) {
  world.cluster.erase_node(name);
  world.settle();
}

TEST(GangSizes, AreThoseWhoseReplicasShareTheBatchEvenly) {
  Job job = elastic_job(8, 1);
  EXPECT_EQ(gang_sizes(job.spec), (Sizes{8, 4, 2, 1}));
  job.spec.workers.minCount = 3;
  EXPECT_EQ(gang_sizes(job.spec), (Sizes{8, 4}));
  job.spec.workers.minCount.reset();
  EXPECT_EQ(gang_sizes(job.spec), Sizes{8});
}

TEST(GangSizes, AreWholeReplicasOfTheModel) {
  Job job = elastic_job(6, 1);
  job.spec.parallelism.tensor = 8;
  job.spec.parallelism.pipeline = 2;
  job.spec.training.globalBatchSize = 6;
  EXPECT_EQ(gang_sizes(job.spec), (Sizes{6, 4, 2})) << "of two workers each; three, two and one of them divide six";
}

TEST(GangSizes, AreThoseThatWouldBeAcceptedAsAJobsCount) {
  int accepted = 0, refused = 0;
  for (const int pipeline : {1, 2, 3}) {
    for (const int micro : {1, 2}) {
      for (const bool interleaved : {false, true}) {
        Job job = test::make_job("a", 12, 2);
        auto& spec = job.spec;
        spec.parallelism.tensor = 2;
        spec.parallelism.pipeline = pipeline;
        spec.parallelism.microBatchSize = micro;
        spec.model.size->layers = 12;
        if (interleaved)
          spec.parallelism.pipelineSchedule = {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 2};
        spec.training.globalBatchSize = 144;
        ASSERT_EQ(contract::to_text(contract::validate(spec)), "");
        spec.workers.minCount = 1;
        Sizes expected;
        for (int size = 12; size >= 1; --size) {
          const bool is_accepted = contract::validate(at_size(spec, size)).empty();
          ++(is_accepted ? accepted : refused);
          if (is_accepted) expected.push_back(size);
        }
        EXPECT_EQ(gang_sizes(spec), expected) << pipeline << " " << micro << " " << interleaved;
      }
    }
  }
  EXPECT_GT(accepted, 40);
  EXPECT_GT(refused, 40);
}

TEST(GangSizes, OfTheEngineCustomAreAllBetweenTheBounds) {
  Job job = test::make_custom_job("a", 4, 8);
  job.spec.workers.minCount = 2;
  EXPECT_EQ(gang_sizes(job.spec), (Sizes{4, 3, 2}));
}

TEST(AGangOfAnotherSize, HasTheDataDegreeThatIsLeft) {
  Job job = elastic_job(8, 1);
  job.spec.parallelism.tensor = 4;
  job.spec.parallelism.data = 16;
  EXPECT_EQ(contract::degrees(at_size(job.spec, 2)).dp, 4);
}

TEST(AnElasticJob, IsPlacedSmallerRatherThanThatItWaits) {
  World world = a_world_that_trains(5, elastic_job(8, 2));
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.pods().size(), 4u);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.taken(0).worldSize, 32);
  EXPECT_EQ(world.taken(3).spec.workers.count, 4);
  EXPECT_EQ(world.status().workers, (contract::WorkersStatus{.desired = 8, .ready = 4}));
  EXPECT_EQ(world.condition("Placed").message, "4 of 8 workers on 4 nodes");
  ASSERT_TRUE(world.has_event("PlacedSmaller"));
  for (const auto& event : world.events) {
    if (event.reason == "PlacedSmaller") {
      EXPECT_EQ(
          event.message,
          "4 of 8 workers on 4 nodes, since there is room for 5 of the 8 workers now; it grows at a checkpoint when there is "
          "room for more");
    }
  }
}

TEST(AnElasticJob, WaitsForItsLeastNumberAndSaysSo) {
  World world = world_of(3);
  world.add(elastic_job(8, 3));
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  EXPECT_EQ(world.condition("Placed").reason, "NeverFits");
  add_node(world, "node-9");
  world.settle();
  EXPECT_EQ(size_of(world), 4);
}

TEST(AnElasticJob, EndsWellWithFewerWorkersThanItAskedFor) {
  World world = a_world_that_trains(4, elastic_job(8, 2));
  world.finish();
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
  EXPECT_TRUE(world.pods().empty()) << "all four were released";
}

TEST(AnElasticJob, GrowsAtACheckpointOnceThereHasBeenRoomForLongEnough) {
  World world = a_world_that_trains(4, elastic_job(8, 2));
  for (int i = 4; i < 8; ++i) add_node(world, "node-" + std::to_string(i));
  world.pass(15);  // its turn to have numbers written
  ASSERT_TRUE(world.status().resize);
  EXPECT_EQ(world.status().resize->workers, 8);
  EXPECT_EQ(size_of(world), 4) << "not at once";
  world.pass(280);
  EXPECT_EQ(size_of(world), 4);
  const auto kept = world.pod(3).uid;
  world.pass(30);
  EXPECT_TRUE(world.has_event("Resizing"));
  EXPECT_EQ(size_of(world), 8);
  EXPECT_EQ(world.pod(3).uid, kept);
  EXPECT_EQ(world.pods().size(), 8u);
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.taken(7).worldSize, 64);
  EXPECT_EQ(world.status().restarts + world.status().uncountedRestarts, 0) << "nothing has failed";
  EXPECT_FALSE(world.status().resize);
  world.train(9);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(AnElasticJob, AsksForACheckpointBeforeItGrows) {
  World world = a_world_that_trains(2, elastic_job(4, 2));
  add_node(world, "node-2");
  add_node(world, "node-3");
  world.pass(15);
  world.now += 320;
  while (world.condition("Running").reason != "Resizing") ASSERT_TRUE(world.decide_once());
  world.decide_once();
  EXPECT_EQ(world.status().phase, Phase::kRunning) << "its ranks write their checkpoint";
  EXPECT_EQ(world.told(0)->checkpointRequest, 1);
  EXPECT_EQ(world.told(0)->stopAfter, 1);
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST(AnElasticJob, DoesNotStopForRoomThatComesAndGoes) {
  World world = a_world_that_trains(2, elastic_job(4, 2));
  add_node(world, "node-2");
  add_node(world, "node-3");
  for (int i = 0; i < 40; ++i) {  // ten hours
    world.pass(250);
    world.change_node("node-3", [](Node& node) { node.unschedulable = true; });
    world.pass(250);
    EXPECT_FALSE(world.status().resize);
    world.change_node("node-3", [](Node& node) { node.unschedulable = false; });
    world.pass(250);
  }
  EXPECT_EQ(world.status().generation, 1);
}

TEST(AnElasticJob, KeepsItsRoomWhileItsCheckpointIsWritten) {
  World world = a_world_that_trains(2, elastic_job(4, 2));
  add_node(world, "node-2");
  add_node(world, "node-3");
  world.pass(15);
  world.now += 320;
  while (world.condition("Running").reason != "Resizing") ASSERT_TRUE(world.decide_once());
  world.add(elastic_job(2, std::nullopt, "b"));
  world.settle();
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(size_of(world, "b"), 0);
}

TEST(AnElasticJob, ThatStopsToGrowDoesNotLeaveItsNodes) {
  World world = a_world_that_trains(2, elastic_job(4, 2));
  add_node(world, "node-2");
  add_node(world, "node-3");
  world.pass(15);
  world.now += 320;
  while (world.condition("Running").reason != "Resizing") ASSERT_TRUE(world.decide_once());
  world.add(elastic_job(4, std::nullopt, "b"));
  world.kubelets_work = false;
  for (int i = 0; i < 3; ++i) world.decide_once();
  EXPECT_EQ(world.condition("Placed", "b").reason, "Unschedulable") << "nobody makes room for it";
}

TEST(AnElasticJob, LeavesRoomToThoseThatWait) {
  World world = a_world_that_trains(2, elastic_job(4, 2));
  Job other = elastic_job(4, std::nullopt, "b");
  world.add(other);
  world.settle();
  EXPECT_EQ(world.condition("Placed", "b").reason, "NeverFits");
  add_node(world, "node-2");
  add_node(world, "node-3");
  world.pass(15);
  world.pass(400);
  EXPECT_EQ(size_of(world), 2) << "b waits for all four";
}

TEST(AnElasticJob, GoesOnSmallerAfterTheLossOfANode) {
  World world = a_world_that_trains(4, elastic_job(4, 2));
  const auto kept = world.pod(0).uid;
  lose_node(world, world.pod(1).node);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.pod(0).uid, kept);
  EXPECT_EQ(world.taken(1).worldSize, 16);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  world.train(7);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  int live = 0;
  for (const auto* pod : world.cluster.pods_of(world.job()))
    live += !pod->is_finished() && world.cluster.node(pod->node) != nullptr;
  EXPECT_EQ(live, 2);
}

TEST(AnElasticJob, KeepsItsPodsWhereItLosesTheLastOnes) {
  World world = a_world_that_trains(4, elastic_job(4, 2));
  const auto first = world.pod(0).uid, second = world.pod(1).uid;
  lose_node(world, world.pod(3).node);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.pod(0).uid, first);
  EXPECT_EQ(world.pod(1).uid, second);
}

TEST(AnElasticJob, IsReplacedAWorkerWhereThereIsRoomRatherThanMadeSmaller) {
  World world = a_world_that_trains(5, elastic_job(4, 2));
  lose_node(world, world.pod(1).node);
  EXPECT_EQ(size_of(world), 4);
}

TEST(AnElasticJob, ThatLosesMoreThanItMayIsRemovedInTheEnd) {
  World world = a_world_that_trains(2, elastic_job(2, 2));
  lose_node(world, world.pod(1).node);
  EXPECT_EQ(world.condition("Placed").reason, "NoReplacement");
  world.pass(700);
  EXPECT_EQ(world.condition("Placed").reason, "NeverFits");
}

Queue queue_of(int gpus) {
  return {.name = "default",
          .uid = "uid-default",
          .resource_version = std::to_string(gpus),
          .generation = 1,
          .flavors = {{.labels = {}, .resources = {{test::kGpu, {gpus, {}, {}}}}}}};
}
std::string quota_of(const World& world) { return world.status().admission->resources.at(test::kGpu).text; }

TEST(AnElasticJob, IsAsLargeAsItsQueuesQuotaLetsItBe) {
  World world = world_of(4);
  world.cluster.put(queue_of(16));
  world.add(elastic_job(4, 1));
  world.settle();
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(quota_of(world), "16");
  world.train(1);
  world.pass(400);
  EXPECT_EQ(size_of(world), 2);
  world.cluster.put(queue_of(32));
  world.settle();
  world.pass(15);
  world.pass(320);
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(quota_of(world), "32");
}

TEST(AnElasticJob, StaysAsItIsWhenItsQueueIsDeleted) {
  World world = world_of(4);
  Queue other = queue_of(32);
  other.name = "other";
  world.cluster.put(queue_of(16));
  world.cluster.put(other);
  world.add(elastic_job(4, 1));
  world.settle();
  world.train(1);
  world.cluster.erase_queue("default");
  world.settle();
  world.pass(400);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(AnElasticJob, GivesQuotaBackWithTheWorkersThatItLoses) {
  World world = world_of(4);
  world.cluster.put(queue_of(32));
  world.add(elastic_job(4, 2));
  world.settle();
  world.train(1);
  world.settle();
  EXPECT_EQ(quota_of(world), "32");
  lose_node(world, world.pod(1).node);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(quota_of(world), "16");
}

TEST(AJobThatIsScaledUp, GrowsAtOnceWhereThereIsRoom) {
  World world = a_world_that_trains(4, elastic_job(2, std::nullopt));
  scale(world, 4);
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().workers.desired, 4);
}

TEST(AJobThatIsScaledUp, TrainsOnUntilThereIsRoom) {
  World world = a_world_that_trains(3, elastic_job(2, std::nullopt));
  scale(world, 4);
  world.pass(1'000);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.status().workers.desired, 4);
  EXPECT_EQ(world.condition("Placed").message, "2 of 4 workers on 2 nodes");
  add_node(world, "node-3");
  EXPECT_EQ(size_of(world), 4);
}

TEST(AJobThatIsScaledUp, MayLoseAWorkerAndGoOnAsItWas) {
  World world = a_world_that_trains(3, elastic_job(2, std::nullopt));
  scale(world, 4);
  lose_node(world, world.pod(1).node);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.status().generation, 2);
}

TEST(AJobThatIsScaledDown, StopsAtACheckpointAndFreesTheRest) {
  World world = a_world_that_trains(4, elastic_job(4, std::nullopt));
  const auto kept = world.pod(1).uid;
  scale(world, 2);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.pods().size(), 2u);
  EXPECT_EQ(world.pod(1).uid, kept);
  EXPECT_EQ(world.taken(0).worldSize, 16);
  world.train(6);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Placed").message, "2 workers on 2 nodes");
}

TEST(AJobThatIsScaledDown, ButIsSuspendedMeanwhileIsSuspended) {
  World world = a_world_that_trains(4, elastic_job(4, std::nullopt));
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.count = 2; });
  world.decide_once();
  ASSERT_EQ(world.condition("Running").reason, "Resizing");
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  EXPECT_FALSE(world.status().resize);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(size_of(world), 2);
}

TEST(AJobThatIsScaled, WithoutCheckpointsTrainsOnUntilItIsMadeAnew) {
  Job job = elastic_job(4, std::nullopt);
  job.spec.checkpoint.reset();
  World world = a_world_that_trains(4, job);
  scale(world, 2);
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.status().generation, 1);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(size_of(world), 2);
}

TEST(AScaledGang, IsNoEditOfWhatItsEnginesTook) {
  World world = a_world_that_trains(3, elastic_job(2, std::nullopt));
  scale(world, 4);
  EXPECT_EQ(world.condition("Accepted").message.find("takes effect"), std::string::npos);
}

TEST(AnElasticCustomJob, TellsItsProgramsHowManyThereAre) {
  World world = world_of(3);
  Job job = test::make_custom_job("a", 4, 8);
  job.spec.workers.minCount = 2;
  world.add(job);
  world.admit_pod = [](contract::Json& pod) {
    std::map<std::string, std::string> env;
    for (const auto& variable : pod.at("/spec/containers/0/env"_json_pointer)) env[variable.at("name")] = variable.at("value");
    if (!pod.at("spec").contains("nodeName")) return;  // the dry run
    EXPECT_EQ(env["WORLD_SIZE"], "24");
    EXPECT_EQ(env["PET_NNODES"], "3");
  };
  world.settle();
  EXPECT_EQ(size_of(world), 3);
  add_node(world, "node-3");
  world.pass(1'000);
  EXPECT_EQ(size_of(world), 3) << "nobody knows when it has written a checkpoint";
  world.admit_pod = nullptr;
  world.exit(1, 9);
  world.pass(60);
  EXPECT_EQ(size_of(world), 4) << "they are all made anew";
}

}  // namespace
}  // namespace trainyard::decide
