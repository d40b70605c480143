#include "crds/contract/layout.h"

#include <set>
#include <stdexcept>

#include <gtest/gtest.h>

namespace trainyard::contract {
namespace {

constexpr std::int32_t kLargestDegree = 4;
constexpr Axis kAxes[] = {Axis::kDp, Axis::kPp, Axis::kCp, Axis::kTp};

/// Every layout whose degrees go from 1 to 4.
std::vector<Layout> small_worlds() {
  std::vector<Layout> out;
  for (std::int32_t dp = 1; dp <= kLargestDegree; ++dp) {
    for (std::int32_t pp = 1; pp <= kLargestDegree; ++pp) {
      for (std::int32_t cp = 1; cp <= kLargestDegree; ++cp) {
        for (std::int32_t tp = 1; tp <= kLargestDegree; ++tp) {
          out.emplace_back(Degrees{.pp = pp, .dp = dp, .cp = cp, .tp = tp}, pp * dp * cp * tp);
        }
      }
    }
  }
  return out;
}

TEST(Layout, GivesEveryRankAPlaceOfItsOwn) {
  for (const Layout& layout : small_worlds()) {
    std::set<Coordinate> places;
    for (std::int32_t rank = 0; rank < layout.world_size(); ++rank) {
      const Coordinate at = layout.coordinate_of(rank);
      ASSERT_EQ(layout.rank_of(at), rank);
      places.insert(at);
    }
    ASSERT_EQ(static_cast<std::int32_t>(places.size()), layout.world_size());
  }
}

TEST(Layout, CutsTheRanksIntoGroupsOfEachAxisWithoutOverlap) {
  for (const Layout& layout : small_worlds()) {
    for (const Axis axis : kAxes) {
      std::set<std::vector<std::int32_t>> groups;
      for (std::int32_t rank = 0; rank < layout.world_size(); ++rank) {
        const auto group = layout.group(axis, rank);
        ASSERT_EQ(static_cast<std::int32_t>(group.size()), layout.size(axis));
        ASSERT_EQ(std::count(group.begin(), group.end(), rank), 1);
        groups.insert(group);
      }
      std::multiset<std::int32_t> members;
      for (const auto& group : groups) members.insert(group.begin(), group.end());
      ASSERT_EQ(static_cast<std::int32_t>(members.size()), layout.world_size());
      ASSERT_EQ(std::set<std::int32_t>(members.begin(), members.end()).size(), members.size());
    }
  }
}

TEST(Layout, KeepsATensorParallelGroupOnNeighbouringRanksAndReplicasFurthestApart) {
  const Layout layout({.pp = 2, .dp = 4, .tp = 4}, 32);
  EXPECT_EQ(layout.group(Axis::kTp, 6), (std::vector<std::int32_t>{4, 5, 6, 7}));
  EXPECT_EQ(layout.group(Axis::kPp, 6), (std::vector<std::int32_t>{2, 6}));
  EXPECT_EQ(layout.group(Axis::kDp, 6), (std::vector<std::int32_t>{6, 14, 22, 30}));
}

TEST(Layout, OrdersAGroupByThePlaceOnItsAxis) {
  const Layout layout({.pp = 3, .dp = 2, .tp = 2}, 12);
  const auto group = layout.group(Axis::kPp, 9);
  for (std::int32_t i = 0; i < 3; ++i) EXPECT_EQ(layout.coordinate_of(group[static_cast<std::size_t>(i)]).pp, i);
}

TEST(Layout, RefusesDegreesThatDoNotMakeTheWorld) {
  EXPECT_THROW(Layout({.pp = 2, .dp = 2}, 8), std::invalid_argument);
  EXPECT_THROW(Layout({.pp = 0, .dp = 2}, 0), std::invalid_argument);
  EXPECT_THROW(Layout({.dp = 4, .ep = 3}, 4), std::invalid_argument);
  EXPECT_NO_THROW(Layout({.dp = 2, .ep = 4, .tp = 2}, 4));
  EXPECT_THROW(Layout({.dp = 4}, 4).coordinate_of(4), std::invalid_argument);
  EXPECT_THROW(Layout({.dp = 4}, 4).coordinate_of(-1), std::invalid_argument);
}

TEST(Degrees, TakeWhatRemainsOfTheRanksForData) {
  TrainingJobSpec spec;
  spec.workers.count = 4;
  spec.workers.gpusPerWorker = 8;
  spec.parallelism.tensor = 4;
  spec.parallelism.pipeline = 2;
  EXPECT_EQ(world_size(spec), 32);
  EXPECT_EQ(degrees(spec), (Degrees{.pp = 2, .dp = 4, .tp = 4}));
  spec.parallelism.data = 2;
  EXPECT_EQ(degrees(spec).dp, 2);
}

TEST(Degrees, ShardOverTheDataRanksOfAWorkerWhereThatIsAskedFor) {
  TrainingJobSpec spec;
  spec.workers.count = 3;
  spec.workers.gpusPerWorker = 8;
  spec.parallelism.tensor = 2;
  EXPECT_EQ(degrees(spec).shard, 0);
  spec.parallelism.zero.shardGroup = ShardGroup::kNode;
  EXPECT_EQ(degrees(spec), (Degrees{.dp = 12, .tp = 2, .shard = 4}));
}

TEST(Layout, CutsADataParallelGroupIntoThoseThatShardTogetherAndThoseThatHaveCopies) {
  const Layout layout({.pp = 2, .dp = 4, .shard = 2}, 8);
  EXPECT_EQ(layout.group(Axis::kDp, 5), (std::vector<std::int32_t>{1, 3, 5, 7}));
  EXPECT_EQ(layout.shard_group(5), (std::vector<std::int32_t>{5, 7}));
  EXPECT_EQ(layout.replica_group(5), (std::vector<std::int32_t>{1, 5}));
  const Layout whole({.dp = 4}, 4);
  EXPECT_EQ(whole.degrees().shard, 4);
  EXPECT_EQ(whole.shard_group(2), (std::vector<std::int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(whole.replica_group(2), (std::vector<std::int32_t>{2}));
  EXPECT_THROW(Layout({.dp = 4, .shard = 3}, 4), std::invalid_argument);
}

TEST(ProcessesPerWorker, AreTheGpusUnlessSaidOtherwiseAndAtLeastOne) {
  TrainingJobSpec spec;
  EXPECT_EQ(processes_per_worker(spec), 1);
  spec.workers.gpusPerWorker = 8;
  EXPECT_EQ(processes_per_worker(spec), 8);
  spec.workers.processesPerWorker = 2;
  EXPECT_EQ(processes_per_worker(spec), 2);
}

}  // namespace
}  // namespace trainyard::contract
