#include "controller/decide/vacating.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::World;

TEST(Suspending, WritesACheckpointThenRemovesThePods) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.decide_once();
  EXPECT_EQ(world.condition("Running").reason, "Suspending");
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.pods().size(), 2u);
  world.decide_once();
  EXPECT_EQ(world.told(0)->checkpointRequest, 1);
  EXPECT_EQ(world.told(0)->stopAfter, 1);
  EXPECT_EQ(world.pods().size(), 2u);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  EXPECT_TRUE(world.cluster.pods_of(world.job()).empty());
  EXPECT_EQ(world.status().workers, contract::WorkersStatus{});
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_TRUE(world.has_event("Suspended"));
}

TEST(Suspending, TellsOfTheCheckpointThatItWrote) {
  World world = a_running_world();
  world.say(0, [](contract::State& state) {
    state.checkpoint = contract::CheckpointStatus{.step = 5, .path = "/c/step-5", .completedAt = "2026-01-01T00:00:01Z"};
  });
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.decide_once();
  world.train(7);
  world.say(0, [](contract::State& state) {
    state.checkpoint = contract::CheckpointStatus{.step = 7, .path = "/c/step-7", .completedAt = "2026-01-01T00:00:02Z"};
  });
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  ASSERT_TRUE(world.status().checkpoint);
  EXPECT_EQ(world.status().checkpoint->path, "/c/step-7");
  EXPECT_EQ(world.status().progress->step, 7);
}

TEST(Suspending, LeavesWhatWasReachedAndTakesAwayTheRateAndTheTimeLeft) {
  World world = a_running_world();
  world.say(0, [](contract::State& state) {
    state.progress->tokensPerSecond = 5210;
    state.progress->mfu = 0.4;
    state.progress->remainingSeconds = 73;
  });
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  ASSERT_EQ(world.status().phase, Phase::kSuspended);
  const auto& progress = *world.status().progress;
  EXPECT_GT(progress.step, 0);
  EXPECT_EQ(progress.tokensPerSecond, std::nullopt);
  EXPECT_EQ(progress.mfu, std::nullopt);
  EXPECT_EQ(progress.remainingSeconds, std::nullopt);
}

TEST(Suspending, DoesNotWaitForAPodOnADeadNodeAndGoesOnWithoutIt) {
  World world = a_running_world();
  const std::string node = world.pod(1).node;
  world.change_node(node, [](Node& n) {
    n.ready = false;
    n.ready_since = test::at(0);
  });
  world.silence(1);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  EXPECT_EQ(world.condition("Running").reason, "Suspending");
  world.pass(10);
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  EXPECT_NE(world.cluster.pod({"default", "a-1-1"}), nullptr) << "its kubelet never says that it is gone";
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-1", "a-1-2"}));
  EXPECT_NE(world.pod(1).node, node);
}

TEST(Suspending, DoesNotWaitForEverForACheckpoint) {
  World world = a_running_world();
  world.silence(0);
  world.silence(1);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  world.pass(100);
  EXPECT_EQ(world.pods().size(), 2u);
  world.pass(20);
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
}

TEST(Suspending, DoesNotWaitForACheckpointThatALostWorkerMakesImpossible) {
  World world = a_running_world();
  world.silence(0);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.pass(1);
  EXPECT_EQ(world.condition("Running").reason, "Suspending");
  world.cluster.erase_pod({"default", "a-1-1"});
  world.pass(1);
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
}

TEST(AJob, ThatIsCreatedSuspendedMakesNoPods) {
  World world = a_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSuspended);
  EXPECT_TRUE(world.pods().empty());
  EXPECT_EQ(world.status().generation, 0);
  EXPECT_EQ(world.condition("Suspended").message,
            "the job is suspended; spec.suspend: false goes on from the newest checkpoint, where there is one");
}

TEST(Resuming, StartsANewGenerationAndTheDeadlineAnew) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  world.now = 1000;
  world.edit("a", [](contract::TrainingJobSpec& spec) {
    spec.suspend = false;
    spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})");
  });
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.status().startTime, "2026-01-01T00:16:40Z");
  EXPECT_EQ(world.status().phase, Phase::kStarting);
  EXPECT_TRUE(world.has_event("Resumed"));
  for (const auto& event : world.events) EXPECT_NE(event.message, "") << event.reason;
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run") << "the edited template is in effect";
  world.train(6);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
}

TEST(Resuming, SaysNoMoreThatTheJobIsSuspendedWhileItWaitsForRoom) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  for (const auto& [name, node] : std::map(world.cluster.nodes())) {
    world.change_node(name, [](Node& full) { full.unschedulable = true; });
  }
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kPending);
  EXPECT_EQ(world.condition("Placed").reason, "Unschedulable");
  for (const char* type : {"Running", "Progressing"}) {
    EXPECT_EQ(world.condition(type).reason, "Resumed");
    EXPECT_EQ(world.condition(type).message, "the job waits for its place");
  }
}

TEST(Suspending, ThatWasBegunIsCarriedThroughThoughTheUserChangedHisMind) {
  World world = a_running_world();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.decide_once();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"})) << "stopped, and started anew";
  EXPECT_EQ(world.status().restarts, 0);
}

}  // namespace
}  // namespace trainyard::decide
