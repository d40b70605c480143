// What an agent does with assignments and reports; agent_core_ends_test.cc has how it ends.

#include "worker/agent/agent_core.h"

#include <csignal>

#include <gtest/gtest.h>

#include "crds/contract/sparse.h"
#include "tests/worker/agent/agent_core_words.h"

namespace trainyard::agent {
namespace {

using namespace std::chrono_literals;
using AgentCoreTest = RunningCore;

TEST(AgentCore, IsIdleUntilItHasAnAssignment) {
  const AgentCore core({.pod_uid = "pod"}, kLimits);
  EXPECT_EQ(core.state().phase, AgentPhase::kIdle);
  EXPECT_EQ(core.state().podUid, "pod");
  EXPECT_EQ(core.state().version, 1);
  EXPECT_FALSE(core.deadline());
}

TEST(AgentCore, StartsEveryRankOfAnAssignmentWithItsPlaceInTheJob) {
  AgentCore core({.pod_uid = "pod", .bind_address = "10.0.0.2", .cpus = 8}, kLimits);
  auto wanted = assignment(3);
  wanted.checkpointRequest = 4;
  const auto starts = all<StartRank>(core.assign(wanted, at(0s)).actions);
  ASSERT_EQ(starts.size(), 2u);
  EXPECT_EQ(starts[1].config.rank, 3);
  EXPECT_EQ(starts[1].config.localRank, 1);
  EXPECT_EQ(starts[1].config.worldSize, 4);
  EXPECT_EQ(starts[1].config.generation, 3);
  EXPECT_EQ(starts[1].config.bindAddress, "10.0.0.2");
  EXPECT_EQ(starts[1].config.rendezvous, wanted.rendezvous);
  EXPECT_EQ(starts[1].config.threads, 4) << "8 CPUs for 2 ranks";
  EXPECT_EQ(starts[1].config.spec, wanted.spec);
  EXPECT_EQ(starts[1].control.checkpointRequest, 4);
  EXPECT_EQ(core.state().phase, AgentPhase::kStarting);
  EXPECT_EQ(core.state().generation, 3);
}

TEST(AgentCore, KeepsToTheThreadsThatTheManifestSays) {
  AgentCore core({.pod_uid = "pod", .cpus = 8}, kLimits);
  auto wanted = assignment(1);
  wanted.spec.workers.threadsPerProcess = 1;
  EXPECT_EQ(all<StartRank>(core.assign(wanted, at(0s)).actions).at(0).config.threads, 1);
}

TEST(AgentCore, IdlesWithAnAssignmentWithoutRanks) {
  AgentCore core({.pod_uid = "pod"}, kLimits);
  const auto answer = core.assign(assignment(1, {}), at(0s));
  EXPECT_EQ(answer.actions, Actions{Publish{}});
  EXPECT_EQ(core.state().phase, AgentPhase::kIdle);
  EXPECT_EQ(core.state().generation, 1);
}

TEST(AgentCore, RefusesAnAssignmentThatMakesNoSenseWithEveryReason) {
  AgentCore core({.pod_uid = "pod"}, kLimits);
  Assignment wrong = assignment(0, {2, 2, 4});
  wrong.jobUid.clear();
  wrong.rendezvous.port = 0;
  const auto answer = core.assign(wrong, at(0s));
  EXPECT_EQ(answer.status, 400u);
  EXPECT_TRUE(answer.actions.empty());
  for (const char* part : {"jobUid", "generation", "2 occurs twice", "4 is outside 0..3", "rendezvous"}) {
    EXPECT_NE(answer.message.find(part), std::string::npos) << part << " in\n" << answer.message;
  }
}

TEST(AgentCore, FailsAGenerationOfWhichItDoesNotKnowEverythingAndStartsNoRank) {
  AgentCore core({.pod_uid = "pod", .node = "n2"}, kLimits);
  const std::vector<contract::Problem> unknown{{"spec.training.sharpness", "unknown field"}};
  const auto answer = core.assign(assignment(1), at(0s), unknown);
  EXPECT_EQ(answer.status, 200u);
  EXPECT_EQ(answer.actions, Actions{Publish{}});
  EXPECT_EQ(core.state().generation, 1);
  EXPECT_EQ(core.state().phase, AgentPhase::kFailed);
  ASSERT_TRUE(core.state().failure);
  EXPECT_EQ(core.state().failure->failureClass, contract::FailureClass::kUser);
  EXPECT_EQ(core.state().failure->reason, contract::kWorkerOutdated);
  EXPECT_EQ(core.state().failure->worker, 1);
  EXPECT_NE(core.state().failure->message.find("spec.training.sharpness: unknown field"), std::string::npos);
  EXPECT_TRUE(core.assign(assignment(1), at(1s), unknown).actions.empty()) << "it is told again";
  EXPECT_EQ(started(core.assign(assignment(2), at(2s)).actions), (Ranks{2, 3})) << "without what it does not know";
  EXPECT_EQ(core.state().phase, AgentPhase::kStarting);
}

TEST_F(AgentCoreTest, SaysThatItDoesNotKnowTheNextGenerationOnceTheRanksOfTheLastAreGone) {
  const auto answer = core.assign(assignment(2), at(1s), {{"spec.training.sharpness", "unknown field"}});
  EXPECT_EQ(killed(answer.actions), (Ranks{2, 3}));
  EXPECT_EQ(phase(), AgentPhase::kStarting);
  const auto actions = core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(2s));
  EXPECT_EQ(actions, Actions{Publish{}});
  EXPECT_EQ(phase(), AgentPhase::kFailed);
}

TEST_F(AgentCoreTest, TakesTheSameAssignmentAgainWithoutDoingAnything) {
  const auto version = core.state().version;
  const auto answer = core.assign(assignment(1), at(1s));
  EXPECT_EQ(answer.status, 200u);
  EXPECT_TRUE(answer.actions.empty());
  EXPECT_EQ(core.state().version, version);
}

TEST_F(AgentCoreTest, RefusesALowerGenerationAnotherJobAndAnotherContentOfTheSameGeneration) {
  core.assign(assignment(5), at(1s));
  auto other_job = assignment(6);
  other_job.jobUid = "another";
  auto other_content = assignment(5);
  other_content.spec.training.seed = 2;
  for (const auto& wrong : {assignment(4), other_job, other_content, assignment(5, {0})}) {
    const auto answer = core.assign(wrong, at(2s));
    EXPECT_EQ(answer.status, 409u);
    EXPECT_FALSE(answer.message.empty());
    EXPECT_TRUE(answer.actions.empty());
  }
  EXPECT_EQ(core.state().generation, 5);
}

TEST_F(AgentCoreTest, RefusesToHaveAWordTakenBack) {
  auto wanted = assignment(1);
  wanted.checkpointRequest = 2;
  wanted.stopAfter = 2;
  ASSERT_EQ(core.assign(wanted, at(1s)).status, 200u);
  auto less = wanted;
  less.checkpointRequest = 1;
  auto goes_on = wanted;
  goes_on.stopAfter.reset();
  EXPECT_EQ(core.assign(less, at(2s)).status, 409u);
  EXPECT_EQ(core.assign(goes_on, at(2s)).status, 409u);
}

TEST_F(AgentCoreTest, AmendsWhatItHasWhateverThatWasMadeFrom) {
  const Assignment stop{.jobUid = "job-uid", .generation = 1, .amends = true, .checkpointRequest = 1, .stopAfter = 1};
  const RankControl control{.checkpointRequest = 1, .stopAfter = 1};
  EXPECT_EQ(core.assign(stop, at(1s)).actions, (Actions{SendControl{2, control}, SendControl{3, control}}));
  EXPECT_TRUE(core.assign(stop, at(2s)).actions.empty()) << "nothing is new";
  auto whole = assignment(1);
  whole.checkpointRequest = 1;
  whole.stopAfter = 1;
  EXPECT_EQ(core.assign(whole, at(3s)).status, 200u) << "ranks and spec are as they were";
  EXPECT_EQ(core.assign({.jobUid = "job-uid", .generation = 1, .amends = true}, at(4s)).status, 409u) << "nothing is taken back";
}

TEST_F(AgentCoreTest, RefusesToAmendWhatItDoesNotHave) {
  Assignment stop{.jobUid = "job-uid", .generation = 2, .amends = true, .checkpointRequest = 1, .stopAfter = 1};
  EXPECT_EQ(core.assign(stop, at(1s)).status, 409u);
  stop.generation = 1;
  stop.jobUid = "another";
  EXPECT_EQ(core.assign(stop, at(1s)).status, 409u);
  AgentCore idle({.pod_uid = "pod"}, kLimits);
  EXPECT_EQ(idle.assign(stop, at(1s)).status, 409u);
  EXPECT_EQ(idle.state().phase, AgentPhase::kIdle);
}

TEST_F(AgentCoreTest, HandsCheckpointRequestAndStopAfterToEveryRank) {
  auto wanted = assignment(1);
  wanted.checkpointRequest = 1;
  wanted.stopAfter = 1;
  const RankControl control{.checkpointRequest = 1, .stopAfter = 1};
  EXPECT_EQ(core.assign(wanted, at(1s)).actions, (Actions{SendControl{2, control}, SendControl{3, control}}));
}

TEST_F(AgentCoreTest, RunsFromTheFirstStepOn) {
  EXPECT_EQ(phase(), AgentPhase::kStarting);
  EXPECT_EQ(core.reported(2, progress(1), at(100ms)), Actions{Publish{}});
  EXPECT_EQ(phase(), AgentPhase::kRunning);
  EXPECT_EQ(core.state().progress->step, 1);
}

TEST_F(AgentCoreTest, PublishesProgressAtMostOnceAnInterval) {
  core.reported(2, progress(1), at(1000ms));
  EXPECT_TRUE(core.reported(2, progress(2), at(1001ms)).empty());
  EXPECT_TRUE(core.reported(2, progress(3), at(1499ms)).empty());
  EXPECT_EQ(core.state().progress->step, 1) << "the state changes only with its version";
  EXPECT_EQ(core.deadline(), 1500ms);
  EXPECT_TRUE(core.tick(at(1499ms)).empty());
  EXPECT_EQ(core.tick(at(1500ms)), Actions{Publish{}});
  EXPECT_EQ(core.state().progress->step, 3);
  EXPECT_FALSE(core.deadline());
}

TEST_F(AgentCoreTest, LosesNoProgressWhenSomethingElseIsPublished) {
  core.reported(2, progress(1), at(0ms));
  core.reported(2, progress(2), at(1ms));
  core.exited({ended(2, 0), ended(3, 0)}, at(2ms));
  EXPECT_EQ(core.state().progress->step, 2);
}

TEST_F(AgentCoreTest, TellsOfCheckpointsAndWhichRequestTheyAnswer) {
  contract::Report report{.kind = contract::ReportKind::kCheckpoint};
  report.checkpoint = contract::CheckpointStatus{.step = 100, .path = "/checkpoints/100"};
  EXPECT_EQ(core.reported(2, report, at(1s)), Actions{Publish{}});
  EXPECT_EQ(core.state().checkpoint->step, 100);
  EXPECT_FALSE(core.state().checkpointed);
  report.request = 3;
  core.reported(2, report, at(2s));
  EXPECT_EQ(core.state().checkpointed, (contract::Checkpointed{.request = 3, .step = 100, .durable = true}));
}

TEST_F(AgentCoreTest, NumbersNoticesAndKeepsTheLastSixteen) {
  contract::Report report{.kind = contract::ReportKind::kNotice, .notice = contract::Notice{.number = 99, .reason = "Resumed"}};
  for (int i = 0; i < 20; ++i) core.reported(2, report, at(1s));
  ASSERT_EQ(core.state().notices.size(), 16u);
  EXPECT_EQ(core.state().notices.front().number, 5);
  EXPECT_EQ(core.state().notices.back().number, 20);
}

TEST_F(AgentCoreTest, ReapsEveryRankOfTheLastGenerationBeforeItStartsTheNext) {
  core.reported(2, progress(7), at(1s));
  const auto answer = core.assign(assignment(2, {3, 1}), at(2s));
  EXPECT_EQ(killed(answer.actions), (Ranks{2, 3}));
  EXPECT_TRUE(started(answer.actions).empty());
  EXPECT_EQ(phase(), AgentPhase::kStarting);
  EXPECT_EQ(core.state().generation, 2);
  EXPECT_FALSE(core.state().progress) << "it was the last generation's";
  EXPECT_TRUE(core.exited({by_signal(3, SIGKILL)}, at(3s)).empty());
  EXPECT_EQ(started(core.exited({by_signal(2, SIGKILL)}, at(4s))), (Ranks{3, 1}));
  EXPECT_FALSE(core.state().failure);
  EXPECT_EQ(core.ranks_failed(), 0);
}

TEST_F(AgentCoreTest, StartsOnlyTheNewestOfGenerationsThatCameWhileRanksWereDying) {
  core.assign(assignment(2), at(1s));
  EXPECT_TRUE(all<KillRank>(core.assign(assignment(3, {0}), at(2s)).actions).empty()) << "they are dying already";
  EXPECT_EQ(started(core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(3s))), Ranks{0});
}

TEST_F(AgentCoreTest, HearsNothingFromRanksOfAnOlderGeneration) {
  core.assign(assignment(2), at(1s));
  const auto version = core.state().version;
  EXPECT_TRUE(core.reported(2, progress(7), at(2s)).empty());
  EXPECT_EQ(core.state().version, version);
  core.exited({by_signal(2, SIGSEGV), ended(3, 2)}, at(3s));
  EXPECT_EQ(phase(), AgentPhase::kStarting) << "how the old ones ended says nothing of the new";
}

TEST_F(AgentCoreTest, StartsAnewAfterAFailureWithTheNextGeneration) {
  core.exited({ended(2, 9), by_signal(3, SIGKILL)}, at(1s));
  ASSERT_EQ(phase(), AgentPhase::kFailed);
  EXPECT_EQ(started(core.assign(assignment(2), at(2s)).actions), (Ranks{2, 3}));
  EXPECT_EQ(phase(), AgentPhase::kStarting);
  EXPECT_FALSE(core.state().failure);
  EXPECT_EQ(core.ranks_started(), 4);
}

}  // namespace
}  // namespace trainyard::agent
