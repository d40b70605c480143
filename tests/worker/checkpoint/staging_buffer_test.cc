#include "worker/checkpoint/staging_buffer.h"

#include <cstring>
#include <thread>

#include <gtest/gtest.h>

namespace trainyard::checkpoint {
namespace {

using std::chrono::steady_clock;

constexpr steady_clock::time_point kNow{};  // or earlier
constexpr auto kForever = std::chrono::hours(24);

TEST(StagingBuffer, HasRoomForSoManyChunksUntilOneIsGivenBack) {
  StagingBuffer buffer(5, 2);
  for (int i = 0; i < 2; ++i) {
    auto chunk = buffer.room(8, kNow);
    ASSERT_TRUE(chunk);
    buffer.hand_on(std::move(chunk));
  }
  EXPECT_FALSE(buffer.room(8, kNow));
  auto taken = buffer.next({});
  EXPECT_FALSE(buffer.room(8, kNow)) << "what is being written is still there";
  buffer.give_back(std::move(taken));
  EXPECT_TRUE(buffer.room(8, kNow));
  EXPECT_FALSE(buffer.room(8, kNow));
}

TEST(StagingBuffer, HandsOnWhatItWasGivenInThatOrderBetweenTwoThreads) {
  constexpr std::int64_t kChunks = 2000;
  StagingBuffer buffer(kChunks, 3);
  std::vector<std::int64_t> seen;
  {
    std::jthread writer([&] {
      for (std::int64_t i = 0; i < kChunks; ++i) {
        auto chunk = buffer.next({});
        std::int64_t number = -1;
        std::memcpy(&number, chunk.get(), sizeof number);
        seen.push_back(number);
        buffer.give_back(std::move(chunk));
      }
    });
    for (std::int64_t i = 0; i < kChunks; ++i) {
      auto chunk = buffer.room(sizeof i, steady_clock::now() + kForever);
      std::memcpy(chunk.get(), &i, sizeof i);
      buffer.hand_on(std::move(chunk));
    }
  }
  ASSERT_EQ(std::ssize(seen), kChunks);
  for (std::int64_t i = 0; i < kChunks; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], i);
}

TEST(StagingBuffer, NobodyWaitsForRoomOnceItIsRefused) {
  StagingBuffer buffer(3, 1);
  buffer.hand_on(buffer.room(8, kNow));
  std::jthread writer([&] {
    const auto taken = buffer.next({});
    buffer.refuse();  // as when the disk is full
  });
  EXPECT_FALSE(buffer.room(8, steady_clock::now() + kForever));
  EXPECT_TRUE(buffer.is_refused());
}

TEST(StagingBuffer, NobodyWaitsForAChunkThatWillNotComeOrIsNotWantedAnyMore) {
  {
    StagingBuffer buffer(3, 3);
    std::jthread writer([&] { EXPECT_FALSE(buffer.next({})); });
    buffer.abandon();
  }
  StagingBuffer buffer(3, 3);
  std::jthread writer([&](const std::stop_token& stop) { EXPECT_FALSE(buffer.next(stop)); });
}

}  // namespace
}  // namespace trainyard::checkpoint
