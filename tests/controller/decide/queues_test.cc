// Quotas of TrainingQueues, in the world of a job's life.

#include "controller/decide/queues.h"

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/pod_template.h"
#include "tests/controller/decide/a_world_of_queues.h"

namespace trainyard::decide {
namespace {

using contract::ConditionStatus;
using contract::Phase;
using test::make_job;
using test::World;

TEST(AJobInAQueue, TakesItsQuotaAndSaysWhichFlavor) {
  World world = a_world_of(2, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a", 2, 4));
  ASSERT_TRUE(world.status("a").admission);
  EXPECT_EQ(world.status("a").admission->queue, "research");
  EXPECT_EQ(world.status("a").admission->resources.at(test::kGpu).text, "8");
  EXPECT_EQ(world.condition("Admitted").status, ConditionStatus::kTrue);
  EXPECT_EQ(world.condition("Admitted").message, "by TrainingQueue research, on any node");
}

TEST(AJobInAQueue, WaitsForQuotaThoughThereAreNodesAndSaysSoInNumbers) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a"));
  start(world, job_in("research", "b", 2));
  EXPECT_EQ(world.condition("Admitted", "b").status, ConditionStatus::kFalse);
  EXPECT_EQ(world.condition("Admitted", "b").reason, "QuotaExceeded");
  EXPECT_EQ(world.condition("Admitted", "b").message,
            "TrainingQueue research: on any node: nvidia.com/gpu needs 16, 8 free (nominal 16, used 8); when it starts nobody "
            "can know: "
            "default/a comes before it, has no lifecycle.activeDeadlineSeconds and tells no time left.");
  EXPECT_EQ(world.condition("Placed", "b").reason, "QuotaExceeded");
  EXPECT_EQ(world.status("b").queue->position, 1);
  EXPECT_TRUE(world.pods("b").empty());
  EXPECT_TRUE(world.has_event("QuotaExceeded"));
  end(world, "a");
  EXPECT_FALSE(world.pods("b").empty());
  EXPECT_EQ(world.condition("Admitted", "b").status, ConditionStatus::kTrue);
}

TEST(AJobInAQueue, IsToldWhereTheQuotaWouldNeverHoldIt) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a", 3));
  EXPECT_EQ(world.condition("Admitted").reason, "QuotaTooSmall");
  start(world, job_in("research", "b", 2));
  EXPECT_TRUE(runs(world, "b")) << "and it keeps no quota from others";
}

TEST(AJobInAQueue, IsNotAcceptedWhileTheQueueIsMissingAndRecovers) {
  World world = a_world_of(1, {});
  start(world, job_in("research", "a"));
  EXPECT_EQ(world.condition("Accepted").status, ConditionStatus::kFalse);
  EXPECT_NE(world.condition("Accepted").message.find("spec.queue: names no TrainingQueue of the cluster: research"),
            std::string::npos);
  EXPECT_TRUE(world.pods().empty());
  world.cluster.put(make_queue("research", {gpus(8)}));
  world.settle();
  EXPECT_FALSE(world.pods().empty());
}

TEST(AJobInAQueue, IsNotAcceptedFromANamespaceThatTheQueueDoesNotSelect) {
  Queue queue = make_queue("research", {gpus(8)});
  queue.namespaces = contract::LabelSelector{.matchLabels = {{"team", "research"}}, .matchExpressions = {}};
  World world = a_world_of(1, {queue});
  world.cluster.put(Namespace{.name = "default", .labels = {{"team", "search"}}});
  start(world, job_in("research", "a"));
  EXPECT_NE(world.condition("Accepted").message.find("is not for jobs of namespace default"), std::string::npos);
  world.cluster.put(Namespace{.name = "default", .labels = {{"team", "research"}}});
  world.settle();
  EXPECT_FALSE(world.pods().empty());
  world.cluster.put(Namespace{.name = "default", .labels = {}});
  world.settle();
  world.train(5);
  world.settle();
  EXPECT_TRUE(runs(world, "a")) << "what runs goes on";
}

TEST(AJobWithoutAQueue, NeedsNoQuotaWhereThereIsNoDefault) {
  World world = a_world_of(2, {make_queue("research", {gpus(0)})});
  start(world, make_job("a", 2, 8));
  EXPECT_TRUE(runs(world, "a"));
  EXPECT_EQ(world.condition("Admitted").reason, "NoQueue");
  EXPECT_FALSE(world.status().admission);
}

TEST(AJobWithoutAQueue, IsInTheOneCalledDefault) {
  World world = a_world_of(2, {make_queue("default", {gpus(8)})});
  start(world, make_job("a", 1, 8));
  start(world, make_job("b", 1, 8));
  EXPECT_EQ(world.status("a").admission->queue, "default");
  EXPECT_EQ(world.condition("Admitted", "b").reason, "QuotaExceeded");
}

TEST(AJobWithoutAQueue, ThatRanBeforeThereWasADefaultIsCountedByItsPods) {
  World world = a_world_of(2, {});
  start(world, make_job("a", 1, 8));
  world.cluster.put(make_queue("default", {gpus(8)}));
  start(world, make_job("b", 1, 8));
  EXPECT_TRUE(runs(world, "a"));
  EXPECT_EQ(world.condition("Admitted", "b").reason, "QuotaExceeded");
}

TEST(AFlavor, IsTakenWholeAndInTheOrderOfTheQueue) {
  World world = a_world_of(4, {make_queue("research", {gpus(16, {{"gpu", "h100"}}), gpus(16, {{"gpu", "a100"}})})}, 2);
  start(world, job_in("research", "a"));
  EXPECT_EQ(world.pod(0, "a").node, "node-0");
  start(world, job_in("research", "b", 2));
  EXPECT_EQ(world.status("b").admission->nodeLabels, (Labels{{"gpu", "a100"}})) << "8 of the first flavor are free, it needs 16";
  EXPECT_EQ(world.pod(0, "b").node, "node-2");
  EXPECT_EQ(world.pod(1, "b").node, "node-3");
}

TEST(AFlavor, IsPassedOverWhereItsNodesAreFullOrTheTemplateAsksForOthers) {
  World world = a_world_of(2, {make_queue("research", {gpus(99, {{"gpu", "h100"}}), gpus(99, {{"gpu", "a100"}})})}, 1);
  start(world, job_in("research", "a"));
  start(world, job_in("research", "b"));
  EXPECT_EQ(world.pod(0, "b").node, "node-1");
  end(world, "b");
  end(world, "a");
  Job picky = job_in("research", "c");
  picky.spec.workers.templ = {{"spec", {{"nodeSelector", {{"gpu", "a100"}}}}}};
  start(world, picky);
  EXPECT_EQ(world.status("c").admission->nodeLabels, (Labels{{"gpu", "a100"}}));
}

TEST(AFlavor, HoldsTheWorkersThatReplaceLostOnes) {
  World world = a_world_of(3, {make_queue("research", {gpus(8, {{"gpu", "h100"}})})}, 1);
  start(world, job_in("research", "a"));
  EXPECT_EQ(world.pod(0, "a").node, "node-0");
  world.exit(0, 137);
  world.change_node("node-0", [](Node& node) { node.unschedulable = true; });
  world.pass(1);
  world.pass(100);
  EXPECT_EQ(world.pod(0, "a").node, "node-1");
}

TEST(Quota, IsNotTakenByASmallJobFromALargeOneOfTheSameQueueThatWaits) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)}), make_queue("other", {gpus(16)})});
  start(world, job_in("research", "a"));
  start(world, job_in("research", "large", 2));
  start(world, job_in("research", "small"));
  EXPECT_EQ(world.condition("Placed", "small").reason, "QuotaExceeded");
  EXPECT_NE(world.condition("Placed", "small").message.find("kept for jobs before it"), std::string::npos)
      << world.condition("Placed", "small").message;
  start(world, job_in("other", "b"));
  EXPECT_TRUE(runs(world, "b")) << "other queues are not concerned";
  end(world, "a");
  EXPECT_FALSE(world.pods("large").empty());
}

TEST(Quota, ThatIsUsedUpHoldsNoNodes) {
  World world = a_world_of(1, {make_queue("research", {gpus(8)}), make_queue("other", {gpus(8)})});
  start(world, job_in("research", "a", 1, 4));
  start(world, job_in("research", "b", 1, 8));
  start(world, job_in("other", "c", 1, 4));
  EXPECT_TRUE(runs(world, "c"));
}

TEST(Quota, CountsTheSameForANewController) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a", 2));
  start(world, job_in("research", "b"));
  world.succeed_controller();
  world.settle();
  EXPECT_TRUE(world.pods("b").empty());
  EXPECT_EQ(world.condition("Admitted", "b").reason, "QuotaExceeded");
}

TEST(Quota, GivenTwiceSinceAnAnswerWasLostIsTakenBackBeforeThereArePods) {
  World world = a_world_of(4, {make_queue("research", {gpus(8)})});
  for (const char* name : {"a", "b"}) {
    Job job = job_in("research", name);
    job.status.generation = 1;
    job.status.templateHash = template_hash(job.spec, world.cluster.settings);
    job.status.admission = contract::AdmissionStatus{.queue = "research", .nodeLabels = {}, .resources = {{test::kGpu, {"8"}}}};
    set_condition(job.status, {condition::kAccepted, true, "Accepted", ""}, 1, test::at(0));
    set_condition(job.status, {condition::kPlaced, true, reason::kCreatingWorkers, ""}, 1, test::at(0));
    world.add(job);
  }
  world.settle();
  EXPECT_TRUE(world.pods("a").empty());
  EXPECT_EQ(world.condition("Placed", "a").reason, "QuotaExceeded");
  EXPECT_FALSE(world.status("a").admission);
  EXPECT_FALSE(world.pods("b").empty());
}

TEST(Quota, OfWhatNobodyNamesIsNotLimited) {
  World world = a_world_of(2, {make_queue("research", {Flavor{.labels = {}, .resources = {{"memory", {}}}}})});
  start(world, job_in("research", "a", 2));
  EXPECT_TRUE(runs(world, "a"));
}

TEST(AQueueBelowAnother, BorrowsWhatOthersLeaveWithinItsLimit) {
  World world =
      a_world_of(4, {make_queue("org", {}), make_queue("a", {gpus(8, {}, 8)}, "org"), make_queue("b", {gpus(16)}, "org")});
  start(world, job_in("a", "first", 2));
  EXPECT_TRUE(runs(world, "first")) << "8 of its own and 8 of b's";
  start(world, job_in("a", "second"));
  EXPECT_EQ(world.condition("Admitted", "second").reason, "QuotaExceeded");
  EXPECT_EQ(world.cluster.queue("a")->status.summary, "nvidia.com/gpu 16/8");
  EXPECT_EQ(world.cluster.queue("a")->status.usage[0].resources[0].borrowed.text, "8");
}

TEST(AQueueBelowAnother, CannotBorrowWhatIsNotLent) {
  World world =
      a_world_of(4, {make_queue("org", {}), make_queue("a", {gpus(8)}, "org"), make_queue("b", {gpus(16, {}, {}, 0)}, "org")});
  start(world, job_in("a", "first", 2));
  EXPECT_EQ(world.condition("Admitted", "first").reason, "QuotaTooSmall");
  EXPECT_TRUE(world.pods("first").empty());
}

TEST(AQueueBelowAnother, HasItsFlavorsWhereItHasNoneOfItsOwn) {
  World world =
      a_world_of(4, {make_queue("org", {gpus(8, {{"gpu", "h100"}})}), make_queue("a", {}, "org"), make_queue("b", {}, "org")});
  start(world, job_in("a", "first"));
  start(world, job_in("b", "second"));
  EXPECT_TRUE(runs(world, "first"));
  EXPECT_EQ(world.condition("Admitted", "second").reason, "QuotaExceeded");
}

TEST(AQueue, WhoseParentIsMissingOrItsOwnChildStartsNothing) {
  World world = a_world_of(
      4, {make_queue("orphan", {gpus(8)}, "nobody"), make_queue("x", {gpus(8)}, "y"), make_queue("y", {gpus(8)}, "x")});
  start(world, job_in("orphan", "a"));
  start(world, job_in("x", "b"));
  EXPECT_EQ(world.condition("Admitted", "a").reason, "QueueStopped");
  EXPECT_NE(world.condition("Admitted", "a").message.find("has a parent that does not exist: nobody"), std::string::npos);
  EXPECT_EQ(world.condition("Admitted", "b").reason, "QueueStopped");
  EXPECT_EQ(world.cluster.queue("orphan")->status.conditions.at(0).reason, "ParentMissing");
  EXPECT_EQ(world.cluster.queue("x")->status.conditions.at(0).reason, "Cycle");
  change(world, "orphan", [](Queue& queue) { queue.parent = ""; });
  world.settle();
  EXPECT_FALSE(world.pods("a").empty());
}

TEST(AQueue, OnHoldStartsNothingAndLetsGoOnWhatRuns) {
  World world = a_world_of(4, {make_queue("org", {}), make_queue("a", {gpus(16)}, "org")});
  start(world, job_in("a", "runs"));
  change(world, "org", [](Queue& queue) { queue.stop = contract::Stop::kHold; });
  start(world, job_in("a", "waits"));
  EXPECT_TRUE(runs(world, "runs"));
  EXPECT_EQ(world.condition("Admitted", "waits").message,
            "TrainingQueue org, above a, is stopped by its spec.stop: Hold; jobs start again once that is None");
  change(world, "org", [](Queue& queue) { queue.stop = contract::Stop::kNone; });
  world.settle();
  EXPECT_FALSE(world.pods("waits").empty());
}

TEST(AQueue, ThatIsDrainedStopsItsJobsAtACheckpointAndStartsThemAgain) {
  World world = a_world_of(4, {make_queue("a", {gpus(16)}), make_queue("b", {gpus(16)})});
  start(world, job_in("a", "one"));
  start(world, job_in("b", "other"));
  change(world, "a", [](Queue& queue) { queue.stop = contract::Stop::kDrain; });
  world.decide_once();
  EXPECT_EQ(world.condition("Running", "one").reason, "Draining");
  world.decide_once();
  EXPECT_TRUE(world.told(0, "one")->stopAfter) << "a checkpoint first";
  world.settle();
  EXPECT_TRUE(world.pods("one").empty());
  EXPECT_EQ(world.condition("Admitted", "one").reason, "QueueStopped");
  EXPECT_EQ(world.status("one").preemptions, 0);
  EXPECT_FALSE(world.status("one").admission);
  EXPECT_TRUE(runs(world, "other"));
  change(world, "a", [](Queue& queue) { queue.stop = contract::Stop::kNone; });
  world.settle();
  EXPECT_FALSE(world.pods("one").empty());
}

TEST(AQueue, ThatIsDrainedStopsAJobOnceThoughAPodStaysOnALostNode) {
  World world = a_world_of(4, {make_queue("a", {gpus(16)})});
  start(world, job_in("a", "one", 2));
  lose_node_of(world, 1, "one");
  change(world, "a", [](Queue& queue) { queue.stop = contract::Stop::kDrain; });
  world.pass(1);
  EXPECT_EQ(world.condition("Running", "one").reason, "Draining");
  world.pass(20);
  EXPECT_EQ(world.condition("Running", "one").reason, "Drained");
  EXPECT_EQ(world.condition("Admitted", "one").reason, "QueueStopped");
  EXPECT_EQ(world.pods("one"), (std::vector<std::string>{"one-1-1"})) << "nobody tells of its end";
  change(world, "a", [](Queue& queue) { queue.stop = contract::Stop::kNone; });
  world.settle();
  EXPECT_EQ(world.pods("one"), (std::vector<std::string>{"one-0-2", "one-1-1", "one-1-2"})) << "the one left is its own";
}

TEST(AQueue, OnHoldDoesNotStartAJobForThePodThatItLeftOnALostNode) {
  World world = a_world_of(4, {make_queue("a", {gpus(16)})});
  start(world, job_in("a", "one", 2));
  lose_node_of(world, 1, "one");
  world.edit("one", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  world.pass(20);
  EXPECT_EQ(world.status("one").phase, Phase::kSuspended);
  change(world, "a", [](Queue& queue) { queue.stop = contract::Stop::kHold; });
  world.edit("one", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods("one"), (std::vector<std::string>{"one-1-1"}));
  EXPECT_EQ(world.condition("Admitted", "one").reason, "QueueStopped");
}

TEST(Quota, IsAskedForAnewByAJobThatLeftAPodOnALostNode) {
  World world = a_world_of(6, {make_queue("a", {gpus(24)})});
  start(world, job_in("a", "one", 2));
  lose_node_of(world, 1, "one");
  world.edit("one", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  world.pass(20);
  start(world, job_in("a", "two", 2));
  EXPECT_TRUE(runs(world, "two")) << "8 are left of one, and 16 are free";
  world.edit("one", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods("one"), (std::vector<std::string>{"one-1-1"}));
  EXPECT_EQ(world.condition("Admitted", "one").reason, "QuotaExceeded");
  start(world, job_in("a", "three"));
  EXPECT_TRUE(world.pods("three").empty()) << "what is left of one counts while it waits";
  end(world, "two");
  EXPECT_EQ(world.pods("one"), (std::vector<std::string>{"one-0-2", "one-1-1", "one-1-2"}));
  ASSERT_TRUE(world.status("one").admission);
  EXPECT_EQ(world.status("one").admission->resources.at(test::kGpu).text, "16");
  EXPECT_FALSE(world.pods("three").empty()) << "the old pod counts no more beside the new ones";
}

TEST(Quota, IsThatOfTheEditedJobThoughAPodOfItsLastGangIsLeftOnALostNode) {
  World world = a_world_of(6, {make_queue("a", {gpus(16)})});
  start(world, job_in("a", "one", 2, 4));
  start(world, job_in("a", "two", 1));
  ASSERT_TRUE(runs(world, "two"));
  lose_node_of(world, 1, "one");
  world.edit("one", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  world.pass(20);
  world.edit("one", [](contract::TrainingJobSpec& spec) {
    spec.suspend = false;
    spec.workers.gpusPerWorker = 8;
  });
  world.settle();
  EXPECT_EQ(world.condition("Admitted", "one").reason, "QuotaExceeded") << "it needs 16 now, of which two has 8";
  end(world, "two");
  ASSERT_TRUE(world.status("one").admission);
  EXPECT_EQ(world.status("one").admission->resources.at(test::kGpu).text, "16");
}

TEST(TheOrderOfJobsOfOnePriority, IsThatOfTheirQueuesWeightedShares) {
  World world = a_world_of(4, {make_queue("a", {}), make_queue("b", {})});
  change(world, "b", [](Queue& queue) { queue.weight = 3; });
  for (int i = 0; i < 4; ++i) world.add(job_in("a", "a" + std::to_string(i)));
  world.now += 1;
  for (int i = 0; i < 4; ++i) world.add(job_in("b", "b" + std::to_string(i)));
  world.settle();
  int of_a = 0, of_b = 0;
  for (int i = 0; i < 4; ++i) {
    of_a += !world.pods("a" + std::to_string(i)).empty();
    of_b += !world.pods("b" + std::to_string(i)).empty();
  }
  EXPECT_EQ(of_a, 1);
  EXPECT_EQ(of_b, 3);
  EXPECT_EQ(world.cluster.queue("a")->status.weightedShare, 0.25);
  EXPECT_EQ(world.cluster.queue("b")->status.weightedShare, 0.25);
}

TEST(TheOrderOfJobsOfOnePriority, ComparesQueuesWhereTheirWaysFromTheRootPart) {
  // Two organizations share alike, however many queues the one has.
  World world =
      a_world_of(4, {make_queue("one", {}), make_queue("x", {}, "one"), make_queue("y", {}, "one"), make_queue("two", {})});
  for (const char* queue : {"x", "y", "two"}) {
    for (int i = 0; i < 4; ++i) world.add(job_in(queue, queue + std::to_string(i)));
  }
  world.settle();
  const auto placed = [&](const std::string& queue) {
    int count = 0;
    for (int i = 0; i < 4; ++i) count += !world.pods(queue + std::to_string(i)).empty();
    return count;
  };
  EXPECT_EQ(placed("two"), 2);
  EXPECT_EQ(placed("x"), 1);
  EXPECT_EQ(placed("y"), 1);
}

TEST(TheOrder, IsByPriorityBeforeAllShares) {
  World world = a_world_of(2, {make_queue("a", {}), make_queue("b", {})});
  start(world, job_in("a", "runs"));
  Job urgent = job_in("a", "urgent");
  urgent.spec.priorityClassName = "polite";
  world.add(job_in("b", "b"));
  world.add(urgent);
  world.settle();
  EXPECT_FALSE(world.pods("urgent").empty());
  EXPECT_TRUE(world.pods("b").empty());
}

/// a and b have 16 each, and b's job has all 32.
World a_world_with_a_borrower(const char* priority_class = nullptr) {
  World world = a_world_of(4, {make_queue("org", {}), make_queue("a", {gpus(16)}, "org"), make_queue("b", {gpus(16)}, "org")});
  for (const char* name : {"b1", "b2"}) {
    Job job = job_in("b", name, 2);
    if (priority_class != nullptr) job.spec.priorityClassName = priority_class;
    start(world, job);
  }
  EXPECT_TRUE(runs(world, "b1"));
  EXPECT_TRUE(runs(world, "b2"));
  return world;
}

TEST(AQueueWithinItsQuota, TakesBackWhatOthersBorrowWhateverTheirPriority) {
  World world = a_world_with_a_borrower("high");
  world.add(job_in("a", "mine", 2));
  world.decide_once();
  world.decide_once();
  EXPECT_EQ(world.condition("Running", "b2").reason, "Preempting") << "that which has lost less";
  EXPECT_EQ(world.condition("Running", "b2").message,
            "a checkpoint is written, then the pods make room for job default/mine, whose TrainingQueue a takes back the quota "
            "that this "
            "one's borrows");
  EXPECT_EQ(world.condition("Placed", "mine").reason, "MakingRoom");
  world.settle();
  EXPECT_TRUE(runs(world, "b1")) << "no more than needed";
  EXPECT_FALSE(world.pods("mine").empty());
  EXPECT_TRUE(world.pods("b2").empty()) << "though it is of higher priority: it would borrow, and nothing is left";
  EXPECT_EQ(world.status("b2").preemptions, 1);
  world.pass(2'000);
  EXPECT_EQ(world.status("b2").preemptions, 1);
  EXPECT_FALSE(world.pods("mine").empty()) << "no back and forth";
}

TEST(AQueueWithinItsQuota, StopsNobodyOfHigherPriorityForNodesAlone) {
  // Its quota is free; of the nodes that back it some are down. A borrower that goes would have them again, by its priority.
  World world = a_world_of(6, {make_queue("org", {}), make_queue("a", {gpus(32)}, "org"), make_queue("b", {gpus(32)}, "org")});
  for (const char* name : {"b1", "b2", "b3"}) {
    Job job = job_in("b", name, 2);
    job.spec.priorityClassName = "high";
    start(world, job);
    EXPECT_TRUE(runs(world, name));
  }
  start(world, job_in("a", "mine", 2));
  EXPECT_EQ(world.condition("Admitted", "mine").reason, "WithinQuota");
  world.pass(2'000);
  for (const char* name : {"b1", "b2", "b3"}) EXPECT_EQ(world.status(name).preemptions, 0) << name;
  end(world, "b1");
  EXPECT_FALSE(world.pods("mine").empty());
}

TEST(AQueueWithinItsQuota, StopsAsManyAsItsWaitingJobsNeedTogether) {
  World world = a_world_of(8, {make_queue("org", {}), make_queue("a", {gpus(64)}, "org"), make_queue("b", {gpus(0)}, "org")});
  const std::vector<std::string> borrowers{"b1", "b2", "b3", "b4"};
  for (const auto& name : borrowers) start(world, job_in("b", name, 2));
  world.add(job_in("a", "first", 2));
  world.add(job_in("a", "second", 2));
  world.settle();
  world.pass(60);
  int stopped = 0;
  for (const auto& name : borrowers) stopped += world.status(name).preemptions;
  EXPECT_EQ(stopped, 2);
  EXPECT_FALSE(world.pods("first").empty());
  EXPECT_FALSE(world.pods("second").empty());
}

TEST(AQueueWithinItsQuota, LosesNothingToAnotherPriorityForAPodThatItsJobLeftOnALostNode) {
  World world = a_world_of(4, {make_queue("org", {}), make_queue("a", {gpus(16)}, "org"), make_queue("b", {gpus(0)}, "org")});
  start(world, job_in("a", "mine", 2));
  lose_node_of(world, 1, "mine");
  world.edit("mine", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  world.pass(20);
  Job borrower = job_in("b", "borrower");
  borrower.spec.priorityClassName = "high";
  start(world, borrower);
  ASSERT_TRUE(runs(world, "borrower")) << "8 of a are on the lost node, and 8 free";
  world.edit("mine", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods("mine"), (std::vector<std::string>{"mine-0-2", "mine-1-1", "mine-1-2"}));
  EXPECT_TRUE(world.pods("borrower").empty());
  world.pass(2'000);
  EXPECT_EQ(world.status("borrower").preemptions, 1);
}

TEST(AQueueWithinItsQuota, StopsNobodyWhoDoesNotBorrow) {
  World world = a_world_of(4, {make_queue("org", {}), make_queue("a", {gpus(8)}, "org"), make_queue("b", {gpus(24)}, "org")});
  start(world, job_in("b", "b1", 3));
  start(world, job_in("a", "a1"));
  start(world, job_in("a", "a2"));
  EXPECT_TRUE(runs(world, "b1"));
  EXPECT_EQ(world.condition("Admitted", "a2").reason, "QuotaExceeded");
}

TEST(AQueueThatWouldBorrow, StopsNobodyOfAnotherQueueForItsPriority) {
  World world = a_world_of(4, {make_queue("org", {}), make_queue("a", {gpus(16)}, "org"), make_queue("b", {gpus(16)}, "org")});
  start(world, job_in("a", "a1", 2));
  start(world, job_in("b", "b1", 2));
  Job urgent = job_in("b", "urgent", 3);
  urgent.spec.priorityClassName = "high";
  start(world, urgent);
  EXPECT_TRUE(runs(world, "a1"));
  EXPECT_TRUE(runs(world, "b1")) << "its end alone would be in vain";
  EXPECT_TRUE(world.pods("urgent").empty());
}

TEST(AJobOfHigherPriorityInAQueue, StopsOneOfItsOwnQueueForItsQuota) {
  World world = a_world_of(4, {make_queue("a", {gpus(16)}), make_queue("b", {gpus(16)})});
  start(world, job_in("a", "low", 2));
  start(world, job_in("b", "other"));
  Job urgent = job_in("a", "urgent");
  urgent.spec.priorityClassName = "high";
  start(world, urgent);
  world.settle();
  EXPECT_FALSE(world.pods("urgent").empty());
  EXPECT_TRUE(world.pods("low").empty());
  EXPECT_TRUE(runs(world, "other")) << "its end would give no quota";
}

TEST(AJobOfHigherPriorityInAQueue, ThatStopsNobodyByItsClassTakesNothingBackEither) {
  World world = a_world_with_a_borrower();
  Job polite = job_in("a", "mine", 2);
  polite.spec.priorityClassName = "polite";
  start(world, polite);
  EXPECT_TRUE(runs(world, "b1"));
  EXPECT_TRUE(runs(world, "b2"));
}

TEST(TheStatusOfAQueue, TellsWhoWaitsForWhatAndWhatIsUsed) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  start(world, job_in("research", "a"));
  start(world, job_in("research", "b", 2));
  start(world, job_in("research", "c", 9));
  world.pass(10);
  const auto& status = world.cluster.queue("research")->status;
  EXPECT_EQ(status.observedGeneration, 1);
  EXPECT_EQ(status.running, 1);
  EXPECT_EQ(status.pending, 2);
  EXPECT_EQ(status.pendingReasons, (std::vector<contract::ReasonCount>{{"QuotaExceeded", 1}, {"QuotaTooSmall", 1}}));
  EXPECT_EQ(status.summary, "nvidia.com/gpu 8/16");
  EXPECT_EQ(status.weightedShare, 0.25);
  EXPECT_EQ(status.conditions.at(0).type, "Active");
  EXPECT_EQ(status.conditions.at(0).status, ConditionStatus::kTrue);
}

TEST(TheStatusOfAQueue, IsWrittenAtMostOnceAnIntervalForNumbersAlone) {
  World world = a_world_of(4, {make_queue("research", {gpus(16)})});
  world.settle();
  start(world, job_in("research", "a"));
  EXPECT_EQ(world.cluster.queue("research")->status.running, 0) << "told 0 s ago";
  const Plan plan = plan_queues(world.cluster, test::at(world.now));
  EXPECT_TRUE(plan.is_empty());
  EXPECT_TRUE(plan.look_again);
  world.pass(5);
  EXPECT_EQ(world.cluster.queue("research")->status.running, 1);
}

TEST(ALabelSelector, SelectsAsKubernetesDoes) {
  using contract::LabelOperator;
  const Labels labels{{"team", "a"}};
  const auto selects = [&](LabelOperator op, const char* key, std::vector<std::string> values) {
    return contract::selects({.matchLabels = {}, .matchExpressions = {{key, op, std::move(values)}}}, labels);
  };
  EXPECT_TRUE(contract::selects({}, labels));
  EXPECT_TRUE(selects(LabelOperator::kIn, "team", {"b", "a"}));
  EXPECT_FALSE(selects(LabelOperator::kIn, "team", {"b"}));
  EXPECT_FALSE(selects(LabelOperator::kIn, "other", {"a"}));
  EXPECT_FALSE(selects(LabelOperator::kNotIn, "team", {"a"}));
  EXPECT_TRUE(selects(LabelOperator::kNotIn, "other", {"a"})) << "what has no such label is not in it";
  EXPECT_TRUE(selects(LabelOperator::kExists, "team", {}));
  EXPECT_TRUE(selects(LabelOperator::kDoesNotExist, "other", {}));
  EXPECT_FALSE(contract::selects({.matchLabels = {{"team", "b"}}, .matchExpressions = {}}, labels));
}

}  // namespace
}  // namespace trainyard::decide
