// A standard story, told once for each of its requests, with something going wrong right there.

#include <csignal>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {
namespace {

using contract::Phase;

/// Create, run, lose a rank, make room for another job, lose a node, suspend, resume, succeed.
class StandardStory {
 public:
  StandardStory() : world_(7), invariants_(world_) {
    world_.add_nodes(3, 4, 0);
    world_.add_priority_class("high", 100);
    world_.start_controller(0);
  }
  World& world() { return world_; }
  bool was_harmed = false;

  /// What went wrong; empty: nothing.
  std::string tell() {
    world_.apply({.name = "a", .workers = 3, .spares = 1, .steps = 60, .checkpoint_every = 10, .max_restarts = 6});
    if (!reach(Phase::kRunning)) return trouble("it never ran");
    world_.time.run_for(seconds(5));
    const auto pods = world_.running_pods("a");
    if (!pods.empty()) world_.workers.crash(pods.front(), 0, SIGKILL);
    world_.time.run_for(seconds(3));
    if (!reach(Phase::kRunning)) return trouble("it did not run again after a crash");
    world_.apply({.name = "urgent", .workers = 11, .steps = 2, .priority_class = "high"});
    if (!world_.run_until_phase("urgent", Phase::kSucceeded, seconds(400))) return trouble("nobody made room for the urgent job");
    if (!reach(Phase::kRunning)) return trouble("it did not run again after it made room");
    if (!world_.is_finished("a") && world_.status("a").preemptions != 1) return trouble("its preemption was not counted");
    world_.kubelets.kill("node-0");
    world_.time.run_for(seconds(60));
    world_.set_suspend("a", true);
    if (!world_.is_finished("a") && !reach(Phase::kSuspended)) return trouble("it was not suspended");
    world_.kubelets.bring_back("node-0");
    world_.set_suspend("a", false);
    if (!reach(Phase::kSucceeded)) return trouble("it did not succeed");
    world_.time.run_for(seconds(100));
    if (world_.live_pods("a") > 0) return trouble("pods are left over");
    if (world_.status("a").progress->step != 60) return trouble("the last step is not told");
    const auto violations = invariants_.violations();
    return violations.empty() ? "" : trouble(violations.front());
  }

 private:
  bool reach(Phase phase) { return world_.run_until_phase("a", phase, seconds(400)) || world_.phase("a") == Phase::kSucceeded; }
  std::string trouble(const std::string& what) const { return what + "; " + describe(world_, "a"); }

  World world_;
  Invariants invariants_;
};

/// Tells the story with `harm` set up for the n-th time, n = 1, 2, …, until a story was so short that nothing was harmed.
int tell_all(const std::function<void(StandardStory&, int)>& harm) {
  for (int n = 1; n < 1'000; ++n) {
    StandardStory story;
    harm(story, n);
    const std::string trouble = story.tell();
    EXPECT_EQ(trouble, "") << "where number " << n << " was harmed";
    if (!trouble.empty() || !story.was_harmed) return n - 1;
  }
  return 1'000;
}

TEST(EveryWrite, MayBeTheControllersLast) {
  const int writes = tell_all([](StandardStory& story, int n) {
    story.world().api.written = [&story, n, count = 0](const kube::Request&) mutable {
      if (++count != n) return;
      story.was_harmed = true;
      story.world().time.after(milliseconds(0), [&story] {
        story.world().kill_controller(0);
        story.world().time.after(seconds(3), [&story] { story.world().start_controller(0); });
      });
    };
  });
  EXPECT_GE(writes, 20);
}

/// The n-th request meets `fault`.
void fail_request(StandardStory& story, int n, test::Fault fault) {
  story.world().api.fault_of = [&story, n, fault, count = 0](const kube::Request& request) mutable {
    if (request.method == kube::Method::kGet || ++count != n) return test::Fault::kNone;
    story.was_harmed = true;
    return fault;
  };
}

TEST(EveryWrite, MayLoseItsAnswer) {
  EXPECT_GE(tell_all([](StandardStory& story, int n) { fail_request(story, n, test::Fault::kAnswerLost); }), 20);
}
TEST(EveryWrite, MayBeDoneLongAfterItWasGivenUp) {
  EXPECT_GE(tell_all([](StandardStory& story, int n) { fail_request(story, n, test::Fault::kLate); }), 20);
}
TEST(EveryWrite, MayNeverArrive) {
  EXPECT_GE(tell_all([](StandardStory& story, int n) { fail_request(story, n, test::Fault::kLost); }), 20);
}
TEST(EveryWrite, MayFindNoConnection) {
  EXPECT_GE(tell_all([](StandardStory& story, int n) { fail_request(story, n, test::Fault::kRefused); }), 20);
}
TEST(EveryWrite, MayMeetAConflict) {
  EXPECT_GE(tell_all([](StandardStory& story, int n) { fail_request(story, n, test::Fault::kConflict); }), 20);
}
TEST(EveryWrite, MayBeToldToComeAgain) {
  EXPECT_GE(tell_all([](StandardStory& story, int n) { fail_request(story, n, test::Fault::kTooMany); }), 20);
}

}  // namespace
}  // namespace trainyard::simulate
