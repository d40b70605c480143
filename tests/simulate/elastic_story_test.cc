// Gangs that become smaller and larger, from the apply to the last step.

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

int size_of(const World& world, const std::string& job) {
  const auto status = world.status(job);
  return status.placement ? status.placement->workers.value_or(0) : 0;
}

TEST_F(Story, AnElasticJobRunsSmallerAndGrowsWhenOthersHaveEnded) {
  world.apply({.name = "first", .workers = 12, .steps = 60});
  expect_phase("first", Phase::kRunning);
  world.apply({.name = "a", .workers = 24, .least = 6, .steps = 1'000});
  expect_phase("a", Phase::kRunning);
  EXPECT_EQ(size_of(world, "a"), 12);
  EXPECT_EQ(events("PlacedSmaller"), 1);
  expect_phase("first", Phase::kSucceeded);
  EXPECT_TRUE(world.time.run_until([this] { return size_of(world, "a") == 24; }, seconds(400))) << describe(world, "a");
  expect_phase("a", Phase::kSucceeded, seconds(600));
  EXPECT_EQ(world.status("a").restarts + world.status("a").uncountedRestarts, 0);
  EXPECT_EQ(world.workers.truth(world.uid("a")).generations_run, 2);
}

TEST_F(Story, AJobThatIsScaledWhileItTrainsGoesOnFromItsCheckpoint) {
  begin({.name = "a", .workers = 2, .steps = 120, .checkpoint_every = 1'000});
  const auto scale = [this](int count) {
    world.api.edit(test::kJobs, job_key("a"), [count](Json& job) { job["spec"]["workers"]["count"] = count; });
  };
  const std::int64_t before = world.workers.truth(world.uid("a")).step;
  scale(6);
  EXPECT_TRUE(world.time.run_until([this] { return size_of(world, "a") == 6; }, seconds(10))) << describe(world, "a");
  EXPECT_GE(world.workers.truth(world.uid("a")).checkpoint, before) << "no step is done twice";
  expect_phase("a", Phase::kRunning);
  scale(3);
  EXPECT_TRUE(world.time.run_until([this] { return size_of(world, "a") == 3 && world.live_pods("a") == 3; }, seconds(20)))
      << describe(world, "a");
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts + world.status("a").uncountedRestarts, 0);
}

TEST_F(Story, ALeaderThatTakesOverInTheMiddleOfAResizeWaitsForTheCheckpoint) {
  begin({.name = "a", .workers = 4, .steps = 400, .checkpoint_every = 1'000});
  const std::int64_t before = world.workers.truth(world.uid("a")).step;
  bool killed = false;
  world.api.on_change(test::kJobs, [this, &killed](const auto&) {
    if (killed || condition("a", "Running").reason != "Resizing") return;
    killed = true;
    world.time.after(milliseconds(0), [this] {
      world.kill_controller(0);
      world.start_controller(0);
    });
  });
  world.api.edit(test::kJobs, job_key("a"), [](Json& job) { job["spec"]["workers"]["count"] = 2; });
  EXPECT_TRUE(world.time.run_until([this] { return size_of(world, "a") == 2; }, seconds(60))) << describe(world, "a");
  EXPECT_TRUE(killed);
  EXPECT_GE(world.workers.truth(world.uid("a")).checkpoint, before) << "no step is done twice";
  expect_phase("a", Phase::kSucceeded, seconds(600));
  EXPECT_EQ(world.status("a").restarts + world.status("a").uncountedRestarts, 0);
}

TEST_F(Story, AJobThatIsScaledUpBeyondAResourceQuotaTrainsOnAsItWas) {
  begin({.name = "a", .workers = 2, .steps = 600, .checkpoint_every = 1'000});
  world.api.refuse_pod = [this](const Json&) {
    return world.live_pods("a") < 4 ? std::nullopt : std::optional<std::string>("exceeded quota: pods");
  };
  world.api.edit(test::kJobs, job_key("a"), [](Json& job) { job["spec"]["workers"]["count"] = 6; });
  EXPECT_TRUE(world.time.run_until([this] { return size_of(world, "a") == 6; }, seconds(10))) << describe(world, "a");
  EXPECT_TRUE(world.time.run_until([this] { return size_of(world, "a") == 2 && world.live_pods("a") == 2; }, seconds(120)))
      << describe(world, "a");
  expect_phase("a", Phase::kSucceeded, seconds(1'200));
  EXPECT_EQ(world.workers.truth(world.uid("a")).generations_run, 2);
}

}  // namespace
}  // namespace trainyard::simulate
