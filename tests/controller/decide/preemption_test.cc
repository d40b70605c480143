#include "controller/decide/preemption.h"

#include <iostream>
#include <random>

#include <gtest/gtest.h>

#include "controller/decide/pod_template.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::ClusterBuilder;
using test::make_job;
using test::World;

World a_world_with_classes(int nodes) {
  Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(nodes).gpus_per_node(8).build();
  cluster.put(PriorityClass{.name = "high", .value = 1000});
  cluster.put(PriorityClass{.name = "middle", .value = 500});
  cluster.put(PriorityClass{.name = "polite", .value = 1000, .preempts = false});
  return World(std::move(cluster));
}

void train(World& world, const Job& job) {
  world.add(job);
  world.settle();
  world.train(1, job.key.name);
  world.settle();
  world.now += 1;
}

void save_checkpoint(World& world, const std::string& name) {
  world.say(
      0,
      [&world](contract::State& state) {
        state.checkpoint =
            contract::CheckpointStatus{.step = 1, .path = "/c/step-1", .completedAt = contract::to_rfc3339(test::at(world.now))};
      },
      name);
  world.settle();
}

TEST(AJobOfHigherPriority, MakesOneOfLowerStopAtACheckpointAndTakesItsPlace) {
  World world = a_world_with_classes(2);
  train(world, make_job("low", 2, 8));
  world.add(job_of_class("urgent", "high"));
  world.decide_once();  // accepted
  world.decide_once();  // no room
  EXPECT_EQ(world.condition("Running", "low").reason, "Preempting");
  EXPECT_EQ(world.condition("Running", "low").message,
            "a checkpoint is written, then the pods make room for job default/urgent of priority 1000; this one's is 0");
  EXPECT_EQ(world.status("low").phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Placed", "urgent").reason, "MakingRoom");
  EXPECT_EQ(world.condition("Placed", "urgent").message, "default/low stops at a checkpoint and will make room");
  world.decide_once();
  EXPECT_EQ(world.told(0, "low")->stopAfter, 1);
  EXPECT_EQ(world.pods("low").size(), 2u) << "not before they have stopped";
  world.settle();
  EXPECT_EQ(world.pods("urgent").size(), 1u);
  EXPECT_TRUE(world.pods("low").empty());
  EXPECT_EQ(world.status("low").phase, Phase::kPending);
  EXPECT_EQ(world.status("low").preemptions, 1);
  EXPECT_EQ(world.status("low").restarts, 0);
  EXPECT_TRUE(world.has_event("Preempting"));
  EXPECT_TRUE(world.has_event("Preempted"));
  world.finish("urgent");
  world.settle();
  EXPECT_EQ(world.pods("low").size(), 2u);
  world.train(9, "low");
  world.settle();
  EXPECT_EQ(world.status("low").phase, Phase::kRunning);
}

TEST(AJobOfHigherPriority, StopsNobodyWhereThereIsRoomWhereItWouldNotHelpOrWhereItsClassNeverPreempts) {
  World world = a_world_with_classes(2);
  train(world, make_job("low", 1, 8));
  world.add(job_of_class("fits", "high"));
  world.add(job_of_class("too-large", "high", 3));
  world.add(job_of_class("waits", "polite"));
  world.settle();
  EXPECT_EQ(world.pods("fits").size(), 1u);
  EXPECT_EQ(world.condition("Placed", "too-large").reason, "NeverFits");
  EXPECT_EQ(world.condition("Placed", "waits").reason, "Unschedulable");
  EXPECT_EQ(world.status("low").phase, Phase::kRunning);
}

TEST(AJobOfEqualPriority, StopsNobody) {
  World world = a_world_with_classes(1);
  train(world, job_of_class("a", "high"));
  world.add(job_of_class("b", "high"));
  world.settle();
  EXPECT_EQ(world.status("a").phase, Phase::kRunning);
}

TEST(TheVictim, IsTheOneThatLosesTheLeastWorkSinceItsLastCheckpoint) {
  World world = a_world_with_classes(2);
  train(world, make_job("a", 1, 8));
  train(world, make_job("b", 1, 8));
  world.pass(1000);
  save_checkpoint(world, "a");  // of the two the older, which recency would spare and priority would not tell apart
  world.pass(10);
  world.add(job_of_class("urgent", "high"));
  world.settle();
  EXPECT_EQ(world.status("a").preemptions, 1);
  EXPECT_EQ(world.status("b").preemptions, 0);
}

TEST(TheVictim, IsOfTheLowestPriorityThatHelps) {
  World world = a_world_with_classes(2);
  train(world, job_of_class("middle", "middle"));
  train(world, make_job("low", 1, 8));
  world.pass(1000);
  save_checkpoint(world, "middle");
  world.add(job_of_class("urgent", "high"));
  world.settle();
  EXPECT_EQ(world.status("low").preemptions, 1);
  EXPECT_EQ(world.status("middle").preemptions, 0);
}

TEST(NobodyIsStopped, ForRoomThatThereWillBeSoonAnyway) {
  World world = a_world_with_classes(2);
  train(world, make_job("ends", 1, 8));
  train(world, make_job("goes-on", 1, 8));
  world.say(
      0, [](contract::State& state) { state.progress->remainingSeconds = 30; }, "ends");
  world.pass(6);  // numbers are written by turns
  world.add(job_of_class("urgent", "high"));
  world.settle();
  EXPECT_EQ(world.status("ends").preemptions + world.status("goes-on").preemptions, 0);
  EXPECT_EQ(world.condition("Placed", "urgent").reason, "Unschedulable");
  EXPECT_TRUE(world.status("urgent").queue->estimatedStartTime);
}

TEST(NobodyIsStopped, ForRoomThatThePodsOfADeletedJobAreAboutToLeave) {
  World world = a_world_with_classes(2);
  train(world, make_job("deleted", 1, 8));
  train(world, make_job("goes-on", 1, 8));
  const Pod left = world.pod(0, "deleted");
  world.cluster.erase_job({"default", "deleted"});  // its pods are for the garbage collector
  world.kubelets_work = false;
  world.add(job_of_class("urgent", "high"));
  world.settle();
  world.change_pod(left.key.name, [](Pod& pod) { pod.deletion_time = test::at(100); });
  world.settle();
  EXPECT_EQ(world.status("goes-on").preemptions, 0);
  EXPECT_EQ(world.status("goes-on").phase, Phase::kRunning);
  world.kubelets_work = true;
  world.settle();
  EXPECT_EQ(world.pod(0, "urgent").node, left.node);
}

TEST(NobodyIsStopped, AtTheMomentWhenTheGangThatWasWaitedForHasEnded) {
  World world = a_world_with_classes(2);
  train(world, make_job("ends", 1, 8));
  train(world, make_job("goes-on", 1, 8));
  world.finish("ends");
  world.decide_once();  // Succeeded, and its pod is still there
  ASSERT_EQ(world.status("ends").phase, Phase::kSucceeded);
  ASSERT_FALSE(world.pod(0, "ends").is_finished());
  world.add(job_of_class("urgent", "high"));
  for (int i = 0; i < 4; ++i) world.decide_once();
  EXPECT_EQ(world.condition("Running", "goes-on").reason, "Training");
  world.settle();
  EXPECT_EQ(world.pods("urgent").size(), 1u);
}

TEST(NobodyIsStopped, ForPodsThatAQuotaForbids) {
  World world = a_world_with_classes(1);
  train(world, make_job("low", 1, 8));
  Job urgent = job_of_class("urgent", "high");
  world.cluster.put_template_check(urgent.uid, template_hash(urgent.spec, world.cluster.settings),
                                   {.accepted = true,
                                    .over_quota = true,
                                    .needs = {.requests = {{test::kGpu, 8}, {"pods", 1}}, .rules = {}, .claims = {}},
                                    .at = test::at(world.now)});
  world.add(urgent);
  world.settle();
  EXPECT_EQ(world.status("low").phase, Phase::kRunning);
  EXPECT_EQ(world.condition("Placed", "urgent").reason, "Unschedulable");
  world.pass(61);  // the API server is asked again, and the quota has room
  EXPECT_EQ(world.status("low").preemptions, 1);
}

TEST(NobodyIsStopped, WhileHisPriorityClassIsMadeAnew) {
  World world = a_world_with_classes(1);
  train(world, job_of_class("a", "high"));
  world.add(job_of_class("b", "middle"));
  world.settle();
  world.cluster.erase_priority_class("high");
  world.settle();
  world.cluster.put(PriorityClass{.name = "high", .value = 2000});
  world.settle();
  EXPECT_EQ(world.status("a").phase, Phase::kRunning);
  EXPECT_EQ(world.status("a").preemptions, 0);
}

TEST(NobodyIsStopped, WhereRoomComesBeforeHisCheckpointHasToBeThere) {
  World world = a_world_with_classes(2);
  Job slow = make_job("slow", 1, 8);
  slow.spec.lifecycle.checkpointGraceSeconds = 600;
  train(world, make_job("ends", 1, 8));
  train(world, slow);
  world.say(
      0, [](contract::State& state) { state.progress->remainingSeconds = 300; }, "ends");
  world.pass(6);
  // The one that ends loses more work, so that the other would be chosen.
  world.pass(100);
  save_checkpoint(world, "slow");
  world.pass(6);
  world.add(job_of_class("urgent", "high"));
  world.settle();
  EXPECT_EQ(world.status("slow").preemptions + world.status("ends").preemptions, 0);
}

TEST(AJobThatIsDone, WhileItIsToldToMakeRoomHasSucceeded) {
  World world = a_world_with_classes(1);
  train(world, make_job("low", 1, 8));
  world.add(job_of_class("urgent", "high"));
  world.decide_once();
  world.decide_once();
  ASSERT_EQ(world.condition("Running", "low").reason, "Preempting");
  world.finish("low");
  world.settle();
  EXPECT_EQ(world.status("low").phase, Phase::kSucceeded);
  EXPECT_EQ(world.pods("urgent").size(), 1u);
}

// kubernetes-sigs/kueue issues 6861 and 7301: a workload that was preempted over a hundred times.
TEST(AJobThatWasPreempted, IsLeftAloneForItsMinimumRunTimeOncePlacedAgain) {
  World world = a_world_with_classes(1);
  train(world, make_job("low", 1, 8));
  train(world, job_of_class("u1", "high"));
  world.finish("u1");
  world.settle();
  ASSERT_EQ(world.pods("low").size(), 1u);
  world.train(2, "low");
  world.add(job_of_class("u2", "high"));
  world.settle();
  EXPECT_EQ(world.status("low").preemptions, 1);
  EXPECT_TRUE(world.pods("u2").empty());
  world.pass(700);
  EXPECT_EQ(world.status("low").preemptions, 2);
  EXPECT_EQ(world.pods("u2").size(), 1u);
}

TEST(APreemption, ThatWasBegunIsCarriedThroughByTheNextController) {
  for (int actions = 0; actions < 12; ++actions) {
    World world = a_world_with_classes(2);
    train(world, make_job("low", 2, 8));
    world.add(job_of_class("urgent", "high", 2));
    world.die_after(actions);
    try {
      world.settle();
    } catch (const World::Died&) {
      world.succeed_controller();
      world.pass(60);
    }
    world.settle();
    EXPECT_EQ(world.status("low").preemptions, 1) << actions;
    EXPECT_EQ(world.pods("urgent").size(), 2u) << actions;
    EXPECT_EQ(world.status("low").restarts, 0) << actions;
  }
}

// ---- The choice itself, in small worlds, against all possible choices.

class SmallWorlds : public ::testing::Test {
 protected:
  /// 2 to 4 nodes of 8 GPUs in racks of two, up to 10 gangs of 1 to 3 pods on them.
  void make(unsigned seed) {
    std::mt19937 random(seed);
    const auto draw = [&random](int from, int to) { return std::uniform_int_distribution<>(from, to)(random); };
    const int nodes = draw(2, 4);
    cluster_ = ClusterBuilder{}.racks(2).nodes_per_rack(nodes / 2 + nodes % 2).gpus_per_node(8).build();
    jobs_.clear();
    std::vector<int> free(cluster_.nodes().size(), 8);
    int uid = 0;
    for (int i = 0; i < 10; ++i) {
      Job job = make_job("j" + std::to_string(i), draw(1, 3), draw(1, 4));
      job.created = test::at(i);
      set_condition(job.status, {condition::kPlaced, true, reason::kGangPlaced, ""}, 1, test::at(draw(0, 1000)));
      if (draw(0, 1) == 0) {
        job.spec.priorityClassName = "middle";
      }
      std::vector<std::size_t> where;
      for (int pod = 0; pod < job.spec.workers.count; ++pod) {
        const auto node = static_cast<std::size_t>(draw(0, static_cast<int>(free.size()) - 1));
        if (free[node] < job.spec.workers.gpusPerWorker) continue;
        free[node] -= job.spec.workers.gpusPerWorker;
        where.push_back(node);
      }
      if (where.empty()) continue;
      job.spec.workers.count = static_cast<int>(where.size());
      cluster_.put(job);
      for (const auto node : where) {
        Pod pod{.key = {"default", "p" + std::to_string(++uid)}, .uid = "p" + std::to_string(uid)};
        pod.node = "node-" + std::to_string(node);
        pod.requests = {{test::kGpu, job.spec.workers.gpusPerWorker}};
        pod.worker = WorkerPod{.job = job.key.name, .job_uid = job.uid};
        cluster_.put(std::move(pod));
      }
    }
    cluster_.put(PriorityClass{.name = "middle", .value = 5});
    topology_.emplace(cluster_);
    held_ = holdings(cluster_, *topology_, test::at(1000));
    gang_ = Gang{.count = draw(1, 3), .requests = {{test::kGpu, draw(1, 8)}}};
    if (draw(0, 2) == 0) gang_.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
  }

  bool fits_without(const std::vector<std::size_t>& gone) const {
    Topology topology = *topology_;
    for (const auto i : gone) release(topology, held_[i]);
    return std::holds_alternative<Placement>(place_gang(topology, gang_));
  }
  double work_of(const std::vector<std::size_t>& gone) const {
    double sum = 0;
    for (const auto i : gone) sum += held_[i].lost_work;
    return sum;
  }

  /// Of all subsets: of the lowest highest priority first, the least work.
  std::optional<std::pair<std::int32_t, double>> optimum() const {
    std::optional<std::pair<std::int32_t, double>> best;
    for (unsigned subset = 1; subset < (1u << held_.size()); ++subset) {
      std::vector<std::size_t> gone;
      std::int32_t highest = 0;
      for (std::size_t i = 0; i < held_.size(); ++i) {
        if ((subset >> i & 1) == 0) continue;
        gone.push_back(i);
        highest = std::max(highest, held_[i].priority.value);
      }
      const std::pair cost(highest, work_of(gone));
      if ((!best || cost < *best) && fits_without(gone)) best = cost;
    }
    return best;
  }

  Cluster cluster_;
  std::vector<Job> jobs_;
  std::optional<Topology> topology_;
  std::vector<Holding> held_;
  Gang gang_;
};

TEST_F(SmallWorlds, VictimsMakeRoomAreAllNeededAndLoseLittleMoreThanTheLeastPossible) {
  int choices = 0, least = 0;
  double work = 0, least_work = 0;
  for (unsigned seed = 0; seed < 400; ++seed) {
    make(seed);
    if (fits_without({})) continue;
    const auto victims = choose_victims(*topology_, held_, gang_, {.value = 10}, cluster_.settings, test::at(1000));
    const auto best = optimum();
    ASSERT_EQ(victims.empty(), !best) << seed;
    if (!best) continue;
    EXPECT_TRUE(fits_without(victims)) << seed;
    std::int32_t highest = 0;
    for (std::size_t i = 0; i < victims.size(); ++i) {
      auto fewer = victims;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      EXPECT_FALSE(fits_without(fewer)) << seed << ": one is stopped without need";
      highest = std::max(highest, held_[victims[i]].priority.value);
    }
    EXPECT_EQ(highest, best->first) << seed;
    ++choices;
    if (work_of(victims) <= best->second * 1.000001) ++least;
    work += work_of(victims);
    least_work += best->second;
  }
  ASSERT_GT(choices, 150);
  RecordProperty("least_percent", 100 * least / choices);
  RecordProperty("work_percent_of_least", static_cast<int>(100 * work / least_work));
  std::cout << choices << " choices, " << least << " of them the least possible; together " << work / least_work
            << " x the least work\n";
  EXPECT_GE(least, choices * 8 / 10);
  EXPECT_LE(work, least_work * 1.2);
}

}  // namespace
}  // namespace trainyard::decide
