// A controller may die between any two of its writes: the next one goes on from what the API server and the agents hold.
#include <gtest/gtest.h>

#include "tests/support/world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::World;

/// One job's life with a crashed rank, a lost pod, a suspension and a resume. The controller dies once, before its action number
/// `death`, and is followed by another. False where the life had fewer actions.
bool live(int death, World& world) {
  bool died = false;
  const auto settle = [&] {
    try {
      world.settle();
    } catch (const World::Died&) {
      died = true;
      world.succeed_controller();
      world.settle();
    }
  };
  world.die_after(death);
  settle();
  world.train(1);
  settle();
  world.fail_rank(1, {.reason = "RankCrashed", .message = "crash"});
  settle();
  world.train(2);
  world.now += 6;
  settle();
  world.cluster.erase_pod(world.pod(0).key);
  settle();
  world.train(3);
  world.now += 6;
  settle();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  settle();
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  settle();
  world.train(100);
  world.finish();
  settle();
  return died;
}

TEST(Succession, LosesNothingWhereverAControllerDies) {
  int death = 0;
  for (bool died = true; died; ++death) {
    SCOPED_TRACE("death before action " + std::to_string(death));
    World world(test::ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
    world.add(test::make_job("a", 2, 8));
    died = live(death, world);
    ASSERT_EQ(world.status().phase, Phase::kSucceeded);
    ASSERT_EQ(world.status().restarts, 1) << "each failure is counted once";
    ASSERT_EQ(world.status().uncountedRestarts, 1);
    ASSERT_EQ(world.status().progress->step, 100);
    ASSERT_TRUE(world.pods().empty());
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_GT(death, 20);
}

/// The same with two leaders: the second decides on what it saw before the first one's last write.
TEST(Succession, FencesOffALeaderThatActsOnAnOldStatus) {
  World world(test::ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(test::make_job("a", 2, 8));
  world.settle();
  world.train(1);
  world.settle();
  world.fail_rank(1, {.reason = "RankCrashed", .message = "crash"});
  const Cluster seen = world.cluster;
  world.settle();
  EXPECT_EQ(world.status().generation, 2);
  const Plan late = plan_job(seen, {"default", "a"}, test::at(0));
  const auto& write = std::get<WriteStatus>(late.phases.at(0).at(0));
  EXPECT_NE(write.resource_version, world.job().resource_version) << "the API server refuses it, and nothing after it goes out";
}

}  // namespace
}  // namespace trainyard::decide
