// Who is next, over a long time: jobs come and go, and nobody is passed by for ever.

#include <functional>
#include <optional>
#include <string>

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

struct Line : Story {
  /// Every few seconds another of two workers that trains for longer than that, as long as the story goes on.
  void keep_applying(const std::string& queue, seconds every = seconds(15)) {
    world.apply({.name = "small-" + std::to_string(++num_small), .workers = 2, .steps = 60, .queue = queue});
    world.time.after(every, [this, queue, every] { keep_applying(queue, every); });
  }
  int num_small = 0;
};

TEST_F(Line, ALargeJobIsNotStarvedByAStreamOfSmallOnes) {
  keep_applying("");
  world.time.run_for(seconds(120));
  world.apply({.name = "large", .workers = 24});
  expect_phase("large", Phase::kSucceeded, seconds(600));
}

TEST_F(Line, ALargeJobIsNotStarvedByAStreamOfSmallOnesOfItsQueueForWantOfQuota) {
  world.add_queue("a", {{"flavors", cpus_of(8)}});
  keep_applying("a");
  world.time.run_for(seconds(120));
  world.apply({.name = "large", .workers = 8, .queue = "a"});
  expect_phase("large", Phase::kSucceeded, seconds(600));
}

TEST_F(Line, ALargeJobThatBorrowsIsNotStarvedByAStreamOfSmallOnesOfAnotherQueue) {
  world.add_queue("all", {{"flavors", cpus_of(8)}});
  world.add_queue("a", {{"parent", "all"}, {"flavors", cpus_of(0)}});
  world.add_queue("b", {{"parent", "all"}, {"flavors", cpus_of(0)}});
  keep_applying("b");
  world.time.run_for(seconds(120));
  world.apply({.name = "large", .workers = 8, .queue = "a"});
  expect_phase("large", Phase::kSucceeded, seconds(600));
}

TEST_F(Line, AQueueGetsItsOwnQuotaBackFromAStreamOfJobsThatBorrowIt) {
  world.add_queue("all", Json::object());
  world.add_queue("a", {{"parent", "all"}, {"flavors", cpus_of(8)}});
  world.add_queue("b", {{"parent", "all"}, {"flavors", cpus_of(0)}});
  invariants.quota = CpuQuota::of_two(8, 0);
  keep_applying("b");
  world.time.run_for(seconds(120));
  world.apply({.name = "mine", .workers = 8, .queue = "a"});
  expect_phase("mine", Phase::kRunning, seconds(60));
  expect_phase("mine", Phase::kSucceeded, seconds(200));
}

}  // namespace
}  // namespace trainyard::simulate
