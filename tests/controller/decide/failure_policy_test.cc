#include "controller/decide/failure_policy.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureAction;
using contract::FailureClass;
using contract::FailureRule;
using contract::Phase;
using test::World;

const Failure kKilled{.failureClass = FailureClass::kUnknown,
                      .exitCode = 137,
                      .signal = "SIGKILL",
                      .message = "rank 9 was ended by SIGKILL",
                      .lastLines = {"step 12", "loss is NaN"}};

Ruling ruling(const std::vector<FailureRule>& rules, const Failure& failure = kKilled) {
  return ruling_on(failure, {.rules = rules});
}

TEST(WithoutARule, TheClassDecides) {
  Failure failure;
  for (const auto& [failure_class, outcome] : std::map<FailureClass, Outcome>{{FailureClass::kUser, Outcome::kFail},
                                                                              {FailureClass::kInfrastructure, Outcome::kFree},
                                                                              {FailureClass::kTransient, Outcome::kCounted},
                                                                              {FailureClass::kUnknown, Outcome::kCounted}}) {
    failure.failureClass = failure_class;
    EXPECT_EQ(ruling({}, failure).outcome, outcome) << contract::name_of(failure_class);
    EXPECT_FALSE(ruling({}, failure).rule);
  }
}

TEST(ARule, MatchesByExitCodeSignalOrWords) {
  EXPECT_EQ(ruling({{.action = FailureAction::kFail, .onExitCodes = {1, 137}}}).outcome, Outcome::kFail);
  EXPECT_EQ(ruling({{.action = FailureAction::kIgnore, .onSignals = {"SIGBUS", "SIGKILL"}}}).outcome, Outcome::kFree);
  EXPECT_EQ(ruling({{.action = FailureAction::kFail, .onMessage = "rank 9 was ended"}}).outcome, Outcome::kFail);
  EXPECT_EQ(ruling({{.action = FailureAction::kFail, .onMessage = "loss is NaN"}}).outcome, Outcome::kFail) << "in a last line";
  EXPECT_FALSE(ruling({{.action = FailureAction::kFail, .onExitCodes = {1}}}).rule);
  EXPECT_FALSE(ruling({{.action = FailureAction::kFail, .onSignals = {"SIGTERM"}}}).rule);
  EXPECT_FALSE(ruling({{.action = FailureAction::kFail, .onMessage = "loss is Inf"}}).rule);
}

TEST(ARule, NeedsAllOfItsConditionsToHoldAndHasOne) {
  EXPECT_TRUE(ruling({{.action = FailureAction::kFail, .onExitCodes = {137}, .onMessage = "NaN"}}).rule);
  EXPECT_FALSE(ruling({{.action = FailureAction::kFail, .onExitCodes = {137}, .onMessage = "Inf"}}).rule);
  EXPECT_FALSE(ruling({{.action = FailureAction::kFail}}).rule);
  EXPECT_FALSE(ruling({{.action = FailureAction::kFail, .onExitCodes = {137}}}, Failure{.message = "a node was lost"}).rule)
      << "nothing has exited";
}

TEST(TheFirstRule, ThatMatchesDecidesAndIsNamed) {
  const std::vector<FailureRule> rules{{.action = FailureAction::kFail, .onExitCodes = {3}},
                                       {.action = FailureAction::kRestart, .onExitCodes = {137}},
                                       {.action = FailureAction::kFail, .onSignals = {"SIGKILL"}}};
  EXPECT_EQ(ruling(rules).outcome, Outcome::kCounted);
  EXPECT_EQ(ruling(rules).rule, 1);
}

World a_world_with(FailureRule rule) {
  World world = a_running_world();
  world.edit("a", [&rule](contract::TrainingJobSpec& spec) { spec.lifecycle.failurePolicy.rules = {rule}; });
  world.settle();
  return world;
}

TEST(AJobsRules, MayFailItAtOnce) {
  World world = a_world_with({.action = FailureAction::kFail, .onMessage = "NaN"});
  world.fail_rank(0, {.reason = "RankCrashed", .message = "the loss is NaN"});
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kFailed);
  EXPECT_EQ(world.condition("Failed").reason, "RankCrashed");
  EXPECT_EQ(world.status().failure->policyRule, 0);
  EXPECT_EQ(world.status().failure->failureClass, FailureClass::kUnknown);
}

TEST(AJobsRules, MayRestartWhatWouldHaveFailedIt) {
  World world = a_world_with({.action = FailureAction::kRestart, .onExitCodes = {2}});
  world.fail_rank(0,
                  {.failureClass = FailureClass::kUser, .exitCode = 2, .reason = "CorpusMissing", .message = "it comes later"});
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRestarting);
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->policyRule, 0);
}

TEST(AJobsRules, MayCountWhatWouldBeFree) {
  World world = a_world_with({.action = FailureAction::kRestart, .onMessage = "is lost"});
  world.change_node(world.pod(1).node,
                    [](Node& node) { node.taints = {{.key = "node.kubernetes.io/out-of-service", .effect = "NoExecute"}}; });
  world.settle();
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().uncountedRestarts, 0);
}

TEST(AJobsRules, MayIgnoreAFailureForEverButNotInHaste) {
  World world = a_world_with({.action = FailureAction::kIgnore, .onSignals = {"SIGBUS"}});
  const auto crash = [&world] {
    if (world.said(0).phase == contract::AgentPhase::kFailed) return;
    world.fail_rank(0, {.signal = "SIGBUS", .reason = "RankCrashed", .message = "crash"});
  };
  for (; world.now < 3'600; world.pass(1)) crash();
  EXPECT_EQ(world.status().phase, Phase::kRestarting);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_GE(world.status().uncountedRestarts, 10) << "1, 2, 4 … 600 s after the failure before";
  EXPECT_LE(world.status().uncountedRestarts, 24);
  EXPECT_EQ(world.condition("Running").reason, "BackingOff");
  EXPECT_NE(world.condition("Running").message.find("restarts at 2026-"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::decide
