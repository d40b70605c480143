#include "worker/agent/agent_core.h"

#include <algorithm>
#include <csignal>

#include <gtest/gtest.h>

namespace trainyard::agent {
namespace {

using namespace std::chrono_literals;
using contract::AgentPhase;
using contract::Assignment;
using contract::RankControl;

constexpr Limits kLimits{.grace = 100s, .linger = 60s, .progress_interval = 500ms};

Now at(std::chrono::milliseconds uptime) { return {.uptime = uptime, .wall = contract::Time{} + uptime}; }

Assignment assignment(std::int64_t generation, std::vector<std::int32_t> ranks = {2, 3}) {
  Assignment out;
  out.jobUid = "job-uid";
  out.job = "default/tiny";
  out.generation = generation;
  out.worker = 1;
  out.ranks = std::move(ranks);
  out.worldSize = 4;
  out.rendezvous = {.host = "10.0.0.1", .port = 29500};
  out.spec.checkpoint = contract::Checkpoint{.path = "/checkpoints"};
  return out;
}

template <class T>
std::vector<T> all(const Actions& actions) {
  std::vector<T> out;
  for (const auto& action : actions) {
    if (const auto* found = std::get_if<T>(&action)) out.push_back(*found);
  }
  return out;
}
std::vector<std::int32_t> started(const Actions& actions) {
  std::vector<std::int32_t> out;
  for (const auto& start : all<StartRank>(actions)) out.push_back(start.config.rank);
  return out;
}
std::vector<std::int32_t> killed(const Actions& actions) {
  std::vector<std::int32_t> out;
  for (const auto& kill : all<KillRank>(actions)) out.push_back(kill.rank);
  return out;
}
using Ranks = std::vector<std::int32_t>;

RankExit ended(std::int32_t rank, int code) { return {.rank = rank, .exit_code = code}; }
RankExit by_signal(std::int32_t rank, int signal) { return {.rank = rank, .signal = signal}; }
contract::Report progress(std::int64_t step) {
  contract::Report report;
  report.progress = contract::Progress{.step = step, .steps = 500};
  return report;
}

/// An agent with ranks 2 and 3 of generation 1 running.
class AgentCoreTest : public ::testing::Test {
 protected:
  AgentCoreTest() { EXPECT_EQ(core.assign(assignment(1), at(0s)).status, 200u); }
  AgentPhase phase() const { return core.state().phase; }

  AgentCore core{{.pod_uid = "pod", .bind_address = "10.0.0.2", .node = "n2", .cpus = 8}, kLimits};
};

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

TEST_F(AgentCoreTest, SucceedsWhenEveryRankIsDone) {
  EXPECT_TRUE(core.exited({ended(2, 0)}, at(1s)).empty());
  EXPECT_EQ(phase(), AgentPhase::kStarting);
  EXPECT_EQ(core.exited({ended(3, 0)}, at(2s)), Actions{Publish{}});
  EXPECT_EQ(phase(), AgentPhase::kSucceeded);
  EXPECT_FALSE(core.state().failure);
}

TEST_F(AgentCoreTest, ServesAGoodEndUntilItIsReleasedOrTheLingerIsOver) {
  core.exited({ended(2, 0), ended(3, 0)}, at(10s));
  EXPECT_EQ(core.deadline(), 70s);
  EXPECT_TRUE(core.tick(at(69s)).empty());
  auto released = assignment(1);
  released.release = true;
  EXPECT_EQ(core.assign(released, at(69s)).actions, Actions{Exit{0}});
  EXPECT_EQ(core.tick(at(70s)), Actions{Exit{0}});
}

TEST_F(AgentCoreTest, StopsWhenRanksStoppedAsAsked) {
  core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(1s));
  EXPECT_EQ(phase(), AgentPhase::kStopped);
  EXPECT_FALSE(core.state().failure);
}

TEST_F(AgentCoreTest, KillsTheOthersAndFailsOnlyWhenAllAreGone) {
  EXPECT_EQ(killed(core.exited({by_signal(2, SIGSEGV)}, at(1s))), Ranks{3});
  EXPECT_EQ(phase(), AgentPhase::kStarting);
  EXPECT_EQ(core.exited({by_signal(3, SIGKILL)}, at(2s)), Actions{Publish{}});
  EXPECT_EQ(phase(), AgentPhase::kFailed);
  const auto& failure = *core.state().failure;
  EXPECT_EQ(failure.rank, 2);
  EXPECT_EQ(failure.worker, 1);
  EXPECT_EQ(failure.node, "n2");
  EXPECT_EQ(failure.exitCode, 139);
  EXPECT_EQ(failure.signal, "SIGSEGV");
  EXPECT_EQ(failure.at, "1970-01-01T00:00:01Z") << "when the first rank ended, not the last";
  EXPECT_FALSE(core.state().secondary);
  EXPECT_EQ(core.ranks_failed(), 1);
}

TEST_F(AgentCoreTest, WaitsAfterAFailureForAsLongAsItTakes) {
  core.exited({by_signal(2, SIGSEGV), by_signal(3, SIGSEGV)}, at(1s));
  EXPECT_FALSE(core.deadline());
  auto released = assignment(1);
  released.release = true;
  EXPECT_EQ(core.assign(released, at(1000s)).actions, Actions{Exit{1}});
}

TEST_F(AgentCoreTest, KeepsTheFirstOfSeveralFailures) {
  core.exited({ended(2, 9)}, at(1s));
  core.exited({ended(3, 8)}, at(2s));
  EXPECT_EQ(core.state().failure->exitCode, 9);
}

TEST_F(AgentCoreTest, TakesALostPeerOnlyForACauseWhereThereIsNoOther) {
  core.exited({ended(2, contract::kPeerLostExitCode), by_signal(3, SIGBUS)}, at(1s));
  EXPECT_EQ(core.state().failure->signal, "SIGBUS");
  EXPECT_FALSE(core.state().secondary);

  core.assign(assignment(2), at(2s));
  core.exited({ended(2, contract::kPeerLostExitCode)}, at(3s));
  core.exited({by_signal(3, SIGKILL)}, at(4s));  // killed by us: says nothing
  EXPECT_EQ(core.state().failure->reason, "PeerLost");
  EXPECT_EQ(core.state().failure->failureClass, contract::FailureClass::kTransient);
  EXPECT_TRUE(core.state().secondary);
}

TEST_F(AgentCoreTest, BelievesARankThatCrashedWhileItWasAboutToBeKilledForItsPeer) {
  core.exited({ended(2, contract::kPeerLostExitCode)}, at(1s));
  core.exited({ended(3, contract::kUserErrorExitCode)}, at(2s));
  EXPECT_EQ(core.state().failure->rank, 3);
  EXPECT_EQ(core.state().failure->failureClass, contract::FailureClass::kUser);
  EXPECT_FALSE(core.state().secondary);
}

TEST_F(AgentCoreTest, AddsTheExitToWhatTheRankSaidItself) {
  contract::Report report{.kind = contract::ReportKind::kFailure};
  report.failure =
      contract::Failure{.failureClass = contract::FailureClass::kUser, .reason = "CorpusMissing", .message = "no /data"};
  EXPECT_TRUE(core.reported(2, report, at(1s)).empty());
  RankExit exit = ended(2, contract::kUserErrorExitCode);
  exit.last_lines = {"one", "two\xff"};
  core.exited({exit, by_signal(3, SIGKILL)}, at(1s));
  const auto& failure = *core.state().failure;
  EXPECT_EQ(failure.reason, "CorpusMissing");
  EXPECT_EQ(failure.message, "no /data");
  EXPECT_EQ(failure.exitCode, 2);
  EXPECT_EQ(failure.lastLines, (std::vector<std::string>{"one", "two\xEF\xBF\xBD"}));
}

TEST_F(AgentCoreTest, SaysThatTheMemoryWasUsedUp) {
  RankExit exit = by_signal(2, SIGKILL);
  exit.out_of_memory = true;
  core.exited({exit, ended(3, contract::kPeerLostExitCode)}, at(1s));
  EXPECT_EQ(core.state().failure->reason, "OutOfMemory");
  EXPECT_NE(core.state().failure->message.find("raise the memory limit"), std::string::npos);
}

TEST_F(AgentCoreTest, SaysThatARankCouldNotBeStarted) {
  RankExit exit;
  exit.rank = 2;
  exit.could_not_start = "execute /opt/rank: No such file or directory";
  EXPECT_EQ(killed(core.exited({exit}, at(1s))), Ranks{3});
  core.exited({by_signal(3, SIGKILL)}, at(1s));
  EXPECT_EQ(core.state().failure->reason, "RankNotStarted");
  EXPECT_NE(core.state().failure->message.find("/opt/rank"), std::string::npos);
  EXPECT_FALSE(core.state().failure->exitCode);
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

TEST_F(AgentCoreTest, GivesUpALingerWhenANewGenerationComes) {
  core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(1s));
  core.assign(assignment(2), at(2s));
  EXPECT_FALSE(core.deadline());
}

TEST_F(AgentCoreTest, EndsRanksThatStillRunWhenItIsReleased) {
  auto released = assignment(1);
  released.release = true;
  EXPECT_EQ(killed(core.assign(released, at(1s)).actions), (Ranks{2, 3}));
  EXPECT_EQ(core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(2s)), (Actions{Publish{}, Exit{0}}));
}

TEST_F(AgentCoreTest, AsksForACheckpointAndAStopOnSigterm) {
  const RankControl control{.checkpointRequest = 1, .stopAfter = 1};
  EXPECT_EQ(core.terminate(at(10s)), (Actions{SendControl{2, control}, SendControl{3, control}}));
  EXPECT_EQ(core.deadline(), 110s);
  EXPECT_TRUE(core.terminate(at(11s)).empty()) << "once is enough";
  const auto actions = core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(20s));
  EXPECT_EQ(actions, (Actions{Publish{}, Exit{0}}));
  EXPECT_EQ(phase(), AgentPhase::kStopped);
}

TEST_F(AgentCoreTest, LeavesAStopThatIsUnderWayAsItIsOnSigterm) {
  auto wanted = assignment(1);
  wanted.checkpointRequest = 5;
  wanted.stopAfter = 5;
  core.assign(wanted, at(1s));
  EXPECT_TRUE(core.terminate(at(2s)).empty());
  EXPECT_EQ(core.deadline(), 102s);
}

TEST_F(AgentCoreTest, KillsRanksThatDoNotStopWithinTheGrace) {
  core.terminate(at(10s));
  EXPECT_TRUE(core.tick(at(109s)).empty());
  EXPECT_EQ(killed(core.tick(at(110s))), (Ranks{2, 3}));
  EXPECT_EQ(core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(111s)), (Actions{Publish{}, Exit{1}}));
  EXPECT_EQ(core.state().failure->reason, "GraceExceeded");
  EXPECT_EQ(core.state().failure->failureClass, contract::FailureClass::kInfrastructure);
}

TEST_F(AgentCoreTest, EndsAtOnceOnSigtermWhereNothingRuns) {
  core.exited({ended(2, 9), by_signal(3, SIGKILL)}, at(1s));
  EXPECT_EQ(core.terminate(at(2s)), Actions{Exit{1}});
  AgentCore idle({.pod_uid = "pod"}, kLimits);
  EXPECT_EQ(idle.terminate(at(0s)), Actions{Exit{0}});
}

TEST_F(AgentCoreTest, TakesNoNewGenerationAfterSigterm) {
  core.terminate(at(1s));
  EXPECT_EQ(core.assign(assignment(2), at(2s)).status, 409u);
  EXPECT_EQ(core.assign(assignment(1), at(2s)).status, 200u);
}

TEST_F(AgentCoreTest, StartsNothingOnSigtermBetweenTwoGenerations) {
  core.assign(assignment(2), at(1s));
  core.terminate(at(2s));
  const auto actions = core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(3s));
  EXPECT_TRUE(started(actions).empty());
  EXPECT_EQ(all<Exit>(actions), std::vector<Exit>{Exit{0}});
  EXPECT_EQ(phase(), AgentPhase::kStopped);
}

// Every end of two ranks, in every order and together: the phase is what the contract says, and nobody is left alive.
TEST(AgentCore, SumsUpEveryPairOfEnds) {
  const std::vector<RankExit> ends = {ended(0, 0), ended(0, contract::kStoppedExitCode), ended(0, contract::kPeerLostExitCode),
                                      ended(0, 1), by_signal(0, SIGABRT)};
  for (const auto& first : ends) {
    for (const auto& second : ends) {
      for (const bool together : {false, true}) {
        AgentCore core({.pod_uid = "pod"}, kLimits);
        core.assign(assignment(1, {0, 1}), at(0s));
        RankExit other = second;
        other.rank = 1;
        if (together) {
          core.exited({first, other}, at(1s));
        } else {
          const bool fails = kind_of(first) == ExitKind::kFailed || kind_of(first) == ExitKind::kPeerLost;
          EXPECT_EQ(!killed(core.exited({first}, at(1s))).empty(), fails);
          core.exited({other}, at(2s));
        }
        const auto kinds = {kind_of(first), kind_of(other)};
        const auto count = [&kinds](ExitKind kind) { return std::count(kinds.begin(), kinds.end(), kind); };
        const auto failed = count(ExitKind::kFailed), lost = count(ExitKind::kPeerLost), stopped = count(ExitKind::kStopped);
        const auto expected = failed + lost > 0 ? AgentPhase::kFailed
                              : stopped > 0     ? AgentPhase::kStopped
                                                : AgentPhase::kSucceeded;
        EXPECT_EQ(core.state().phase, expected);
        EXPECT_EQ(core.state().secondary, failed == 0 && lost > 0);
        EXPECT_EQ(core.state().failure.has_value(), expected == AgentPhase::kFailed);
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::agent
