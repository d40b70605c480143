// Warm spares, from the apply to the last step.

#include <iostream>

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

std::int32_t spares_ready(const World& world, const std::string& job) {
  const auto status = world.status(job);
  return status.spares ? status.spares->ready : 0;
}

struct SparesStory : Story {
  /// It trains, and its spares are up.
  void begin_with(const JobShape& shape) {
    begin(shape);
    ASSERT_TRUE(world.time.run_until([&] { return spares_ready(world, shape.name) == shape.spares; }, seconds(60)))
        << describe(world, shape.name);
  }
};

TEST_F(SparesStory, ASpareTakesThePlaceOfALostPodWithinSecondsAndAnotherIsMade) {
  begin_with({.name = "a", .spares = 1, .steps = 120, .checkpoint_every = 10});
  const auto lost = world.time.uptime();
  const int before = pods_made;
  world.api.erase(test::kPodsPath, pod_of("a"));
  ASSERT_TRUE(world.time.run_until([this] { return world.workers.truth(world.uid("a")).generation == 2; }, seconds(30)))
      << describe(world, "a");
  std::cout << "from the lost pod to a step of the new generation: " << (world.time.uptime() - lost).count() << " ms\n";
  EXPECT_LE(world.time.uptime() - lost, seconds(8)) << "ranks that notice their loss, start and meet again take up to 6.5";
  EXPECT_EQ(events("SpareTookOver"), 1);
  EXPECT_TRUE(world.time.run_until([this] { return spares_ready(world, "a") == 1; }, seconds(60)));
  EXPECT_EQ(pods_made, before + 1) << "the spare of the spare";
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.workers.truth(world.uid("a")).generations_run, 2) << "the new spare disturbed nobody";
  EXPECT_EQ(world.status("a").restarts, 0);
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.live_pods("a"), 0);
}

TEST_F(SparesStory, SparesAndNewPodsReplaceALostNodesWorkersTogether) {
  begin_with({.name = "a", .workers = 3, .spares = 1, .steps = 200});
  const std::string lost = node_of("a");
  world.kubelets.kill(lost);
  ASSERT_TRUE(world.time.run_until([this] { return world.workers.truth(world.uid("a")).generation == 2; }, seconds(200)))
      << describe(world, "a");
  EXPECT_EQ(events("SpareTookOver"), 1);
  expect_phase("a", Phase::kSucceeded, seconds(400));
  EXPECT_EQ(world.status("a").restarts, 0);
  EXPECT_EQ(world.status("a").uncountedRestarts, 1);
}

TEST_F(SparesStory, ALostSpareIsReplacedAndTheRunGoesOn) {
  begin_with({.name = "a", .spares = 1, .steps = 100});
  for (const auto& object : world.api.list(test::kPodsPath)) {
    const auto pod = cache::decode_pod(*object);
    if (pod->worker->spare) world.kubelets.kill(pod->node);
  }
  world.time.run_for(seconds(30));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.workers.truth(world.uid("a")).generations_run, 1);
  EXPECT_EQ(world.status("a").uncountedRestarts, 0);
}

TEST_F(SparesStory, ASpareThatCanNotStartIsNoHotLoop) {
  world.kubelets.cannot_start = [](const Json& pod) {
    const bool is_spare = pod["metadata"]["labels"].contains(std::string(contract::kSpareLabel));
    return is_spare ? std::optional<std::string>("no such image") : std::nullopt;
  };
  world.apply({.name = "a", .spares = 2, .steps = 1'000, .start_timeout = 30});
  expect_phase("a", Phase::kRunning);
  world.time.run_for(seconds(300));
  EXPECT_LE(pods_made, 2 + 2 * 8) << "in five minutes";
  EXPECT_EQ(world.status("a").generation, 1);
  EXPECT_GE(events("SpareLost"), 1);
  world.kubelets.cannot_start = nullptr;
  EXPECT_TRUE(world.time.run_until([this] { return spares_ready(world, "a") == 2; }, seconds(700))) << describe(world, "a");
}

TEST_F(SparesStory, ALeaderThatDiesAsASpareTakesOverIsFollowedByOneThatGoesOn) {
  begin_with({.name = "a", .spares = 1, .steps = 120});
  bool killed = false;
  world.api.on_change(test::kJobs, [this, &killed](const auto&) {
    const auto status = world.status("a");
    if (killed || !status.spares || status.spares->standIns.empty()) return;
    killed = true;
    world.time.after(milliseconds(0), [this] {
      world.kill_controller(0);
      world.start_controller(0);
    });
  });
  world.api.erase(test::kPodsPath, pod_of("a"));
  ASSERT_TRUE(world.time.run_until([this] { return world.workers.truth(world.uid("a")).generation >= 2; }, seconds(120)))
      << describe(world, "a");
  EXPECT_TRUE(killed);
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").uncountedRestarts, 1);
}

TEST_F(SparesStory, AFullClusterRunsTheGangAndTheSpareComesWhenThereIsRoom) {
  world.apply({.name = "first", .workers = 21, .steps = 60});
  expect_phase("first", Phase::kRunning);
  world.apply({.name = "a", .workers = 3, .spares = 1, .steps = 400});
  expect_phase("a", Phase::kRunning);
  EXPECT_EQ(world.status("a").spares->placed, 0);
  EXPECT_NE(condition("a", "Placed").message.find("and 0 of 1 spare"), std::string::npos) << condition("a", "Placed").message;
  expect_phase("first", Phase::kSucceeded, seconds(200));
  EXPECT_TRUE(world.time.run_until([this] { return spares_ready(world, "a") == 1; }, seconds(60))) << describe(world, "a");
  EXPECT_EQ(world.workers.truth(world.uid("a")).generations_run, 1);
}

TEST_F(SparesStory, ASuspendedJobGivesItsSparesBackToo) {
  begin_with({.name = "a", .spares = 2, .steps = 200});
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended);
  EXPECT_EQ(world.live_pods("a"), 0);
  world.set_suspend("a", false);
  expect_phase("a", Phase::kRunning);
  EXPECT_TRUE(world.time.run_until([this] { return spares_ready(world, "a") == 2; }, seconds(60)));
  expect_phase("a", Phase::kSucceeded, seconds(300));
}

}  // namespace
}  // namespace trainyard::simulate
