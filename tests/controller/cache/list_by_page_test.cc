// Lists that come page by page (kube::WatchBatch::has_more), which the cache takes in beside its other sources.

#include <gtest/gtest.h>

#include "controller/cache/cache.h"
#include "tests/controller/cache/objects.h"
#include "tests/support/builders.h"

namespace trainyard::cache {
namespace {

using kube::EventType;
using test::at;

constexpr auto kJobsTarget = static_cast<std::size_t>(Watched::kJobs);

kube::WatchBatch page(std::int64_t revision, std::vector<Json> objects) {
  kube::WatchBatch batch = listed(kJobsTarget, revision, std::move(objects));
  batch.has_more = true;
  return batch;
}

/// `earlier`: names and UIDs of what its pages before held.
kube::WatchBatch last_page(std::int64_t revision, std::vector<Json> objects, std::vector<kube::Identity> earlier) {
  kube::WatchBatch batch = listed(kJobsTarget, revision, std::move(objects));
  batch.earlier = std::move(earlier);
  return batch;
}

struct ListByPage : testing::Test {
  Cache cache{decide::Settings{}};

  void SetUp() override {
    cache.apply(listed(kJobsTarget, 100, {job_object("a", 50, "uid-a"), job_object("z", 60, "uid-z")}), at(0));
  }
  bool has(const std::string& name) const { return cache.cluster().job({"default", name}) != nullptr; }
  std::string uid(const std::string& name) const { return has(name) ? cache.cluster().job({"default", name})->uid : ""; }
};

TEST_F(ListByPage, IsKnownPageByPageAndTakesAwayWhatNoneOfThemHeld) {
  cache.apply(page(200, {job_object("a", 50, "uid-a"), job_object("b", 150, "uid-b")}), at(1));
  EXPECT_TRUE(has("b"));
  EXPECT_TRUE(has("z")) << "it may be on a later page";
  cache.apply(last_page(200, {job_object("c", 160, "uid-c")}, {{"default", "a", "uid-a"}, {"default", "b", "uid-b"}}), at(2));
  EXPECT_TRUE(has("a") && has("b") && has("c"));
  EXPECT_FALSE(has("z"));
}

TEST_F(ListByPage, IsNotSyncedBeforeTheLastPage) {
  Cache fresh{decide::Settings{}};
  for (std::size_t target = 0; target < kNumWatched; ++target) {
    if (target != kJobsTarget) fresh.apply(listed(target, 1, {}), at(0));
  }
  fresh.apply(page(1, {job_object("a", 1)}), at(0));
  EXPECT_FALSE(fresh.synced());
  fresh.apply(last_page(1, {}, {{"default", "a", "job-uid"}}), at(0));
  EXPECT_TRUE(fresh.synced());
}

TEST_F(ListByPage, KeepsNoEventFromBeingHeardThatTheRestOfTheListMayNotTell) {
  cache.apply_list(page(200, {job_object("a", 50, "uid-a")}), at(1));  // it could not be read to its end
  cache.apply(event(kJobsTarget, EventType::kAdded, job_object("m", 150, "uid-m")), at(2));
  cache.apply(event(kJobsTarget, EventType::kDeleted, job_object("z", 160, "uid-z")), at(3));
  EXPECT_TRUE(has("m"));
  EXPECT_FALSE(has("z"));
}

TEST_F(ListByPage, TheFirstJobOfANameThatAWatchWhichLagsTellsOfDoesNotTakeTheSecondOnesPlace) {
  cache.apply_list(page(200, {job_object("b", 180, "second")}), at(1));
  cache.apply(event(kJobsTarget, EventType::kAdded, job_object("b", 120, "first")), at(2));
  EXPECT_EQ(uid("b"), "second");
  cache.apply_list(last_page(200, {job_object("z", 60, "uid-z")}, {{"default", "b", "second"}}), at(3));
  cache.apply(event(kJobsTarget, EventType::kDeleted, job_object("b", 130, "first")), at(4));
  EXPECT_EQ(uid("b"), "second");
}

TEST_F(ListByPage, OneThatHasEndedOnTheWatchMeanwhileIsNotBroughtBack) {
  cache.apply_list(page(200, {job_object("b", 150, "uid-b")}), at(1));
  cache.apply(event(kJobsTarget, EventType::kDeleted, job_object("z", 210, "uid-z")), at(2));
  cache.apply_list(last_page(200, {job_object("z", 60, "uid-z")}, {{"default", "b", "uid-b"}}), at(3));
  EXPECT_FALSE(has("z"));
  EXPECT_TRUE(has("a")) << "the watch, which is ahead of the list, has not told of its end";
}

TEST_F(ListByPage, OfAServerSetBackToABackupIsBelieved) {
  cache.apply(page(90, {job_object("b", 80, "uid-b")}), at(1));
  EXPECT_FALSE(has("a"));
  cache.apply(last_page(90, {job_object("c", 70, "uid-c")}, {{"default", "b", "uid-b"}}), at(2));
  EXPECT_TRUE(has("b") && has("c"));
}

}  // namespace
}  // namespace trainyard::cache
