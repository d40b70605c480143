// Jobs that were placed by a controller of another release; elastic_test.cc has those that do not say how many workers they have.

#include "controller/decide/older_status.h"

#include <gtest/gtest.h>

#include "controller/decide/engine_spec.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::World;

constexpr const char* kOfOtherFields = "0123456789abcdef";  // what a release with fewer fields, or more, called the same spec

void was_named(World& world, const std::string& hash) {
  Job job = world.job();
  job.status.specHash = hash;
  world.cluster.put(std::move(job));
}
std::string name_of(const Job& job) { return spec_hash(job.spec, 2); }
std::string older_name_of(const Job& job) { return older_spec_hash(job.spec, 2); }
void edit_checkpoint_interval(contract::TrainingJobSpec& spec) { spec.checkpoint->everySteps = 7; }
/// The agent of worker 1 has not heard of the generation.
void forget(World& world) {
  world.say(1, [](contract::State& state) { state = {.version = 1, .podUid = state.podUid}; });
}

TEST(AnUpgrade, TellsNoRunningJobOfAnEditThatNobodyMade) {
  World world = a_running_world();
  for (const std::string& hash : {std::string(kOfOtherFields), older_name_of(world.job())}) {
    was_named(world, hash);
    world.settle();
    EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run");
    EXPECT_EQ(world.status().specHash, name_of(world.job())) << "so that the next release knows it";
    EXPECT_EQ(world.status().generation, 1);
  }
  world.edit("a", edit_checkpoint_interval);
  world.pass(10);
  EXPECT_NE(world.condition("Accepted").message.find("takes effect at the next restart"), std::string::npos);
}

TEST(AnUpgrade, HandsOutTheRestOfAGenerationThatItFindsHalfToldWhereItKnowsItsName) {
  World world = a_world();
  world.settle();
  forget(world);
  was_named(world, older_name_of(world.job()));
  world.settle();
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.said(1).generation, 1);
}

TEST(AnUpgrade, BeginsTheNextGenerationWhereItDoesNotAndCountsNoRestart) {
  World world = a_world();
  world.settle();
  forget(world);
  was_named(world, kOfOtherFields);
  world.settle();
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts + world.status().uncountedRestarts, 0);
  for (int i : {0, 1}) EXPECT_EQ(world.said(i).generation, 2);
  EXPECT_EQ(world.status().specHash, name_of(world.job()));
}

TEST(AnUpgrade, StillTellsOfAnEditThatTheControllerBeforeItTold) {
  World world = a_running_world();
  const std::string before = older_name_of(world.job());
  world.edit("a", edit_checkpoint_interval);
  world.pass(10);
  was_named(world, before);
  world.pass(10);
  EXPECT_NE(world.condition("Accepted").message.find("takes effect at the next restart"), std::string::npos);
}

/// status.resize as an older controller wrote it, in a gang of two that trains, and what is made of it.
contract::ResizeStatus completed(double at, const NewCondition& about = {condition::kRunning, true, "Training", ""}) {
  const World world = a_running_world();
  Job job = world.job();
  job.status.resize = contract::ResizeStatus{.workers = 4, .at = contract::to_rfc3339(test::at(at))};
  set_condition(job.status, about, 1, test::at(0));
  Review review(world.cluster, job, test::at(0));
  EXPECT_TRUE(complete_older_status(review));
  return review.status.resize.value();
}

TEST(AResizeOfBefore, IsToldApartByItsTimeAndTheConditions) {
  using contract::ResizeReason;
  EXPECT_EQ(completed(200).reason, ResizeReason::kRoomFound);
  EXPECT_EQ(completed(0, {condition::kRunning, false, reason::kResizing, ""}).reason, ResizeReason::kStopping);
  EXPECT_EQ(completed(0, {condition::kPlaced, true, reason::kCreatingWorkers, ""}).reason, ResizeReason::kGrewFrom);
  const auto refused = completed(2'100);
  EXPECT_EQ(refused.reason, ResizeReason::kRefused);
  EXPECT_EQ(refused.at, contract::to_rfc3339(test::at(1'800)))
      << "until then it is not tried; it was the time of the next growth";
}

}  // namespace
}  // namespace trainyard::decide
