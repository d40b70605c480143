// When each of those that wait is told to expect its start, and why some are told nothing.
#include "controller/decide/forecast.h"

#include <optional>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world_of_queues.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::make_job;
using test::World;

constexpr int kBehindTheHead = 10;  // more than have room kept for them

Time end_of(const World& world, const std::string& name) {
  const auto& progress = world.status(name).progress.value();
  return *contract::parse_rfc3339(progress.updatedAt) + std::chrono::seconds(progress.remainingSeconds.value());
}

std::optional<double> seconds_until(const World& world, const std::string& name, Time from) {
  const auto& queue = world.status(name).queue;
  if (!queue || !queue->estimatedStartTime) return std::nullopt;
  return std::chrono::duration<double>(*contract::parse_rfc3339(*queue->estimatedStartTime) - from).count();
}

std::string waiting(int number) { return "waits-" + std::to_string(number); }

TEST(EveryJobThatWaits, IsToldWhenItMayStartInTheOrderOfTheLine) {
  World world = a_rack_of(1);
  submit(world, make_job("runs", 1, 8));
  tell_time_left(world, 1'000, "runs");
  const Time end = end_of(world, "runs");
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, make_job(waiting(i), 1, 8), 600);
  for (int i = 0; i < kBehindTheHead; ++i) {
    EXPECT_EQ(world.status(waiting(i)).queue->position, i + 1);
    EXPECT_EQ(seconds_until(world, waiting(i), end), 600 * i) << i << ": each runs until its deadline";
  }
}

TEST(EveryJobThatWaits, IsToldWhoseEndNobodyKnowsWhereThatIsWhatItWaitsFor) {
  World world = a_rack_of(1);
  submit(world, make_job("runs", 1, 8));
  tell_time_left(world, 1'000, "runs");
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, make_job(waiting(i), 1, 8), i == 6 ? std::nullopt : std::optional(600));
  EXPECT_TRUE(world.status(waiting(6)).queue->estimatedStartTime);
  EXPECT_FALSE(world.status(waiting(7)).queue->estimatedStartTime);
  const std::string why = world.condition("Placed", waiting(7)).message;
  EXPECT_NE(why.find("hen it starts nobody can know: default/waits-6 comes before it, has no lifecycle.activeDeadlineSeconds and "
                     "tells no time left."),
            std::string::npos)
      << why;
}

Job with_cores(Job job, const std::string& cpu) {
  job.spec.workers.templ["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu;
  return job;
}

TEST(EveryJobThatWaits, ForCoresBesideFreeGpusIsToldWhoHasThem) {
  World world(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).cpus_per_node(64).build());
  submit(world, with_cores(make_job("cores", 1, 0), "60"));
  submit(world, with_cores(make_job("gpus", 1, 8), "16"));
  const std::string why = world.condition("Placed", "gpus").message;
  EXPECT_NE(why.find("hen it starts nobody can know: default/cores comes before it"), std::string::npos) << why;
}

TEST(EveryJobThatWaits, ForCoresIsToldWhoHasThemOnNodesThatItsQueueMayUse) {
  World world = a_world_of(2, {make_queue("team", {gpus(8, {{"gpu", "h100"}})})}, 1);
  const auto on = [](const char* gpu, Job job) {
    job.spec.workers.templ["spec"]["nodeSelector"]["gpu"] = gpu;
    return job;
  };
  submit(world, on("a100", with_cores(make_job("a-stranger", 1, 0), "60")));
  submit(world, on("h100", with_cores(make_job("b-neighbour", 1, 0), "60")));
  submit(world, with_cores(job_in("team", "gpus"), "16"));
  const std::string why = world.condition("Placed", "gpus").message;
  EXPECT_NE(why.find("hen it starts nobody can know: default/b-neighbour comes before it"), std::string::npos) << why;
}

TEST(EveryJobThatWaits, HasThatOfGpusWhichItsKindOfNodesHas) {
  World world = a_world_of(2, {}, 1);  // node-0 is an h100, node-1 an a100
  const auto on = [](const char* gpu, Job job) {
    job.spec.workers.templ["spec"]["nodeSelector"]["gpu"] = gpu;
    return job;
  };
  submit(world, on("h100", make_job("new", 1, 8)), 1'000);
  submit(world, on("a100", make_job("old", 1, 8)));
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, on(i % 2 == 0 ? "h100" : "a100", make_job(waiting(i), 1, 8)), 600);
  for (int i = 0; i < kBehindTheHead; ++i) {
    EXPECT_EQ(world.status(waiting(i)).queue->estimatedStartTime.has_value(), i % 2 == 0) << i << ": of old nobody knows the end";
  }
}

TEST(EveryJobThatWaits, ForQuotaIsToldWhenItsQueueHasSome) {
  World world = a_world_of(4, {make_queue("small", {gpus(8)}), make_queue("large", {gpus(24)})});
  submit(world, job_in("small", "runs"));
  tell_time_left(world, 1'000, "runs");
  const Time end = end_of(world, "runs");
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, job_in("small", waiting(i)), 600);
  for (int i = 0; i < kBehindTheHead; ++i) {
    EXPECT_EQ(world.condition("Placed", waiting(i)).reason, "QuotaExceeded");
    EXPECT_EQ(seconds_until(world, waiting(i), end), 600 * i) << i << ": the three other nodes are of no use to it";
  }
}

TEST(EveryJobThatWaits, ForNodesIsNotHeldUpByThoseBeforeItThatWaitForQuota) {
  World world = a_world_of(2, {make_queue("small", {gpus(8)}), make_queue("large", {gpus(80)})});
  submit(world, job_in("small", "one"), 1'000);
  submit(world, job_in("large", "other"), 1'000);
  for (int i = 0; i < kBehindTheHead; ++i) {
    Job before = job_in("small", "before-" + std::to_string(i));
    before.spec.priorityClassName = "polite";
    submit(world, std::move(before), 600);
  }
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, job_in("large", waiting(i)), 600);
  EXPECT_GT(world.status(waiting(0)).queue->position, kBehindTheHead);
  const auto last = seconds_until(world, waiting(kBehindTheHead - 1), test::at(0));
  ASSERT_TRUE(last);
  EXPECT_GE(*last, 1'000 + 600 * (kBehindTheHead - 2))
      << "nodes are kept for the first two, as if there were no quota to wait for";
  EXPECT_LE(*last, 1'100 + 600 * kBehindTheHead) << "small has one of the two nodes for long, one after the other";
}

TEST(EveryJobThatWaits, MayHaveTheNodesUntilThenOfThoseBeforeItWhoHaveTheirQuotaLater) {
  constexpr int kNodes = 5, kAtOnce = kNodes - 1;
  World world = a_world_of(kNodes, {make_queue("small", {gpus(8 * kNodes)}), make_queue("large", {gpus(800)})});
  submit(world, job_in("small", "long"), 10'000);
  for (int i = 0; i < kAtOnce; ++i) submit(world, job_in("large", "other-" + std::to_string(i)), 1'000);
  for (const char* name : {"first", "second"}) {  // each wants all of its queue's quota, and all nodes
    Job whole = job_in("small", name, kNodes);
    whole.spec.priorityClassName = "polite";
    submit(world, std::move(whole), 600);
    ASSERT_EQ(world.condition("Placed", name).reason, "QuotaExceeded");
  }
  // Of the first it is looked for when its queue has enough, of the second it follows from the first's end.
  EXPECT_GE(seconds_until(world, "first", test::at(0)).value_or(0), 10'000);
  EXPECT_GE(seconds_until(world, "second", test::at(0)).value_or(0), 10'600);
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, job_in("large", waiting(i)), 600);
  EXPECT_GT(world.status(waiting(0)).queue->position, 2);
  for (int i = kAtOnce; i < 2 * kAtOnce; ++i) {
    const auto starts = seconds_until(world, waiting(i), test::at(0));
    ASSERT_TRUE(starts) << i;
    EXPECT_GE(*starts, 1'600) << i << ": when those end that come before it";
    EXPECT_LE(*starts, 1'800) << i << ": not when the two before these have their quota";
  }
}

TEST(AForecast, IsToldAnewOnlyWhereItIsOffByAGoodPartOfTheWait) {
  World world = a_rack_of(1);
  submit(world, make_job("runs", 1, 8));
  tell_time_left(world, 10'000, "runs");
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, make_job(waiting(i), 1, 8), 600);
  const auto last = waiting(kBehindTheHead - 1);
  const auto told = world.status(last).queue->estimatedStartTime, head = world.status(waiting(0)).queue->estimatedStartTime;
  tell_time_left(world, 10'500, "runs");
  world.pass(60);
  EXPECT_EQ(world.status(last).queue->estimatedStartTime, told) << "500 s of 15,000 are not worth a write";
  EXPECT_NE(world.status(waiting(0)).queue->estimatedStartTime, head) << "of the head it is no forecast";
  tell_time_left(world, 13'000, "runs");
  world.pass(60);
  EXPECT_NE(world.status(last).queue->estimatedStartTime, told);
}

TEST(AForecast, ThatMovesWithTheClockIsToldEverMoreSeldom) {
  World world = a_rack_of(1);
  submit(world, make_job("runs", 1, 8));
  tell_time_left(world, 30, "runs");
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, make_job(waiting(i), 1, 8), 60);
  const auto last = waiting(kBehindTheHead - 1);
  std::set<std::string> told;
  for (int i = 0; i < 40; ++i) {
    world.pass(30);  // runs overruns: it may end at any moment
    told.insert(world.status(last).queue->estimatedStartTime.value());
  }
  EXPECT_GE(told.size(), 2u);
  EXPECT_LE(told.size(), 15u) << "of 40 times";
}

TEST(AForecast, ForADryRunBehindTheHeadIsInItsAnswer) {
  World world = a_rack_of(1);
  submit(world, make_job("runs", 1, 8));
  tell_time_left(world, 1'000, "runs");
  for (int i = 0; i < kBehindTheHead; ++i) submit(world, make_job(waiting(i), 1, 8), 600);
  Job asks = make_job("asks", 1, 8);
  asks.spec.dryRun = true;
  submit(world, std::move(asks));
  ASSERT_TRUE(world.status("asks").dryRun);
  EXPECT_TRUE(world.status("asks").dryRun->estimatedStartTime);
}

}  // namespace
}  // namespace trainyard::decide
