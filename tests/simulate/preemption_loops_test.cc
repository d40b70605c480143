// Loops into which the queues of another system fell, each told as it was reported (the numbers are issues of kubernetes-sigs/kueue): jobs
// stop each other in turns, and nobody gets on. Here a job that was stopped may be stopped again at once (Settings::preempted_min_run), since
// that pace would hide such a loop: that there is none has to come of what is decided.

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

/// Three nodes of 8 cpus; each worker takes one.
struct PreemptionLoop : Story {
  void SetUp() override {
    world.settings.preempted_min_run = seconds(0);
    Story::SetUp();
    world.add_priority_class("low", -10);
    world.add_priority_class("high", 100);
    world.add_queue("all", Json::object());
  }
  void add_queue(const char* name, int cpus) { world.add_queue(name, {{"parent", "all"}, {"flavors", cpus_of(cpus)}}); }
  void submit(const char* queue, const std::string& name, int workers, std::int64_t steps, const char* priority_class = "") {
    world.apply({.name = name, .workers = workers, .steps = steps, .priority_class = priority_class, .queue = queue});
    jobs_.push_back(name);
  }
  void run(const char* queue, const std::string& name, int workers, std::int64_t steps, const char* priority_class = "") {
    submit(queue, name, workers, steps, priority_class);
    expect_phase(name, Phase::kRunning);
    world.time.run_for(seconds(4));
  }
  int preemptions(const std::string& job) { return world.status(job).preemptions; }
  void expect_all_end() {
    for (const auto& job : jobs_) {
      expect_phase(job, Phase::kSucceeded, seconds(1'200));
      EXPECT_EQ(world.status(job).restarts + world.status(job).uncountedRestarts, 0) << job;
    }
  }

 private:
  std::vector<std::string> jobs_;
};

// 13662: the one that is gone first is let in again, and stopped again, for as long as the other takes
TEST_F(PreemptionLoop, TwoVictimsOfAReclaimAreGoneAtDifferentTimes) {
  add_queue("claims", 16);
  add_queue("borrows", 8);
  run("borrows", "slow", 12, 120, "high");
  run("borrows", "quick", 12, 120, "high");
  for (const auto& pod : world.running_pods("slow")) world.workers.hide(pod);  // nobody can tell them to write a checkpoint
  submit("claims", "claimant", 16, 20, "low");
  ASSERT_TRUE(world.time.run_until([this] { return world.live_pods("quick") == 0; }, seconds(60)));
  EXPECT_GT(world.live_pods("slow"), 0);
  int came_back = 0;
  world.api.on_change(test::kPodsPath, [&](const auto& change) {
    const bool is_made = change.type == kube::EventType::kAdded && cache::key_of(*change.object).name.starts_with("quick");
    came_back += is_made && world.phase("claimant") != Phase::kRunning && !world.is_finished("claimant");
  });
  expect_phase("claimant", Phase::kRunning);
  EXPECT_EQ(came_back, 0) << "its place was promised";
  expect_all_end();
  EXPECT_EQ(preemptions("slow"), 1);
  EXPECT_EQ(preemptions("quick"), 1);
}

// 6947, 6929: one that can never run takes its turn, and a borrower is stopped for it each time
TEST_F(PreemptionLoop, ABorrowerIsStoppedAgainAndAgainForAJobThatCanNeverRun) {
  add_queue("a", 9);
  add_queue("b", 0);
  run("b", "borrower", 3, 100);
  world.apply({.name = "too-large", .workers = 12, .queue = "a"});
  ASSERT_TRUE(becomes("too-large", "Placed", "QuotaTooSmall")) << describe(world, "too-large");
  world.time.run_for(seconds(20));
  EXPECT_EQ(preemptions("borrower"), 0);
  run("a", "whole", 9, 40);
  EXPECT_EQ(preemptions("borrower"), 1);
  expect_all_end();
  EXPECT_EQ(preemptions("borrower"), 1);
  EXPECT_EQ(world.live_pods("too-large"), 0);
}

// The same where it can run, but not while another queue uses its own
TEST_F(PreemptionLoop, ABorrowerIsStoppedAgainAndAgainForAJobThatNeedsWhatAnotherQueueHasForItself) {
  add_queue("a", 9);
  add_queue("b", 0);
  add_queue("c", 3);
  run("c", "own", 3, 160);
  run("b", "borrower", 6, 100);
  submit("a", "large", 12, 10);
  world.time.run_for(seconds(20));
  EXPECT_EQ(preemptions("borrower") + preemptions("own"), 0) << "it would not help";
  submit("a", "within", 9, 20);
  expect_all_end();
  EXPECT_LE(preemptions("borrower"), 1);
  EXPECT_EQ(preemptions("own"), 0);
}

// 3779: one that borrows stops one of a queue with a smaller share, whose turn therefore comes first
TEST_F(PreemptionLoop, ABorrowerIsStoppedByOneOfALargerShareAndIsNextInLine) {
  add_queue("guaranteed", 12);
  add_queue("unused", 12);
  add_queue("best-effort", 0);
  run("guaranteed", "first", 20, 200);
  run("best-effort", "small", 4, 100, "low");
  run("guaranteed", "second", 4, 60);
  EXPECT_EQ(preemptions("small"), 1);
  world.time.run_for(seconds(20));
  EXPECT_EQ(world.phase("second"), Phase::kRunning);
  expect_all_end();
  EXPECT_EQ(preemptions("small"), 1);
  EXPECT_EQ(preemptions("second") + preemptions("first"), 0);
}

TEST_F(PreemptionLoop, NobodyIsStoppedForAnothersFairShareAlone) {
  add_queue("guaranteed", 12);
  add_queue("unused", 12);
  add_queue("best-effort", 0);
  run("guaranteed", "first", 20, 100);
  run("best-effort", "small", 4, 100);
  submit("guaranteed", "second", 4, 20);
  submit("best-effort", "third", 4, 20);
  expect_all_end();
  for (const char* job : {"first", "small", "second", "third"}) EXPECT_EQ(preemptions(job), 0) << job;
}

// 2821: one that has to borrow stops one of lower priority, which was there before it and is let in before it
TEST_F(PreemptionLoop, OneThatWasStoppedGetsItsPlaceBackBeforeTheOneItWasStoppedFor) {
  add_queue("a", 8);
  add_queue("b", 0);
  add_queue("c", 8);
  run("a", "own", 8, 200);
  run("b", "older", 8, 100, "low");
  run("a", "urgent", 8, 40, "high");
  EXPECT_EQ(preemptions("older"), 1);
  EXPECT_EQ(preemptions("own"), 0);
  expect_all_end();
  EXPECT_EQ(preemptions("older"), 1);
  EXPECT_EQ(preemptions("urgent") + preemptions("own"), 0);
}

// 14543: the two of them choose their victims in each other's queue and in their own
TEST_F(PreemptionLoop, TwoOfDifferentQueuesStopEachOthersJobsInTurns) {
  for (const char* queue : {"x", "y", "z"}) add_queue(queue, 8);
  for (const std::string queue : {"x", "y"}) {
    run(queue.c_str(), queue + "-first", 8, 160);
    run(queue.c_str(), queue + "-low", 4, 100, "low");
  }
  for (const std::string queue : {"x", "y"}) submit(queue.c_str(), queue + "-high", 8, 40, "high");
  expect_all_end();
  for (const std::string queue : {"x", "y"}) {
    EXPECT_EQ(preemptions(queue + "-high"), 0);
    EXPECT_LE(preemptions(queue + "-first") + preemptions(queue + "-low"), 2) << "each was stopped once at most";
  }
}

// 6861: more than a hundred preemptions of one workload
TEST_F(PreemptionLoop, ABorrowerIsStoppedMoreThanOnceForEachThatTakesItsQuotaBack) {
  add_queue("a", 20);
  add_queue("b", 4);
  run("b", "borrower", 24, 300);
  for (const char* job : {"one", "two", "three"}) {
    submit("a", job, 20, 30);
    world.time.run_for(seconds(40));
  }
  expect_all_end();
  EXPECT_LE(preemptions("borrower"), 3);
  EXPECT_GE(preemptions("borrower"), 1);
}

/// Whatever comes, of whatever queue and priority: each is stopped at most once for each of the others, and all end.
TEST(PreemptionLoops, AreNotAmongWhatThreeQueuesDoToEachOther) {
  int stops = 0, jobs = 0, most = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    World world(seed);
    Invariants invariants(world);
    world.settings.preempted_min_run = seconds(0);
    const auto random = [&](int low, int high) { return static_cast<int>(world.time.random(low, high)); };
    world.add_nodes(3, 4, 0);
    world.add_priority_class("high", 100);
    world.add_queue("all", Json::object());
    static constexpr const char* kNames[] = {"a", "b", "c"};
    for (const char* name : kNames) {
      world.add_queue(name, {{"parent", "all"}, {"weight", random(1, 4)}, {"flavors", cpus_of(random(2, 4))}});
    }
    world.start_controller(0);
    const int number = random(6, 10);
    for (int i = 0; i < number; ++i) {
      world.apply({.name = "job-" + std::to_string(i),
                   .workers = random(1, 6),
                   .steps = random(10, 120),
                   .priority_class = world.time.one_in(3) ? "high" : "",
                   .queue = kNames[random(0, 2)]});
      world.time.run_for(seconds(random(1, 20)));
    }
    for (int i = 0; i < number; ++i) {
      const std::string job = "job-" + std::to_string(i);
      EXPECT_TRUE(world.run_until_phase(job, Phase::kSucceeded, seconds(2'400)))
          << "seed " << seed << "; " << describe(world, job);
      EXPECT_LT(world.status(job).preemptions, number) << "seed " << seed << ", " << job;
      stops += world.status(job).preemptions;
      most = std::max(most, world.status(job).preemptions);
    }
    jobs += number;
    EXPECT_EQ(invariants.violations(), std::vector<std::string>{}) << "seed " << seed;
  }
  std::cout << jobs << " jobs were stopped " << stops << " times, none more often than " << most << "\n";
  EXPECT_GE(stops, 20) << "else this says little";
}

}  // namespace
}  // namespace trainyard::simulate
