// Who waits for quota, who may have it meanwhile, and who takes back his own.

#include "controller/decide/admission.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world_of_queues.h"

namespace trainyard::decide {
namespace {

using test::World;

Job job_with_deadline(const char* queue, const char* name, std::int64_t seconds) {
  Job job = job_in(queue, name);
  job.spec.lifecycle.activeDeadlineSeconds = seconds;
  return job;
}

void tell_time_left_for_ten_seconds(World& world, std::int64_t seconds, const std::string& name) {
  world.say(
      0, [seconds](contract::State& state) { state.progress->remainingSeconds = seconds; }, name);
  world.pass(10);
}

std::string why_it_waits(const World& world, const std::string& name) { return world.condition("Placed", name).message; }

/// What a and b may use is their parent's alone; all of it is b's in two jobs, but for `free` GPUs.
World a_world_of_borrowers(int free) {
  World world =
      a_world_of(8, {make_queue("org", {gpus(16 + free)}), make_queue("a", {gpus(0)}, "org"), make_queue("b", {gpus(0)}, "org")});
  start(world, job_in("b", "b1"));
  start(world, job_in("b", "b2"));
  EXPECT_TRUE(runs(world, "b1") && runs(world, "b2"));
  return world;
}

TEST(TheFirstThatWaitsToBorrow, IsNotStarvedByJobsOfAnotherQueueThatBorrowInTurns) {
  World world = a_world_of_borrowers(0);
  start(world, job_in("a", "large", 2));
  start(world, job_in("b", "small"));
  end(world, "b1");
  world.pass(20);
  EXPECT_TRUE(world.pods("large").empty()) << "it needs all that b1 and b2 had";
  EXPECT_TRUE(world.pods("small").empty()) << "it would take what the large one waits for";
  EXPECT_EQ(
      why_it_waits(world, "small"),
      "TrainingQueue b: on any node: nvidia.com/gpu needs 8, 8 free (nominal 0, used 8, may borrow 16; kept for TrainingQueue "
      "a, whose turn to borrow comes before); when it starts nobody can know: default/b2 comes before it, has no "
      "lifecycle.activeDeadlineSeconds and tells no time left.");
  end(world, "b2");
  EXPECT_EQ(world.pods("large").size(), 2u);
  EXPECT_TRUE(world.pods("small").empty());
  world.train(1, "large");
  end(world, "large");
  EXPECT_FALSE(world.pods("small").empty());
}

TEST(TheFirstThatWaitsToBorrow, KeepsNobodyFromHisOwnQuota) {
  World world = a_world_of(8, {make_queue("org", {gpus(16)}), make_queue("a", {gpus(0)}, "org"),
                               make_queue("b", {gpus(0)}, "org"), make_queue("c", {gpus(8)}, "org")});
  start(world, job_in("b", "b1"));
  start(world, job_in("b", "b2"));
  start(world, job_in("a", "large", 3));
  start(world, job_in("c", "c1"));
  EXPECT_TRUE(world.pods("large").empty());
  EXPECT_TRUE(runs(world, "c1")) << "8 are free, and they are its own";
}

TEST(TheFirstThatWaitsToBorrow, KeepsNobodyWaitingWhereOthersUseTheirOwnSoThatItCouldNotBorrowIt) {
  World world = a_world_of(8, {make_queue("org", {gpus(8)}), make_queue("a", {gpus(0)}, "org"),
                               make_queue("b", {gpus(16)}, "org"), make_queue("c", {gpus(0)}, "org")});
  start(world, job_in("b", "b1", 2));
  start(world, job_in("a", "large", 2));
  EXPECT_EQ(world.condition("Placed", "large").reason, "QuotaExceeded") << "without b's job there would be enough";
  start(world, job_in("c", "c1"));
  EXPECT_TRUE(runs(world, "c1")) << "b may use its own for ever";
  end(world, "b1");
  EXPECT_EQ(world.pods("large").size(), 2u);
}

TEST(TheFirstThatWaitsToBorrow, LeavesTheQuotaMeanwhileToAJobThatIsOverInTime) {
  World world = a_world_of_borrowers(8);
  tell_time_left_for_ten_seconds(world, 1000, "b1");
  tell_time_left_for_ten_seconds(world, 1000, "b2");
  start(world, job_in("a", "large", 2));
  start(world, job_with_deadline("b", "long", 2000));
  EXPECT_TRUE(world.pods("long").empty()) << "8 are free, and it would hold them when the large one could start";
  start(world, job_with_deadline("b", "short", 500));
  EXPECT_TRUE(runs(world, "short"));
  EXPECT_TRUE(world.pods("long").empty());
}

TEST(ABorrowerThatWaitsForNodes, KeepsItsQuotaFromThoseOfOtherQueuesThatWouldBorrowMeanwhile) {
  World world =
      a_world_of(4, {make_queue("org", {gpus(16)}), make_queue("a", {gpus(0)}, "org"), make_queue("b", {gpus(0)}, "org")});
  start(world, test::make_job("x", 2, 8));  // in no queue
  start(world, test::make_job("y", 1, 4));
  start(world, job_in("a", "large", 2));
  EXPECT_EQ(world.condition("Placed", "large").reason, "Unschedulable") << "one node is free, and half of another";
  start(world, job_in("b", "small", 1, 4));
  EXPECT_EQ(world.condition("Placed", "small").reason, "QuotaExceeded") << "else the large one would have nodes, and no quota";
  end(world, "x");
  EXPECT_EQ(world.pods("large").size(), 2u);
}

TEST(AJobThatWaitsForNodes, LeavesItsQuotaMeanwhileToAJobOfItsQueueThatIsOverInTime) {
  World world = a_world_of(3, {make_queue("research", {gpus(16)})});
  start(world, test::make_job("x", 2, 8));  // in no queue
  tell_time_left_for_ten_seconds(world, 1000, "x");
  start(world, job_in("research", "large", 2));
  ASSERT_EQ(world.condition("Placed", "large").reason, "Unschedulable") << "there is quota, and one node";
  start(world, job_with_deadline("research", "long", 2000));
  EXPECT_TRUE(world.pods("long").empty());
  start(world, job_with_deadline("research", "short", 500));
  EXPECT_TRUE(runs(world, "short")) << "its node and its quota are free again before the large one can have all of it";
  EXPECT_TRUE(world.pods("long").empty());
}

TEST(AJobThatWaitsForNodes, KeepsItsQuotaWhereNobodyKnowsWhenThereWillBeNodes) {
  World world = a_world_of(3, {make_queue("research", {gpus(16)})});
  start(world, test::make_job("x", 2, 8));
  start(world, job_in("research", "large", 2));
  start(world, job_with_deadline("research", "short", 500));
  EXPECT_TRUE(world.pods("short").empty());
}

TEST(AJobThatWaitsForQuota, IsToldWhenToExpectItByTheTimeThatOthersHaveLeft) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a"));
  tell_time_left_for_ten_seconds(world, 1000, "a");
  const double told = world.now;
  start(world, job_in("research", "large", 2));
  ASSERT_TRUE(world.status("large").queue);
  ASSERT_TRUE(world.status("large").queue->estimatedStartTime);
  const auto estimate = contract::parse_rfc3339(*world.status("large").queue->estimatedStartTime);
  EXPECT_GE(*estimate, test::at(told + 960));
  EXPECT_LE(*estimate, test::at(told + 1040));
}

TEST(AJobThatWaitsForQuota, LeavesItMeanwhileToAJobOfItsQueueThatIsOverInTime) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a"));
  tell_time_left_for_ten_seconds(world, 1000, "a");
  start(world, job_in("research", "large", 2));
  start(world, job_with_deadline("research", "long", 2000));
  start(world, job_with_deadline("research", "short", 500));
  EXPECT_TRUE(world.pods("long").empty());
  EXPECT_TRUE(runs(world, "short"));
}

TEST(AJobThatWaitsForQuota, LeavesNothingToOthersWhereNobodyKnowsWhenThereWillBeEnough) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a"));
  start(world, job_in("research", "large", 2));
  start(world, job_with_deadline("research", "short", 500));
  EXPECT_TRUE(world.pods("short").empty());
}

TEST(EveryQueueWithinItsQuota, TakesBackWhatOthersBorrowHoweverManyDoAtOnce) {
  constexpr int kQueues = 7;
  std::vector<Queue> queues{make_queue("org", {}), make_queue("b", {gpus(0)}, "org")};
  for (int i = 0; i < kQueues; ++i) queues.push_back(make_queue("q" + std::to_string(i), {gpus(8)}, "org"));
  World world = a_world_of(kQueues, queues);
  for (int i = 0; i < kQueues; ++i) start(world, job_in("b", "b" + std::to_string(i)));
  for (int i = 0; i < kQueues; ++i) world.add(job_in(("q" + std::to_string(i)).c_str(), "mine" + std::to_string(i)));
  world.decide_once();
  world.decide_once();
  for (int i = 0; i < kQueues; ++i) {
    EXPECT_EQ(world.condition("Running", "b" + std::to_string(i)).reason, "Preempting") << i;
    EXPECT_EQ(world.condition("Placed", "mine" + std::to_string(i)).reason, "MakingRoom") << i;
  }
  world.settle();
  for (int i = 0; i < kQueues; ++i) EXPECT_FALSE(world.pods("mine" + std::to_string(i)).empty()) << i;
}

TEST(EveryQueueWithinItsQuota, TakesItBackOneAfterTheOtherWhereThereAreMoreThanALookCanAfford) {
  constexpr int kQueues = 40;  // Room::most_by_right() is 32 at most
  std::vector<Queue> queues{make_queue("org", {}), make_queue("b", {gpus(0)}, "org")};
  for (int i = 0; i < kQueues; ++i) queues.push_back(make_queue("q" + std::to_string(i), {gpus(8)}, "org"));
  World world = a_world_of(kQueues, queues);
  for (int i = 0; i < kQueues; ++i) world.add(job_in("b", "b" + std::to_string(i)));
  world.settle();
  for (int i = 0; i < kQueues; ++i) world.train(1, "b" + std::to_string(i));
  world.settle();
  for (int i = 0; i < kQueues; ++i) world.add(job_in(("q" + std::to_string(i)).c_str(), "mine" + std::to_string(i)));
  for (int i = 0; i < 10; ++i) world.pass(60);
  int stopped = 0;
  for (int i = 0; i < kQueues; ++i) {
    EXPECT_FALSE(world.pods("mine" + std::to_string(i)).empty()) << i;
    stopped += world.status("b" + std::to_string(i)).preemptions;
  }
  EXPECT_EQ(stopped, kQueues) << "each borrower once, and nobody without need";
}

/// One node, and a team that has nothing of its own beside what its department brings.
std::vector<Queue> a_department_and_others() {
  return {make_queue("org", {}),
          make_queue("department", {gpus(8)}, "org"),
          make_queue("team", {gpus(0)}, "department"),
          make_queue("other-team", {gpus(0)}, "department"),
          make_queue("x", {gpus(0)}, "org"),
          make_queue("y", {gpus(0)}, "org")};
}

Job high_in(const char* queue, const char* name) {
  Job job = job_in(queue, name);
  job.spec.priorityClassName = "high";
  return job;
}

TEST(AQueueAbove, HasItsQuotaForThoseBelowItBeforeOthersBorrowIt) {
  World world = a_world_of(1, a_department_and_others());
  world.add(high_in("x", "greedy"));
  world.add(job_in("team", "mine"));
  for (int i = 0; i < 5; ++i) world.pass(60);
  EXPECT_EQ(world.pods("mine").size(), 1u);
  EXPECT_TRUE(world.pods("greedy").empty());
  EXPECT_EQ(world.status("greedy").preemptions, 0) << "what it borrowed would be taken back by right the moment after";
}

TEST(AQueueAbove, HasItForAllBelowItByTheirOrderAlone) {
  World world = a_world_of(1, a_department_and_others());
  world.add(high_in("other-team", "first"));
  world.add(job_in("team", "mine"));
  for (int i = 0; i < 5; ++i) world.pass(60);
  EXPECT_EQ(world.pods("first").size(), 1u);
  EXPECT_TRUE(world.pods("mine").empty());
}

TEST(AQueueAbove, HasWhatAVictimLeavesBeforeAnotherBorrowsIt) {
  World world = a_world_of(1, a_department_and_others());
  start(world, job_in("y", "victim"));
  ASSERT_TRUE(runs(world, "victim"));
  world.add(high_in("x", "greedy"));
  world.add(job_in("team", "mine"));
  for (int i = 0; i < 10; ++i) world.pass(60);
  EXPECT_EQ(world.status("victim").preemptions, 1);
  EXPECT_EQ(world.status("greedy").preemptions, 0) << "it takes from the victim what is taken back from it at once";
  EXPECT_EQ(world.pods("mine").size(), 1u);
}

TEST(AQueueAbove, KeepsNothingForOneWhoseBorrowingLimitIsReached) {
  auto queues = a_department_and_others();
  queues[2] = make_queue("team", {gpus(0, {}, 0)}, "department");
  World world = a_world_of(1, queues);
  world.add(high_in("x", "greedy"));
  world.add(job_in("team", "mine"));
  world.pass(60);
  EXPECT_EQ(world.pods("greedy").size(), 1u);
}

// Against all outside it, whatever these wait for.
TEST(AQueueAbove, LetsThoseBelowItHaveItsQuotaWhoeverWaitsOutside) {
  for (const char* priority_class : {"high", "polite"}) {
    auto queues = a_department_and_others();
    queues[0] = make_queue("org", {gpus(8)});
    World world = a_world_of(2, queues);
    const auto add = [&](const char* queue, const char* name) {
      Job job = job_in(queue, name);
      job.spec.priorityClassName = priority_class;
      start(world, job);
    };
    add("y", "borrower");
    ASSERT_TRUE(runs(world, "borrower"));
    world.add(job_in("team", "second"));
    add("x", "outsider");
    add("team", "first");
    for (int i = 0; i < 10; ++i) world.pass(60);
    EXPECT_EQ(world.pods("first").size() + world.pods("second").size(), 1u) << priority_class;
    EXPECT_TRUE(world.pods("outsider").empty()) << priority_class;
    EXPECT_EQ(world.status("borrower").preemptions, 0) << priority_class;
  }
}

// Its own job has the quota by the queue's own name, and its teams by order alone.
TEST(AQueueAbove, WithAJobOfItsOwnTakesBackFromATeamBelowItOnceAndNotInTurns) {
  for (const bool has_org : {true, false}) {
    std::vector<Queue> queues{make_queue("department", {gpus(8)}, has_org ? "org" : ""),
                              make_queue("team", {gpus(0)}, "department")};
    if (has_org) queues.insert(queues.begin(), make_queue("org", {}));
    World world = a_world_of(1, queues);
    world.cluster.settings.preempted_min_run = std::chrono::seconds(0);
    world.add(high_in("team", "urgent"));
    world.add(job_in("department", "owner"));
    for (int i = 0; i < 5; ++i) world.pass(60);
    EXPECT_EQ(world.pods("owner").size(), 1u) << has_org;
    EXPECT_EQ(world.status("urgent").preemptions, 0) << has_org;
  }
}

// There are 16 by quota, of which 8 are kept from others, once; and 8 by nodes, so that who is let in first stays the only one.
TEST(AQueueAbove, KeepsWhatAQueueBelowItBringsForThatQueuesJobsAlone) {
  World world =
      a_world_of(1, {make_queue("org", {gpus(8)}), make_queue("division", {}, "org"), make_queue("poor", {gpus(0)}, "division"),
                     make_queue("rich", {gpus(8)}, "division"), make_queue("poor-team", {gpus(0)}, "poor"),
                     make_queue("rich-team", {gpus(0)}, "rich"), make_queue("x", {gpus(0)}, "org")});
  world.add(high_in("x", "outsider"));
  world.add(job_in("poor-team", "of-the-poor"));
  world.add(job_in("rich-team", "of-the-rich"));
  for (int i = 0; i < 5; ++i) world.pass(60);
  EXPECT_EQ(world.pods("outsider").size(), 1u);
  EXPECT_TRUE(world.pods("of-the-rich").empty());
  EXPECT_TRUE(world.pods("of-the-poor").empty());
}

// b uses 7 and has 5 of its own: once a borrower has made two of its gangs stop, it has room for one of them again.
TEST(ABorrower, StopsNoneWhoWouldTakeItBackByRight) {
  World world = a_world_of(1, {make_queue("org", {}), make_queue("a", {gpus(2)}, "org"), make_queue("b", {gpus(5)}, "org")});
  world.cluster.settings.preempted_min_run = std::chrono::seconds(0);
  start(world, job_in("b", "one", 1, 1));
  for (const char* name : {"two", "three", "four"}) start(world, job_in("b", name, 1, 2));
  ASSERT_TRUE(runs(world, "four"));
  Job greedy = high_in("a", "greedy");
  greedy.spec.workers.gpusPerWorker = 1;
  greedy.spec.workers.count = 3;
  world.add(greedy);
  for (int i = 0; i < 10; ++i) world.pass(60);
  for (const char* name : {"one", "two", "three", "four"}) EXPECT_EQ(world.status(name).preemptions, 0) << name;
}

TEST(RoomForMore, IsAsManyPodsAsTheQuotaHasRoomFor) {
  const World world = a_world_of(8, {make_queue("research", {gpus(20)})});
  const Admission admission(world.cluster, {}, test::at(0));
  const auto queue = admission.queues().find("research");
  for (std::int64_t each = 1; each <= 21; ++each) {
    for (const std::int32_t most : {0, 1, 2, 3, 19, 20, 1'000}) {
      const Resources requests{{test::kGpu, each}};
      EXPECT_EQ(admission.room_for_more(queue, {}, requests, most), std::min<std::int64_t>(most, 20 / each))
          << each << " " << most;
    }
  }
  EXPECT_EQ(admission.room_for_more(queue, {}, {{"cpu", 1'000}}, 1'000), 1'000) << "it has no quota of that";
}

// kubernetes-sigs/kueue issue 6947: the borrower was let in again each time, and stopped again.
TEST(AJobThatCanNeverHaveItsQuota, DoesNotGiveBorrowersTheTurnOfThoseBehindItInItsQueue) {
  World world = a_world_of(3, {make_queue("org", {}), make_queue("a", {gpus(16)}, "org"), make_queue("b", {gpus(0)}, "org")});
  world.cluster.settings.preempted_min_run = std::chrono::seconds(0);
  start(world, job_in("b", "borrower"));
  start(world, job_in("a", "too-large", 3));
  EXPECT_EQ(world.condition("Placed", "too-large").reason, "QuotaTooSmall");
  start(world, job_in("a", "whole", 2));
  EXPECT_TRUE(runs(world, "whole")) << why_it_waits(world, "whole");
  EXPECT_EQ(world.status("borrower").preemptions, 1);
  world.pass(100);
  EXPECT_EQ(world.status("borrower").preemptions, 1);
}

// The borrower was let in again each time, as it comes before them, and stopped again.
TEST(AQueueWithinItsQuota, TakesNothingBackForAJobBehindOneThatWouldBorrow) {
  World world = a_world_of(12, {make_queue("org", {}), make_queue("a", {gpus(16)}, "org"), make_queue("b", {gpus(24)}, "org"),
                                make_queue("c", {gpus(16)}, "org")});
  world.cluster.settings.preempted_min_run = std::chrono::seconds(0);
  const auto high = [](Job job) {
    job.spec.priorityClassName = "high";
    return job;
  };
  start(world, high(job_in("a", "borrower", 6)));
  EXPECT_TRUE(runs(world, "borrower"));
  start(world, high(job_in("c", "large", 5)));
  start(world, job_in("c", "small"));
  world.pass(100);
  EXPECT_EQ(world.status("borrower").preemptions, 0);
  EXPECT_EQ(why_it_waits(world, "small").find("TrainingQueue c: on any node: nvidia.com/gpu needs 8, 8 free"), 0u)
      << why_it_waits(world, "small");
  end(world, "borrower");
  EXPECT_EQ(world.pods("large").size(), 5u);
  EXPECT_EQ(world.pods("small").size(), 1u);
}

TEST(WhatAVictimLeaves, IsPromisedToTwoWhereItIsEnoughForBoth) {
  World world = a_world_of(16, {make_queue("org", {}), make_queue("a", {gpus(64)}, "org"), make_queue("c", {gpus(32)}, "org")});
  start(world, job_in("c", "own", 4));
  world.pass(1'000);  // the longer it ran, the less likely is it stopped
  start(world, job_in("c", "borrower", 8));
  EXPECT_TRUE(runs(world, "own") && runs(world, "borrower"));
  for (const char* queue : {"a", "c"}) {
    Job job = job_in(queue, (std::string("high-") + queue).c_str(), 4);
    job.spec.priorityClassName = "high";
    world.add(job);
  }
  world.settle();
  world.pass(60);
  EXPECT_EQ(world.status("borrower").preemptions, 1);
  EXPECT_EQ(world.status("own").preemptions, 0) << "the borrower leaves 8 workers' quota, and they need 4 each";
  for (const char* name : {"high-a", "high-c"}) EXPECT_EQ(world.pods(name).size(), 4u) << name;
}

TEST(RoomForMore, IsNoneInAQueueThatStopped) {
  World world = a_world_of(8, {make_queue("research", {gpus(20)})});
  change(world, "research", [](Queue& queue) { queue.stop = contract::Stop::kHold; });
  const Admission admission(world.cluster, {}, test::at(0));
  EXPECT_EQ(admission.room_for_more(admission.queues().find("research"), {}, {{test::kGpu, 1}}, 5), 0);
}

}  // namespace
}  // namespace trainyard::decide
