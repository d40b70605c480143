// One thing at a time goes right or wrong, and the whole system does what a person would expect.

#include <gtest/gtest.h>

#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {
namespace {

using contract::Phase;

struct Story : testing::Test {
  World world{1};
  Invariants invariants{world};

  void SetUp() override {
    world.add_nodes(3, 8, 0);
    world.start_controller(0);
  }
  void TearDown() override { EXPECT_EQ(invariants.violations(), std::vector<std::string>{}); }
  void expect_phase(const std::string& job, Phase phase, seconds limit = seconds(120)) {
    EXPECT_TRUE(world.run_until_phase(job, phase, limit)) << "no " << contract::name_of(phase) << "; " << describe(world, job);
  }
};

TEST_F(Story, AJobRunsToItsEnd) {
  world.apply({.name = "a"});
  expect_phase("a", Phase::kSucceeded);
  const auto status = world.status("a");
  EXPECT_EQ(status.progress->step, 20);
  EXPECT_EQ(status.checkpoint->step, 20);
  EXPECT_EQ(status.restarts, 0);
  EXPECT_EQ(status.generation, 1);
  world.time.run_for(seconds(60));
  EXPECT_EQ(world.live_pods("a"), 0);
}

}  // namespace
}  // namespace trainyard::simulate
