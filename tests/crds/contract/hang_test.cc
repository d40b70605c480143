#include "crds/contract/hang.h"

#include <gtest/gtest.h>

namespace trainyard::contract {
namespace {

using Ranks = std::vector<std::int32_t>;

/// Four data ranks.
const Layout kLayout(Degrees{.dp = 4}, 4);

RankActivity busy(std::int32_t rank, std::int64_t data_calls = 1041) {
  return {.rank = rank,
          .step = 12,
          .warm = true,
          .doing = "forward of micro-batch 2",
          .started = {{"data", data_calls}},
          .stillSeconds = 31,
          .silentSeconds = 1};
}
RankActivity waits(std::int32_t rank, const std::string& group = "data", std::int64_t number = 1042,
                   std::optional<std::int32_t> peer = {}) {
  RankActivity activity = busy(rank);
  activity.doing = "";
  activity.call = GroupCall{.group = group,
                            .operation = peer ? "receive" : "all_reduce",
                            .number = number,
                            .elements = 4096,
                            .peer = peer,
                            .seconds = 30};
  activity.started[group] = number;
  return activity;
}
RankActivity silent(RankActivity activity) {
  activity.silentSeconds = 33;
  return activity;
}

TEST(AHang, IsBlamedOnTheRankThatHasNotComeToTheCallOfTheOthers) {
  const auto blame = blame_for_hang(kLayout, {waits(0), waits(1), busy(2), waits(3)});
  EXPECT_EQ(blame.ranks, Ranks{2});
  EXPECT_FALSE(blame.all_wait);
  EXPECT_EQ(blame.message,
            "rank 2 has done nothing for 31 s: in forward of micro-batch 2, after step 12; ranks 0, 1 and 3 wait for it in "
            "all_reduce 1042 of the data axis (4096 elements), since 30 s");
}

TEST(AHang, IsBlamedOnTheProcessThatDoesNotAnswer) {
  const auto blame = blame_for_hang(kLayout, {waits(0), silent(busy(1)), waits(2), busy(3)});
  EXPECT_EQ(blame.ranks, Ranks{1});
  EXPECT_NE(blame.message.find("rank 1 has not answered for 33 s"), std::string::npos) << blame.message;
  EXPECT_NE(blame.message.find("ranks 0 and 2 wait for it in all_reduce 1042 of the data axis"), std::string::npos)
      << blame.message;
  // What it told last may be that it was in a call, even the one that the others wait in.
  EXPECT_EQ(blame_for_hang(kLayout, {waits(0), silent(waits(1)), waits(2), waits(3)}).ranks, Ranks{1});
}

TEST(AHang, IsNotBlamedOnAProcessThatWasHeldUpForAMomentWhileAnotherIsAwaited) {
  auto held_up = waits(1);
  held_up.silentSeconds = 4;
  EXPECT_EQ(blame_for_hang(kLayout, {waits(0), held_up, busy(2), waits(3)}).ranks, Ranks{2});
}

TEST(AHang, IsFollowedFromStageToStage) {
  // Stage 0 waits for a gradient of stage 1, which waits for the other tensor rank, which computes.
  const Layout layout(Degrees{.pp = 2, .tp = 2}, 4);
  const auto blame =
      blame_for_hang(layout, {waits(0, "gradients", 7, 2), waits(1, "gradients", 7, 3), waits(2, "tensor", 90), busy(3)});
  EXPECT_EQ(blame.ranks, Ranks{3});
  EXPECT_NE(blame.message.find("rank 3 has done nothing for 31 s"), std::string::npos) << blame.message;
}

TEST(AHang, AmongRanksThatShardTogetherIsNotBlamedOnThoseOfOtherWorkers) {
  const Layout layout(Degrees{.dp = 4, .shard = 2}, 4);
  const auto in_worker = blame_for_hang(layout, {waits(0, "shards", 5), busy(1), busy(2), busy(3)});
  EXPECT_EQ(in_worker.ranks, Ranks{1});
  EXPECT_NE(in_worker.message.find("rank 0 waits for it in all_reduce 5 of the data axis"), std::string::npos)
      << in_worker.message;
  EXPECT_EQ(blame_for_hang(layout, {waits(0, "replicas", 5), busy(1), busy(2), busy(3)}).ranks, Ranks{2});
}

TEST(AHang, IsBlamedOnThoseOfWhomNothingIsKnownWhereAllOthersWait) {
  const auto blame = blame_for_hang(kLayout, {waits(0), waits(3)});
  EXPECT_EQ(blame.ranks, (Ranks{1, 2}));
  EXPECT_NE(blame.message.find("ranks 1 and 2 have not come, and told nothing; ranks 0 and 3 wait for them in"),
            std::string::npos)
      << blame.message;
}

TEST(AHang, OfRanksThatWaitForEachOtherIsNobodys) {
  const Layout layout(Degrees{.pp = 2}, 2);
  const auto blame = blame_for_hang(layout, {waits(0, "gradients", 5, 1), waits(1, "activations", 6, 0)});
  EXPECT_TRUE(blame.ranks.empty());
  EXPECT_TRUE(blame.all_wait);
  EXPECT_NE(blame.message.find("rank 0 in receive 5 of the pipeline axis, gradients (4096 elements); rank 1 in receive 6"),
            std::string::npos)
      << blame.message;
}

TEST(AHang, InACallThatAllHaveComeToIsTheNetworks) {
  const auto blame = blame_for_hang(kLayout, {waits(0), waits(1), waits(2), waits(3)});
  EXPECT_TRUE(blame.ranks.empty());
  EXPECT_FALSE(blame.all_wait);
  EXPECT_NE(blame.message.find("ranks 0, 1, 2 and 3 have all come to all_reduce 1042"), std::string::npos) << blame.message;
}

TEST(AHang, OfARankThatNobodyWaitsForIsItsOwn) {
  const Layout layout(Degrees{}, 1);
  EXPECT_EQ(blame_for_hang(layout, {busy(0)}).ranks, Ranks{0});
  EXPECT_TRUE(blame_for_hang(layout, {}).message.empty());
}

TEST(AHang, OfManyRanksIsToldInFew) {
  const Layout layout(Degrees{.dp = 1024}, 1024);
  std::vector<RankActivity> all;
  for (std::int32_t rank = 0; rank < 1024; ++rank) all.push_back(rank == 77 ? busy(77) : waits(rank));
  const auto blame = blame_for_hang(layout, all);
  EXPECT_EQ(blame.ranks, Ranks{77});
  EXPECT_NE(blame.message.find("ranks 0, 1, 2, 3, 4, 5, 6, 7 and 1015 others wait for it"), std::string::npos) << blame.message;
}

}  // namespace
}  // namespace trainyard::contract
