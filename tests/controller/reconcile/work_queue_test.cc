#include "controller/reconcile/work_queue.h"

#include <vector>

#include <gtest/gtest.h>

#include "tests/support/virtual_time.h"

namespace trainyard::reconcile {
namespace {

using std::chrono::milliseconds;
using test::VirtualExecutor;
using test::VirtualTime;

const Key kJob{.kind = Kind::kTrainingJob, .object = {"default", "job"}};
const Key kOther{.kind = Kind::kTrainingJob, .object = {"default", "other"}};

struct Fixture {
  VirtualTime time;
  VirtualExecutor executor{time};
  std::vector<std::pair<milliseconds, Key>> runs;
  std::function<void(const Key&)> then = [this](const Key& key) { queue.done(key, Ended::kWell); };
  WorkQueue queue{executor,
                  [this](const Key& key) {
                    runs.emplace_back(time.uptime(), key);
                    then(key);
                  },
                  Pace{}};

  std::size_t num_runs(const Key& key) const {
    return static_cast<std::size_t>(std::count_if(runs.begin(), runs.end(), [&](const auto& run) { return run.second == key; }));
  }
};

TEST(WorkQueue, RunsAKeyOnceHoweverOftenItWasAdded) {
  Fixture f;
  for (int i = 0; i < 5; ++i) f.queue.add(kJob);
  f.queue.add(kOther);
  f.time.run_for(std::chrono::seconds(100));
  EXPECT_EQ(f.num_runs(kJob), 1u);
  EXPECT_EQ(f.num_runs(kOther), 1u);
}

TEST(WorkQueue, RunsAKeyAgainThatWasAddedWhileItRanButNeverTwiceAtATime) {
  Fixture f;
  f.then = [](const Key&) {};
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(1));
  f.queue.add(kJob);
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(1));
  EXPECT_EQ(f.num_runs(kJob), 1u);
  f.queue.done(kJob, Ended::kWell);
  f.time.run_for(std::chrono::seconds(1));
  EXPECT_EQ(f.num_runs(kJob), 2u);
}

Key numbered(std::size_t number) { return {.kind = Kind::kTrainingJob, .object = {"default", "job-" + std::to_string(number)}}; }

TEST(WorkQueue, OfManyJobsRunsSoManyAtATimeAndTheOthersInTheirOrderAsTheseEnd) {
  Fixture f;
  f.then = [](const Key&) {};
  for (std::size_t i = 0; i < WorkQueue::kAtOnce + 3; ++i) f.queue.add(numbered(i));
  f.queue.add({.kind = Kind::kRoom, .object = {}});
  f.time.run_for(std::chrono::seconds(100));
  EXPECT_EQ(f.runs.size(), WorkQueue::kAtOnce + 1) << "the jobs, and the look at the room, which waits for none of them";
  f.queue.add(numbered(WorkQueue::kAtOnce + 1));  // again, while it waits
  for (const std::size_t i : {3U, 4U}) {
    f.queue.done(numbered(i), Ended::kWell);
    f.time.run_for(std::chrono::seconds(1));
    EXPECT_EQ(f.runs.back().second, numbered(WorkQueue::kAtOnce + i - 3)) << i;
  }
  EXPECT_EQ(f.runs.size(), WorkQueue::kAtOnce + 3);
}

TEST(WorkQueue, AJobThatWasClaimedBeforeItsTurnKeepsNobodyBehindItWaiting) {
  Fixture f;
  f.then = [](const Key&) {};
  for (std::size_t i = 0; i < WorkQueue::kAtOnce + 2; ++i) f.queue.add(numbered(i));
  f.time.run_for(std::chrono::seconds(1));
  f.queue.claim(numbered(WorkQueue::kAtOnce));
  for (const std::size_t i : {0U, 1U}) f.queue.done(numbered(i), Ended::kWell);
  f.time.run_for(std::chrono::seconds(1));
  EXPECT_EQ(f.runs.back().second, numbered(WorkQueue::kAtOnce + 1));
}

TEST(WorkQueue, ThatWasClearedWaitsForNoRunThatHadBegun) {
  Fixture f;
  f.then = [](const Key&) {};
  for (std::size_t i = 0; i < WorkQueue::kAtOnce + 3; ++i) f.queue.add(numbered(i));
  f.time.run_for(std::chrono::seconds(1));
  f.queue.clear();
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(1));
  EXPECT_EQ(f.runs.back().second, kJob);
  f.queue.done(numbered(0), Ended::kWell);  // of before
  for (std::size_t i = 0; i < WorkQueue::kAtOnce; ++i) f.queue.add(numbered(i));
  f.time.run_for(std::chrono::seconds(1));
  EXPECT_EQ(f.runs.size(), 2 * WorkQueue::kAtOnce) << "one of them has to wait";
}

TEST(WorkQueue, KnowsSinceWhenThereWasACauseForTheRunThatHasBegun) {
  Fixture f;
  std::vector<milliseconds> causes;
  f.then = [&](const Key& key) { causes.push_back(f.queue.cause_at(key)); };
  f.time.run_for(milliseconds(10));
  f.queue.add(kJob);
  f.time.run_for(milliseconds(10));
  f.queue.add(kJob);  // while it runs: the cause of the next run
  f.time.run_for(milliseconds(10));
  EXPECT_EQ(f.queue.cause_at(kJob), milliseconds(10));
  f.queue.add(kJob);
  f.queue.done(kJob, Ended::kWell, milliseconds(500));
  f.time.run_for(std::chrono::seconds(2));
  f.queue.add_after(kJob, milliseconds(1'000));
  f.queue.done(kJob, Ended::kWell);
  f.time.run_for(std::chrono::seconds(2));
  EXPECT_EQ(causes, (std::vector<milliseconds>{milliseconds(10), milliseconds(20), milliseconds(3'030)}));
}

TEST(WorkQueue, LetsAKeyRestAsLongAsItsRunAskedFor) {
  Fixture f;
  f.then = [&f](const Key& key) {
    f.queue.add(key);
    f.queue.done(key, Ended::kWell, milliseconds(700));
  };
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(3));
  std::vector<std::int64_t> at;
  for (const auto& run : f.runs) at.push_back(run.first.count());
  EXPECT_EQ(at, (std::vector<std::int64_t>{0, 550, 1'250, 1'950, 2'650})) << "three intervals of 50 ms may be run ahead of";
}

TEST(WorkQueue, LetsAKeyRestForLessThanTheIntervalWhereItsRunAsksForSoLittle) {
  Fixture f;
  f.then = [&f](const Key& key) {
    f.queue.add(key);
    f.queue.done(key, Ended::kWell, milliseconds(10));
  };
  f.queue.add(kJob);
  f.time.run_for(milliseconds(105));
  EXPECT_EQ(f.num_runs(kJob), 26u) << "one each 10 ms, and 150 ms ahead";
}

TEST(WorkQueue, RunsAFewTimesAtOnceBeforeItKeepsADistance) {
  Fixture f;
  f.then = [&f](const Key& key) {
    f.queue.add(key);
    f.queue.done(key, Ended::kWell);
  };
  f.queue.add(kJob);
  f.time.run_for(milliseconds(160));
  std::vector<std::int64_t> at;
  for (const auto& run : f.runs) at.push_back(run.first.count());
  EXPECT_EQ(at, (std::vector<std::int64_t>{0, 0, 0, 0, 50, 100, 150}));
}

TEST(WorkQueue, MayRunAtOnceAgainAfterAWhile) {
  Fixture f;
  for (int i = 0; i < 4; ++i) {
    f.queue.add(kJob);
    f.time.run_for(milliseconds(1));
  }
  ASSERT_EQ(f.runs.size(), 4u);
  f.time.run_for(milliseconds(101));
  for (int i = 0; i < 3; ++i) {
    f.queue.add(kJob);
    f.time.run_for(milliseconds(1));
  }
  EXPECT_EQ(f.runs.size(), 6u) << "two intervals, two runs";
}

TEST(WorkQueue, KeepsADistanceBetweenRunsOfAKeyThatAlwaysWantsMore) {
  Fixture f;
  f.then = [&f](const Key& key) {
    f.queue.add(key);
    f.queue.done(key, Ended::kWell);
  };
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(10));
  EXPECT_GE(f.num_runs(kJob), 190u);
  EXPECT_LE(f.num_runs(kJob), 204u);
}

TEST(WorkQueue, WaitsTwiceAsLongAfterEachFailureUpToTheLimitWhateverIsAdded) {
  Fixture f;
  f.then = [&f](const Key& key) {
    f.queue.done(key, Ended::kFailed);
    f.queue.add(key);
  };
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(400));
  std::vector<std::int64_t> gaps;
  for (std::size_t i = 1; i < f.runs.size(); ++i) gaps.push_back((f.runs[i].first - f.runs[i - 1].first).count());
  const std::vector<std::int64_t> wanted{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000, 60000, 60000};
  ASSERT_GE(gaps.size(), wanted.size());
  gaps.resize(wanted.size());
  EXPECT_EQ(gaps, wanted);
}

TEST(WorkQueue, ForgetsFailuresAfterASuccess) {
  Fixture f;
  int failures = 3;
  f.then = [&](const Key& key) { f.queue.done(key, failures-- > 0 ? Ended::kFailed : Ended::kWell); };
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(10));
  ASSERT_EQ(f.runs.size(), 4u);
  failures = 1;
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(10));
  ASSERT_EQ(f.runs.size(), 6u);
  EXPECT_EQ(f.runs[5].first - f.runs[4].first, milliseconds(100));
}

TEST(WorkQueue, AfterAConflictRunsAsSoonAsTheKeyIsAdded) {
  Fixture f;
  f.then = [&f](const Key& key) { f.queue.done(key, Ended::kConflict, std::chrono::seconds(30)); };
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(1));
  ASSERT_EQ(f.runs.size(), 1u);
  f.queue.add(kJob);
  f.time.run_for(milliseconds(60));
  EXPECT_EQ(f.runs.size(), 2u);
  f.time.run_for(std::chrono::seconds(31));
  EXPECT_EQ(f.runs.size(), 3u);
}

TEST(WorkQueue, LooksAgainAtTheSoonestTimeAskedFor) {
  Fixture f;
  f.queue.add_after(kJob, std::chrono::seconds(9));
  f.queue.add_after(kJob, std::chrono::seconds(3));
  f.queue.add_after(kJob, std::chrono::seconds(7));
  f.time.run_for(std::chrono::seconds(20));
  ASSERT_EQ(f.runs.size(), 1u);
  EXPECT_EQ(f.runs[0].first, std::chrono::seconds(3));
}

TEST(WorkQueue, HonoursTheWaitThatTheServerAskedFor) {
  Fixture f;
  int left = 1;
  f.then = [&](const Key& key) { f.queue.done(key, left-- > 0 ? Ended::kFailed : Ended::kWell, std::chrono::seconds(5)); };
  f.queue.add(kJob);
  f.time.run_for(std::chrono::seconds(20));
  ASSERT_EQ(f.runs.size(), 2u);
  EXPECT_GE(f.runs[1].first - f.runs[0].first, std::chrono::seconds(5));
}

TEST(WorkQueue, RunsNothingAfterItWasCleared) {
  Fixture f;
  f.queue.add(kJob);
  f.queue.add_after(kOther, std::chrono::seconds(1));
  f.queue.clear();
  f.time.run_for(std::chrono::seconds(100));
  EXPECT_TRUE(f.runs.empty());
}

TEST(WorkQueue, TellsWhenAKeyCouldRun) {
  Fixture f;
  EXPECT_EQ(f.queue.ready_in(kJob), milliseconds(0));
  f.queue.claim(kJob);
  EXPECT_EQ(f.queue.ready_in(kJob), std::nullopt);
  f.queue.done(kJob, Ended::kFailed, std::chrono::seconds(2));
  EXPECT_EQ(f.queue.ready_in(kJob), std::chrono::seconds(2));
}

}  // namespace
}  // namespace trainyard::reconcile
