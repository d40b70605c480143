// How many workers a gang has: fewer than asked for where there is no room, more once there is, another number when the user says so.
#include "controller/decide/elastic.h"

#include <set>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/next_generation.h"
#include "crds/contract/layout.h"
#include "crds/contract/validate.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using contract::ResizeReason;
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
  EXPECT_EQ(world.condition("Placed").message,
            "4 of 8 workers on 4 nodes, since there is room for 1 of the 4 that are missing of 8 workers now");
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
  EXPECT_EQ(world.status().resize->reason, ResizeReason::kRoomFound);
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
  EXPECT_EQ(world.status().resize,
            (contract::ResizeStatus{ResizeReason::kStopping, 4, contract::to_rfc3339(test::at(world.now))}));
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
  EXPECT_EQ(world.condition("Placed").message,
            "2 of 4 workers on 2 nodes, since there is room for 1 of the 2 that are missing of 4 workers now");
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

// ---- what the API server would not have

TEST(AnElasticJob, RunsWithThePodsThatAResourceQuotaLetsItHave) {
  World world = world_of(8);
  world.pod_quota = 5;
  world.add(elastic_job(8, 2));
  world.settle();
  EXPECT_EQ(world.condition("Placed").reason, "CreatingWorkers");
  world.pass(70);
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.pods().size(), 4u);
  EXPECT_EQ(world.taken(3).worldSize, 32);
  world.train(1);
  for (int i = 0; i < 5; ++i) world.pass(300);
  EXPECT_EQ(world.status().generation, 2) << "eight are not tried again for half an hour";
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_NE(world.condition("Placed").message.find("there was trouble with 8 workers"), std::string::npos)
      << world.condition("Placed").message;
  world.pod_quota.reset();
  for (int i = 0; i < 4; ++i) world.pass(300);
  EXPECT_EQ(size_of(world), 8);
}

TEST(AnElasticJob, RemembersARefusedSizeWhenItIsPlacedWithMoreWorkersThanItHad) {
  World world = world_of(8);
  world.pod_quota = 5;
  world.add(elastic_job(8, 2));
  world.settle();
  world.pass(70);
  ASSERT_EQ(size_of(world), 4);
  world.pod_quota.reset();
  world.train(1);
  world.settle();
  std::set<std::string> used;
  for (int i = 0; i < 4; ++i) used.insert(world.pod(i).node);
  for (int i = 0; i < 8; ++i) {
    if (const std::string name = "node-" + std::to_string(i); !used.contains(name)) lose_node(world, name);
  }
  const std::string lost = world.pod(1).node;
  lose_node(world, lost);
  ASSERT_EQ(size_of(world), 2);
  world.train(2);
  world.settle();
  world.pass(100);  // else the next failure would be one of several in a row
  Node node = *world.cluster.node(world.pod(0).node);
  for (const char* name : {"node-x", "node-y"}) {
    node.name = name;
    world.cluster.put(node);
  }
  lose_node(world, world.pod(1).node);
  EXPECT_EQ(size_of(world), 4);
  ASSERT_TRUE(world.status().resize);
  EXPECT_EQ(world.status().resize->workers, 8);
  EXPECT_EQ(world.status().resize->reason, ResizeReason::kRefused);
}

TEST(AnElasticJob, DoesNotGrowIntoAResourceQuotaThatIsUsedUp) {
  World world = a_world_that_trains(4, elastic_job(8, 2));
  world.pod_quota = 4;
  for (int i = 4; i < 8; ++i) add_node(world, "node-" + std::to_string(i));
  for (int i = 0; i < 10; ++i) world.pass(300);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.condition("Placed").message,
            "4 of 8 workers on 4 nodes, since a ResourceQuota of namespace default has no room for another pod now");
  world.pod_quota.reset();
  for (int i = 0; i < 4; ++i) world.pass(300);
  EXPECT_EQ(size_of(world), 8);
}

TEST(AJobThatIsScaledUp, GoesOnAsItWasWhereTheNewPodsAreRefused) {
  World world = a_world_that_trains(8, elastic_job(4, std::nullopt));
  world.pod_quota = 6;  // a dry run of one pod is accepted
  const auto kept = world.pod(3).uid;
  scale(world, 8);
  EXPECT_EQ(world.condition("Placed").reason, "CreatingWorkers");
  EXPECT_EQ(world.pods().size(), 6u);
  ASSERT_TRUE(world.status().resize);
  EXPECT_EQ(world.status().resize->reason, ResizeReason::kGrewFrom);
  EXPECT_EQ(world.status().resize->workers, 4);
  world.pass(70);
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.status().resize->reason, ResizeReason::kRefused);
  EXPECT_EQ(world.status().resize->workers, 8);
  EXPECT_EQ(world.pods().size(), 4u);
  EXPECT_EQ(world.pod(3).uid, kept);
  EXPECT_EQ(world.status().restarts + world.status().uncountedRestarts, 0);
  world.train(9);
  for (int i = 0; i < 5; ++i) world.pass(300);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().generation, 3);
  world.pod_quota.reset();
  for (int i = 0; i < 4; ++i) world.pass(300);
  EXPECT_EQ(size_of(world), 8);
}

TEST(AnElasticCustomJob, IsMadeAnewSmallerWhereItsPodsAreRefused) {
  World world = world_of(4);
  Job job = test::make_custom_job("a", 4, 8);
  job.spec.workers.minCount = 2;
  world.pod_quota = 3;
  world.add(job);
  world.settle();
  world.pass(70);
  world.pass(130);
  EXPECT_EQ(size_of(world), 3);
  EXPECT_EQ(world.pods().size(), 3u);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

// ---- statuses of an older controller

/// A gang of four whose status does not say how many it has.
World a_world_of_before() {
  World world = a_world_that_trains(4, elastic_job(4, std::nullopt));
  Job old = world.job();
  old.status.placement->workers.reset();
  old.status.placement->wanted.reset();
  old.status.specHash = "of a spec with parallelism.data";
  world.cluster.put(std::move(old));
  return world;
}

TEST(AJobOfBefore, KeepsItsSizeWhenItIsScaledDownUntilItsCheckpointIsWritten) {
  World world = a_world_of_before();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.count = 2; });
  while (world.condition("Running").reason != "Resizing") ASSERT_TRUE(world.decide_once());
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.pods().size(), 4u);
  EXPECT_TRUE(world.deleted_pods.empty());
  world.settle();
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.status().uncountedRestarts, 0);
}

TEST(AJobOfBefore, TrainsOnWhenItIsScaledUpAndThereIsNoRoom) {
  World world = a_world_of_before();
  scale(world, 8);
  world.pass(1'000);
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(AJobOfBefore, IsNotSaidToHaveBeenEdited) {
  World world = a_world_of_before();
  world.settle();
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run");
}

// ---- nodes that failed the job

void avoid(Job& job, const std::string& node, double until) {
  job.status.avoidedNodes.push_back(
      {.node = node, .reason = "GpuFailed", .failures = 1, .generation = 0, .until = contract::to_rfc3339(test::at(until))});
}

TEST(AnElasticJob, IsMadeSmallerRatherThanPutOnANodeThatFailedIt) {
  Job job = elastic_job(4, 2);
  avoid(job, "node-3", 2'000);
  World world = a_world_that_trains(4, job);
  EXPECT_EQ(size_of(world), 2);
  for (int i = 0; i < 2; ++i) EXPECT_NE(world.pod(i).node, "node-3");
  for (int i = 0; i < 5; ++i) world.pass(300);
  EXPECT_EQ(size_of(world), 2) << "nor does it grow onto it";
  EXPECT_NE(world.condition("Placed").message.find("beside the nodes that failed it"), std::string::npos);
  for (int i = 0; i < 4; ++i) world.pass(300);
  EXPECT_EQ(size_of(world), 4) << "it is forgiven";
}

TEST(AnElasticJob, IsPutOnANodeThatFailedItWhereItFindsNoOther) {
  Job job = elastic_job(4, 2);
  for (int i = 1; i < 4; ++i) avoid(job, "node-" + std::to_string(i), 2'000);
  EXPECT_EQ(size_of(a_world_that_trains(4, job)), 4);
}

// ---- while its ranks write their checkpoint

/// Scaled from four to two workers; nobody has told the ranks yet.
World a_world_that_resizes(const Job& job = elastic_job(4, std::nullopt)) {
  World world = a_world_that_trains(4, job);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.count = 2; });
  world.decide_once();
  EXPECT_EQ(world.condition("Running").reason, "Resizing");
  return world;
}

TEST(AResize, IsWaitedForByALeaderThatHasNotHeardTheAgentsYet) {
  World world = a_world_that_resizes();
  std::map<std::string, AgentView> agents = world.cluster.agents();
  for (const auto& [uid, view] : agents) world.cluster.erase_agent(uid);
  for (int i = 0; i < 5; ++i) world.decide_once();
  EXPECT_EQ(world.condition("Placed").reason, "Placed") << "they may train on for all that it knows";
  for (const auto& [uid, view] : agents)
    world.cluster.put_agent(uid, {.reachable = false, .since = test::at(0), .error = "lost"});
  for (int i = 0; i < 5; ++i) world.decide_once();
  EXPECT_EQ(world.condition("Placed").reason, "Placed") << "a poll that failed tells nothing";
  for (const auto& [uid, view] : agents) world.cluster.put_agent(uid, view);
  world.decide_once();
  EXPECT_EQ(world.told(0)->stopAfter, 1);
  world.settle();
  EXPECT_EQ(size_of(world), 2);
}

TEST(AResize, GivesASlowCheckpointTenMinutes) {
  World world = a_world_that_resizes();
  world.now += 500;
  world.decide_once();
  EXPECT_EQ(world.condition("Placed").reason, "Placed");
  world.now += 150;
  world.decide_once();
  EXPECT_EQ(world.condition("Placed").reason, "Resizing");
  EXPECT_NE(world.condition("Running").message.find("wrote no checkpoint within 600 s"), std::string::npos);
}

const contract::Failure kCrash{.exitCode = 70, .reason = "EngineError", .message = "No space left on device"};
const contract::Failure kUncorrectable{
    .exitCode = 70, .reason = "EngineError", .message = "CUDA error: uncorrectable ECC error encountered"};

TEST(AResize, DuringWhichARankFailsTellsAndCountsThat) {
  World world = a_world_that_resizes();
  world.fail_rank(1, kCrash);
  world.settle();
  ASSERT_TRUE(world.status().failure);
  EXPECT_EQ(world.status().failure->worker, 1);
  EXPECT_EQ(world.status().restarts + world.status().uncountedRestarts, 1);
  world.train(7);
  world.settle();
  EXPECT_EQ(size_of(world), 2) << "it is scaled down all the same";
}

TEST(AResize, DuringWhichANodeFailsAvoidsThatNode) {
  World world = a_world_that_resizes();
  const std::string node = world.pod(1).node;
  world.fail_rank(1, kUncorrectable);
  world.settle();
  ASSERT_EQ(world.status().avoidedNodes.size(), 1u);
  EXPECT_EQ(world.status().avoidedNodes.front().node, node);
  EXPECT_NE(world.pod(1).node, node);
}

TEST(AResize, DuringWhichARankFailsObeysTheFailurePolicy) {
  Job job = elastic_job(4, std::nullopt);
  job.spec.lifecycle.failurePolicy.rules = {{.action = contract::FailureAction::kFail, .onExitCodes = {70}}};
  World world = a_world_that_resizes(job);
  world.fail_rank(1, kCrash);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
}

TEST(AnElasticJob, ThatFailsAsItGrowsStaysAsItIsForAWhileAndGivesTheQuotaBack) {
  World world = world_of(2);
  world.cluster.put(queue_of(32));
  world.add(elastic_job(4, 2));
  world.settle();
  world.train(1);
  world.settle();
  add_node(world, "node-2");
  add_node(world, "node-3");
  world.now += 320;
  while (world.condition("Running").reason != "Resizing") ASSERT_TRUE(world.decide_once());
  EXPECT_EQ(quota_of(world), "32");
  world.fail_rank(1, kCrash);
  world.settle();
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(quota_of(world), "16");
  world.train(2);
  for (int i = 0; i < 5; ++i) world.pass(300);
  EXPECT_EQ(world.status().generation, 2);
  for (int i = 0; i < 4; ++i) world.pass(300);
  EXPECT_EQ(size_of(world), 4);
}

// ---- quota

TEST(AJobThatIsScaledDown, GivesQuotaBackThoughItWasNotRunning) {
  World world = world_of(4);
  world.cluster.put(queue_of(32));
  world.add(elastic_job(4, std::nullopt));
  world.settle();
  world.train(1);
  world.settle();
  lose_node(world, world.pod(1).node);
  ASSERT_EQ(world.condition("Placed").reason, "NoReplacement");
  scale(world, 2);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(quota_of(world), "16");
}

// ---- many of them

/// Each of so many jobs of two workers trains with one, on the only node of its kind.
World a_world_of_many(int number) {
  test::ClusterBuilder builder = ClusterBuilder{}.racks(1).nodes_per_rack(number).gpus_per_node(8);
  for (int i = 0; i < number; ++i) {
    builder.change("node-" + std::to_string(i), [i](Node& node) { node.labels["kind"] = "k" + std::to_string(i); });
  }
  World world(builder.build());
  for (int i = 0; i < number; ++i) {
    Job job = elastic_job(2, 1, "j" + std::to_string(1'000 + i));
    job.spec.workers.templ = {{"spec", {{"nodeSelector", {{"kind", "k" + std::to_string(i)}}}}}};
    world.add(job);
  }
  world.settle();
  for (int i = 0; i < number; ++i) world.train(1, "j" + std::to_string(1'000 + i));
  world.settle();
  return world;
}
void add_node_of_kind(World& world, int kind) {
  Node node = *world.cluster.node("node-" + std::to_string(kind));
  node.name = "node-x";
  world.cluster.put(node);
  world.settle();
}

TEST(ElasticJobs, ThatFindNoRoomHideNoneThatDoes) {
  World world = a_world_of_many(30);
  add_node_of_kind(world, 29);
  world.pass(320);
  world.pass(5);
  EXPECT_EQ(size_of(world, "j1029"), 2);
}

TEST(ElasticJobs, OfMoreKindsThanALookCanSearchForHaveTheirTurns) {
  World world = a_world_of_many(120);
  add_node_of_kind(world, 119);
  for (int i = 0; i < 60 && size_of(world, "j1119") == 1; ++i) world.pass(100);
  EXPECT_EQ(size_of(world, "j1119"), 2);
}

// ---- what is told

TEST(AJobThatIsScaled, WithoutCheckpointsSaysWhenThatTakesEffect) {
  Job job = elastic_job(4, std::nullopt);
  job.spec.checkpoint.reset();
  World world = a_world_that_trains(4, job);
  scale(world, 2);
  EXPECT_EQ(
      world.condition("Accepted").message,
      "workers.count was changed to 2, and the gang has 4; it can't be given others at a checkpoint, since spec.checkpoint is "
      "left out: the change takes effect when the job is suspended and resumed, or its workers are placed anew after a "
      "failure");
  scale(world, 4);
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run");
}

TEST(ACustomJobThatIsScaled, SaysWhenThatTakesEffect) {
  World world = world_of(4);
  world.add(test::make_custom_job("a", 2, 8));
  world.settle();
  scale(world, 4);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_NE(world.condition("Accepted").message.find("workers.count was changed to 4, and the gang has 2"), std::string::npos)
      << world.condition("Accepted").message;
}

TEST(AJobThatIsScaledUp, SaysThatItsQuotaHasNoRoom) {
  World world = world_of(4);
  world.cluster.put(queue_of(16));
  world.add(elastic_job(2, std::nullopt));
  world.settle();
  world.train(1);
  world.settle();
  scale(world, 4);
  EXPECT_EQ(world.condition("Placed").message,
            "2 of 4 workers on 2 nodes, since its queue's quota has no room for 4 workers now");
}

TEST(AnElasticJob, TellsThatItIsToGrowAndThatItIsNotAtOnce) {
  World world = a_world_that_trains(2, elastic_job(4, 2));
  add_node(world, "node-2");
  add_node(world, "node-3");
  ASSERT_TRUE(world.status().resize);
  EXPECT_EQ(world.status().resize->at, contract::to_rfc3339(test::at(300)));
  world.pass(200);
  world.change_node("node-3", [](Node& node) { node.unschedulable = true; });
  world.pass(1);
  EXPECT_FALSE(world.status().resize) << "its room was gone for a second";
  world.change_node("node-3", [](Node& node) { node.unschedulable = false; });
  world.pass(1);
  ASSERT_TRUE(world.status().resize);
  EXPECT_EQ(world.status().resize->at, contract::to_rfc3339(test::at(502)));
}

// ---- what a job was accepted for is gone

TEST(AJobThatIsScaledDown, IsNotStoppedWhereItWouldNotBePlacedAgain) {
  Job job = elastic_job(4, std::nullopt);
  job.spec.priorityClassName = "high";
  World world = world_of(4);
  world.cluster.put(PriorityClass{.name = "high", .value = 1'000});
  world.add(job);
  world.settle();
  world.train(1);
  world.settle();
  world.cluster.erase_priority_class("high");
  scale(world, 2);
  world.pass(1'000);
  EXPECT_EQ(size_of(world), 4);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_NE(world.condition("Accepted").message.find("names no PriorityClass of the cluster: high"), std::string::npos)
      << world.condition("Accepted").message;
  world.cluster.put(PriorityClass{.name = "high", .value = 1'000});
  world.settle();
  EXPECT_EQ(size_of(world), 2);
}

TEST(AnElasticJob, DoesNotGrowWhereItsClaimIsGone) {
  Job job = elastic_job(4, 2);
  job.spec.workers.templ =
      Json::parse(R"({"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "corpus"}}]}})");
  World world = world_of(2);
  world.cluster.put(Volume{.name = "volume"});
  world.cluster.put(Claim{.key = {"default", "corpus"}, .phase = "Bound", .volume = "volume"});
  world.add(job);
  world.settle();
  world.train(1);
  world.cluster.erase_claim({"default", "corpus"});
  add_node(world, "node-2");
  add_node(world, "node-3");
  for (int i = 0; i < 4; ++i) world.pass(300);
  EXPECT_EQ(size_of(world), 2);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_NE(world.condition("Placed").message.find("default/corpus"), std::string::npos) << world.condition("Placed").message;
}

TEST(AnElasticJob, GrowsUnderALeaderThatHasYetToAskTheApiServer) {
  World world = a_world_that_trains(2, elastic_job(4, 2));
  world.succeed_controller();
  world.settle();
  add_node(world, "node-2");
  add_node(world, "node-3");
  world.pass(320);
  EXPECT_EQ(size_of(world), 4);
}

TEST(TheNextGeneration, AvoidsTheNamesOfAllWorkersOfALargerGang) {
  World world = a_world_that_trains(4, elastic_job(4, std::nullopt));
  Job scaled = world.job();
  scaled.spec.workers.count = 2;
  Pod left = world.pod(3);
  left.key.name = "a-3-2";
  left.uid = "left";
  world.cluster.put(left);
  EXPECT_EQ(next_generation(world.cluster, scaled), 3);
}

}  // namespace
}  // namespace trainyard::decide
