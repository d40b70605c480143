#include "worker/mesh/farewell.h"

#include <array>
#include <atomic>
#include <thread>

#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

namespace trainyard::mesh {
namespace {

using std::chrono::milliseconds;

/// Of one rank: the others' is the same store, whose answers take their time.
class SlowStore : public c10d::HashStore {
 public:
  using HashStore::wait;
  void wait(const std::vector<std::string>& keys, const milliseconds& timeout) override {
    HashStore::wait(keys, timeout);
    if (!is_of_rank_0) std::this_thread::sleep_for(milliseconds(200));
    if (!is_of_rank_0) ++answered;
  }
  static thread_local bool is_of_rank_0;
  std::atomic<int> answered = 0;
};
thread_local bool SlowStore::is_of_rank_0 = false;

TEST(Farewell, RankZeroWhichHasTheStoreLeavesAfterAllOthersHaveTheirAnswer) {
  const auto store = c10::make_intrusive<SlowStore>();
  {
    std::array<std::jthread, 3> ranks;
    for (std::int32_t rank = 0; rank < 3; ++rank) {
      ranks[static_cast<std::size_t>(rank)] = std::jthread([&store, rank] {
        SlowStore::is_of_rank_0 = rank == 0;
        leave_together(*store, rank, 3);
        if (rank == 0) {
          EXPECT_EQ(store->answered, 2);
        }
      });
    }
  }
  EXPECT_EQ(store->answered, 2);
}

TEST(Farewell, IsNotWaitedForWhereARankNeverComes) {
  SlowStore store;
  SlowStore::is_of_rank_0 = true;
  leave_together(store, 0, 2, milliseconds(20));
  EXPECT_EQ(store.add("leaving", 0), 1);
}

}  // namespace
}  // namespace trainyard::mesh
