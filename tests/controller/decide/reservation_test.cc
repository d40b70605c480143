// Who waits, who may fill a hole meanwhile, and what each is told.
#include "controller/decide/reservation.h"

#include <gtest/gtest.h>

#include "controller/decide/pod_template.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::make_job;
using test::World;

Job job_with_deadline(const char* name, int workers, int gpus, std::int64_t seconds) {
  Job job = make_job(name, workers, gpus);
  job.spec.lifecycle.activeDeadlineSeconds = seconds;
  return job;
}

TEST(ALargeJob, AtTheHeadOfTheLineIsNotStarvedBySmallOnes) {
  World world = a_rack_of(2);
  submit(world, make_job("first", 1, 8));
  submit(world, make_job("large", 2, 8));
  submit(world, make_job("small", 1, 8));
  EXPECT_EQ(world.condition("Placed", "large").reason, "Unschedulable");
  EXPECT_TRUE(world.pods("small").empty()) << "it would hold what the large one needs, for who knows how long";
  EXPECT_EQ(world.condition("Placed", "small").reason, "Reserved");
  EXPECT_EQ(
      world.condition("Placed", "small").message,
      "there is room now, which is kept for default/large, before it in the line; a job with lifecycle.activeDeadlineSeconds "
      "may use it until then, where it is over in time; when it starts nobody can know: default/first comes before it, has no "
      "lifecycle.activeDeadlineSeconds and tells no time left.");
  world.train(1, "first");
  world.finish("first");
  world.settle();
  EXPECT_EQ(world.pods("large").size(), 2u);
  EXPECT_TRUE(world.pods("small").empty());
}

TEST(ALargeJob, HasRoomKeptForItInTheSameLookInWhichAnotherIsPlacedBeforeIt) {
  World world = a_rack_of(4);
  for (const char* name : {"a-before", "b-large", "c-small", "d-small"}) {
    world.add(make_job(name, name[0] == 'b' ? 4 : 1, 8));
    world.now += 1;
  }
  world.settle();
  EXPECT_EQ(world.pods("a-before").size(), 1u);
  EXPECT_TRUE(world.pods("c-small").empty());
  EXPECT_TRUE(world.pods("d-small").empty());
}

TEST(ALargeJob, WhoseTemplateTheNextControllerHasYetToAskAboutKeepsItsPlaceInTheLine) {
  World world = a_rack_of(2);
  submit(world, make_job("first", 1, 8));
  submit(world, make_job("large", 2, 8));
  submit(world, make_job("small", 1, 8));
  ASSERT_EQ(world.condition("Placed", "small").reason, "Reserved");
  world.succeed_controller();
  const auto small = world.job("small");
  const auto pod = worker_pod(small, world.cluster.settings, {.worker = 0, .generation = 1, .node = {}});
  world.cluster.put_template_check(small.uid, template_hash(small.spec, world.cluster.settings),
                                   {.accepted = true, .needs = read_pod_needs(pod.at("spec")), .at = test::at(world.now)});
  const auto plans = schedule(world.cluster, test::at(world.now));
  const auto found = plans.find({"default", "small"});
  EXPECT_TRUE(found == plans.end() || found->second.phases.size() < 3) << "its pods would be made";
  world.settle();
  EXPECT_TRUE(world.pods("small").empty());
}

TEST(AJobAtTheHead, IsLookedAtAgainWhenTheGangThatItWaitsForShouldHaveEnded) {
  World world = a_rack_of(1);
  submit(world, make_job("first", 1, 8));
  tell_time_left(world, 20, "first");
  submit(world, make_job("second", 1, 8));
  const auto plans = schedule(world.cluster, test::at(world.now));
  ASSERT_TRUE(plans.contains({"default", "second"}));
  ASSERT_TRUE(plans.at({"default", "second"}).look_again);
  EXPECT_LE(*plans.at({"default", "second"}).look_again, std::chrono::seconds(20));
  world.now += 16;  // it is told anew where it is
  const auto later = schedule(world.cluster, test::at(world.now));
  ASSERT_TRUE(later.contains({"default", "second"}));
  EXPECT_TRUE(later.at({"default", "second"}).look_again);
}

TEST(AReservation, IsNotOfNodesThatItsOwnJobHolds) {
  World world = a_rack_of(2);
  submit(world, make_job("a", 1, 8));
  submit(world, make_job("b", 1, 8));
  Topology topology(world.cluster);
  const Gang gang{.count = 1, .requests = {{test::kGpu, 8}}};
  const auto found = reserve(topology, holdings(world.cluster, topology, test::at(world.now)), {}, gang, world.job("a"));
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->takes.contains(static_cast<std::size_t>(topology.find_node(world.pod(0, "b").node))));
}

TEST(APod, ThatWasToBeGoneLongAgoIsNotTakenForOneThatLeaves) {
  Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).use("node-0", 8).build();
  Pod pod = *cluster.pod({"default", "taken-0"});
  pod.deletion_time = test::at(30);
  cluster.put(pod);
  const Topology topology(cluster);
  ASSERT_EQ(holdings(cluster, topology, test::at(5)).size(), 1u);
  EXPECT_EQ(holdings(cluster, topology, test::at(5)).front().ends, test::at(30));
  EXPECT_TRUE(holdings(cluster, topology, test::at(100)).empty());
}

TEST(ASmallJob, FillsTheHoleWhereItIsOverBeforeTheLargeOneStarts) {
  World world = a_rack_of(2);
  submit(world, make_job("first", 1, 8));
  tell_time_left(world, 1000, "first");
  submit(world, make_job("large", 2, 8));
  submit(world, job_with_deadline("long", 1, 8, 2000));
  submit(world, job_with_deadline("short", 1, 8, 500));
  EXPECT_TRUE(world.pods("long").empty());
  EXPECT_NE(world.condition("Placed", "long").message.find("it would not be over by then"), std::string::npos);
  EXPECT_EQ(world.pods("short").size(), 1u);
}

TEST(AJob, ThatTakesNothingThatTheHeadNeedsIsPlacedOnItsNodes) {
  World world = a_rack_of(2);
  submit(world, make_job("first", 1, 8));
  submit(world, make_job("large", 2, 8));
  submit(world, make_job("on-cpus", 3, 0));
  EXPECT_EQ(world.pods("on-cpus").size(), 3u);
}

TEST(AJob, ThatLeavesTheHeadsNodesAloneIsPlaced) {
  // The large one gets the nodes of `first`, whose end is known, and the free one; `forever` is on another.
  World world = a_rack_of(4);
  submit(world, make_job("forever", 1, 8));
  submit(world, make_job("first", 1, 8));
  tell_time_left(world, 100, "first");
  submit(world, make_job("half", 1, 4));
  submit(world, make_job("large", 2, 8));
  submit(world, make_job("small", 1, 4));
  ASSERT_TRUE(world.pods("large").empty());
  ASSERT_EQ(world.pods("small").size(), 1u);
  EXPECT_EQ(world.pod(0, "small").node, world.pod(0, "half").node);
}

TEST(AJobThatWaits, KnowsItsPlaceInTheLineAndWhenItIsExpectedToStart) {
  World world = a_rack_of(2);
  submit(world, make_job("first", 2, 8));
  tell_time_left(world, 1000, "first");
  const auto end = *contract::parse_rfc3339(world.status("first").progress->updatedAt) + std::chrono::seconds(1000);
  submit(world, make_job("second", 2, 8));
  submit(world, make_job("third", 2, 8));
  ASSERT_TRUE(world.status("second").queue);
  EXPECT_EQ(world.status("second").queue->position, 1);
  EXPECT_EQ(world.status("second").queue->estimatedStartTime, contract::to_rfc3339(end));
  EXPECT_EQ(world.status("second").queue->firstEstimate, contract::to_rfc3339(end));
  EXPECT_EQ(world.status("third").queue->position, 2);
  EXPECT_EQ(world.status("third").queue->estimatedStartTime, std::nullopt) << "nobody knows how long the second one takes";
  EXPECT_EQ(world.status("first").queue, std::nullopt);
}

TEST(AJobThatHasStarted, TellsHowFarItsFirstEstimateWasOffAndTheOthersLearnFromIt) {
  World world = a_rack_of(1);
  submit(world, make_job("first", 1, 8));
  tell_time_left(world, 100, "first");
  submit(world, make_job("second", 1, 8));
  world.pass(130);
  const auto promised = *contract::parse_rfc3339(*world.status("second").queue->firstEstimate);
  world.finish("first");
  world.settle();
  ASSERT_EQ(world.pods("second").size(), 1u);
  const auto delay = std::chrono::round<std::chrono::seconds>(test::at(world.now) - promised).count();
  ASSERT_GT(delay, 20);
  EXPECT_EQ(world.status("second").queue->startDelaySeconds, delay);
  EXPECT_EQ(world.status("second").queue->position, std::nullopt);
  tell_time_left(world, 100, "second");
  submit(world, make_job("third", 1, 8));
  EXPECT_EQ(world.status("third").queue->estimateErrorSeconds, delay);
}

TEST(AReservation, IsForTheFewestGangsThatMustEndAndGoesToTheirNodes) {
  World world = a_rack_of(3);
  submit(world, make_job("a", 1, 8));
  submit(world, make_job("b", 1, 8));
  submit(world, make_job("c", 1, 8));
  tell_time_left(world, 300, "a");
  tell_time_left(world, 100, "b");
  Topology topology(world.cluster);
  const auto held = holdings(world.cluster, topology, test::at(world.now));
  const Job job = make_job("waits", 2, 8);
  const Gang gang{.count = 2, .requests = {{test::kGpu, 8}}};
  const auto found = reserve(topology, held, {}, gang, job);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->start, held[1].ends);
  EXPECT_EQ(held[1].job->key.name, "a");
  const auto index = [&](const char* name) { return static_cast<std::size_t>(topology.find_node(world.pod(0, name).node)); };
  EXPECT_EQ(found->takes.size(), 2u);
  EXPECT_TRUE(found->takes.contains(index("a")) && found->takes.contains(index("b")));
  EXPECT_EQ(found->leaves.at(index("a"))[test::kGpu], 0);
  // Beside that one, there is room for another of one worker only when c is gone, of which nobody knows the end.
  const Gang one{.count = 1, .requests = {{test::kGpu, 8}}};
  const auto next = reserve(topology, held, {*found}, one, job);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->start, std::nullopt);
  EXPECT_TRUE(next->takes.contains(index("c")));
  EXPECT_FALSE(reserve(topology, held, {*found, *next}, one, job));
}

TEST(AReservation, OutlastsAMomentInWhichANodeIsNotReadyAndNoMore) {
  World world = a_rack_of(3);
  submit(world, make_job("first", 1, 8));
  submit(world, make_job("large", 3, 8));
  const auto not_ready = [&world](const std::string& name) {
    world.change_node(name, [&](Node& node) {
      node.ready = false;
      node.ready_since = test::at(world.now);
    });
  };
  const std::string busy = world.pod(0, "first").node;
  const std::string away = busy == "node-0" ? "node-1" : "node-0";
  not_ready(away);
  world.now += 2;
  submit(world, make_job("small", 1, 8));
  EXPECT_TRUE(world.pods("small").empty()) << "what is left of the large one's room is still its own";
  world.pass(20);
  EXPECT_EQ(world.pods("small").size(), 1u) << "the node is lost, and without it there is never room for the large one";
}

TEST(Holdings, OfAnUnknownEndComeLastTheOldestFirst) {
  World world = a_rack_of(3);
  submit(world, make_job("z", 1, 8));
  submit(world, make_job("a", 1, 8));
  submit(world, make_job("b", 1, 8));
  tell_time_left(world, 300, "b");
  std::vector<std::string> names;
  for (const auto& holding : holdings(world.cluster, Topology(world.cluster), test::at(world.now))) {
    names.push_back(holding.job->key.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"b", "z", "a"}));
}

}  // namespace
}  // namespace trainyard::decide
