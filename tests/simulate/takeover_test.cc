// Who follows a leader that dies, and how soon, by the times of the Lease (controller/kube/lease_elector.h) in virtual time.

#include <algorithm>
#include <iostream>
#include <string>

#include <gtest/gtest.h>

#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {
namespace {

constexpr milliseconds kTakeoverBar{10'000};
constexpr milliseconds kStep{50};  // between the moments at which a leader dies

/// Two controllers; the one that leads dies, and another job comes at that moment.
class Succession {
 public:
  explicit Succession(std::uint64_t seed) : world_(seed), invariants_(world_) {
    world_.add_nodes(3, 4, 0);
    world_.start_controller(0);
    world_.start_controller(1);
  }
  World& world() { return world_; }
  bool has_died() const { return died_at_ >= milliseconds(0); }
  void kill_leader() {
    if (has_died() || world_.leader() < 0) return;
    died_at_ = world_.time.uptime();
    world_.kill_controller(world_.leader());
    world_.apply({.name = "after", .workers = 2, .steps = 4});
  }
  /// A job is made, loses a rank, is suspended, resumed and ends, whoever leads.
  void live() {
    world_.apply({.name = "a", .workers = 3, .steps = 30});
    reach(contract::Phase::kRunning);
    const auto pods = world_.running_pods("a");
    if (!pods.empty()) world_.workers.crash(pods.front(), 1, 0);
    world_.time.run_for(seconds(8));
    world_.set_suspend("a", true);
    reach(contract::Phase::kSuspended);
    world_.set_suspend("a", false);
    reach(contract::Phase::kSucceeded);
  }
  /// From the death until the next one has made the pods of the job that came then.
  milliseconds takeover() {
    const bool acts = world_.time.run_until([this] { return acted_at_ >= milliseconds(0); }, seconds(60));
    return acts ? acted_at_ - died_at_ : milliseconds::max();
  }
  void watch_pods() {
    world_.api.on_change(test::kPodsPath, [this](const auto&) {
      if (acted_at_ < milliseconds(0) && has_died() && world_.live_pods("after") == 2) acted_at_ = world_.time.uptime();
    });
  }
  std::string trouble() {
    for (const char* job : {"a", "after"}) {
      if (world_.uid(job).empty()) continue;
      if (!world_.run_until_phase(job, contract::Phase::kSucceeded, seconds(400))) return describe(world_, job);
    }
    const auto violations = invariants_.violations();
    return violations.empty() ? "" : violations.front();
  }

 private:
  void reach(contract::Phase phase) { world_.run_until_phase("a", phase, seconds(120)); }

  World world_;
  Invariants invariants_;
  milliseconds died_at_{-1}, acted_at_{-1};
};

TEST(ALeaderThatDies, AtAnyWriteIsFollowedWithinTenSecondsByOneThatMakesNothingTwice) {
  milliseconds longest{0};
  int n = 1;
  for (; n < 200; ++n) {
    Succession story(static_cast<std::uint64_t>(n));  // by another seed the lease was renewed at another moment before that write
    story.watch_pods();
    story.world().api.written = [&story, n, count = 0](const kube::Request&) mutable {
      if (++count == n) story.world().time.after(milliseconds(0), [&story] { story.kill_leader(); });
    };
    story.live();
    if (!story.has_died()) break;
    const milliseconds took = story.takeover();
    ASSERT_LE(took, kTakeoverBar) << "after its write number " << n;
    ASSERT_EQ(story.trouble(), "") << "after its write number " << n;
    longest = std::max(longest, took);
  }
  EXPECT_GE(n, 20) << "so many writes";
  std::cout << n - 1 << " writes, of each of which it died; the next one acted after " << longest.count() << " ms at most\n";
}

TEST(ALeaderThatDies, AtAnyMomentBetweenTwoRenewalsIsFollowedWithinTenSecondsButNotBeforeItsLeaseHasRunOut) {
  milliseconds longest{0}, shortest{milliseconds::max()};
  std::uint64_t seed = 0;
  for (milliseconds offset{0}; offset < 2 * kLeaseOptions.retry_period; offset += kStep) {
    Succession story(++seed);
    story.watch_pods();
    story.world().time.run_for(seconds(30) + offset);
    story.kill_leader();
    ASSERT_TRUE(story.has_died());
    const milliseconds took = story.takeover();
    ASSERT_LE(took, kTakeoverBar) << "seed " << seed;
    ASSERT_EQ(story.trouble(), "") << "seed " << seed;
    longest = std::max(longest, took);
    shortest = std::min(shortest, took);
  }
  EXPECT_GE(shortest, kLeaseOptions.duration - kLeaseOptions.retry_period) << "it might have been alive";
  EXPECT_GT(longest, kLeaseOptions.duration) << "else this says little";
  std::cout << "the next one acted after " << shortest.count() << " to " << longest.count() << " ms\n";
}

}  // namespace
}  // namespace trainyard::simulate
