// How ranks end, what the agent makes of it, and how it ends itself.

#include <algorithm>
#include <csignal>

#include <gtest/gtest.h>

#include "tests/worker/agent/agent_core_words.h"
#include "worker/agent/agent_core.h"

namespace trainyard::agent {
namespace {

using namespace std::chrono_literals;
using AgentCoreEnds = RunningCore;

TEST_F(AgentCoreEnds, SucceedsWhenEveryRankIsDone) {
  EXPECT_TRUE(core.exited({ended(2, 0)}, at(1s)).empty());
  EXPECT_EQ(phase(), AgentPhase::kStarting);
  EXPECT_EQ(core.exited({ended(3, 0)}, at(2s)), Actions{Publish{}});
  EXPECT_EQ(phase(), AgentPhase::kSucceeded);
  EXPECT_FALSE(core.state().failure);
}

TEST_F(AgentCoreEnds, ServesAGoodEndUntilItIsReleasedOrTheLingerIsOver) {
  core.exited({ended(2, 0), ended(3, 0)}, at(10s));
  EXPECT_EQ(core.deadline(), 70s);
  EXPECT_TRUE(core.tick(at(69s)).empty());
  auto released = assignment(1);
  released.release = true;
  EXPECT_EQ(core.assign(released, at(69s)).actions, Actions{Exit{0}});
  EXPECT_EQ(core.tick(at(70s)), Actions{Exit{0}});
}

TEST_F(AgentCoreEnds, StopsWhenRanksStoppedAsAsked) {
  core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(1s));
  EXPECT_EQ(phase(), AgentPhase::kStopped);
  EXPECT_FALSE(core.state().failure);
}

TEST_F(AgentCoreEnds, KillsTheOthersAndFailsOnlyWhenAllAreGone) {
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

TEST_F(AgentCoreEnds, WaitsAfterAFailureForAsLongAsAControllerAsks) {
  core.exited({by_signal(2, SIGSEGV), by_signal(3, SIGSEGV)}, at(1s));
  for (const auto now : {400s, 800s}) {
    EXPECT_TRUE(core.tick(at(now)).empty());
    core.asked(at(now));
  }
  auto released = assignment(1);
  released.release = true;
  EXPECT_EQ(core.assign(released, at(1000s)).actions, Actions{Exit{1}});
}

TEST_F(AgentCoreEnds, EndsAfterAFailureThatNobodyAsksAbout) {
  core.exited({by_signal(2, SIGSEGV), by_signal(3, SIGSEGV)}, at(1s));
  core.asked(at(10s));
  ASSERT_EQ(core.deadline(), at(610s).uptime);
  EXPECT_TRUE(core.tick(at(609s)).empty());
  EXPECT_EQ(core.tick(at(610s)), Actions{Exit{1}});
}

TEST_F(AgentCoreEnds, KeepsTheFirstOfSeveralFailures) {
  core.exited({ended(2, 9)}, at(1s));
  core.exited({ended(3, 8)}, at(2s));
  EXPECT_EQ(core.state().failure->exitCode, 9);
}

TEST_F(AgentCoreEnds, TakesALostPeerOnlyForACauseWhereThereIsNoOther) {
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

TEST_F(AgentCoreEnds, BelievesARankThatCrashedWhileItWasAboutToBeKilledForItsPeer) {
  core.exited({ended(2, contract::kPeerLostExitCode)}, at(1s));
  core.exited({ended(3, contract::kUserErrorExitCode)}, at(2s));
  EXPECT_EQ(core.state().failure->rank, 3);
  EXPECT_EQ(core.state().failure->failureClass, contract::FailureClass::kUser);
  EXPECT_FALSE(core.state().secondary);
}

TEST_F(AgentCoreEnds, AddsTheExitToWhatTheRankSaidItself) {
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

TEST_F(AgentCoreEnds, SaysThatTheMemoryWasUsedUp) {
  RankExit exit = by_signal(2, SIGKILL);
  exit.out_of_memory = true;
  core.exited({exit, ended(3, contract::kPeerLostExitCode)}, at(1s));
  EXPECT_EQ(core.state().failure->reason, "OutOfMemory");
  EXPECT_NE(core.state().failure->message.find("raise the memory limit"), std::string::npos);
}

TEST_F(AgentCoreEnds, SaysThatARankCouldNotBeStarted) {
  RankExit exit;
  exit.rank = 2;
  exit.could_not_start = "execute /opt/rank: No such file or directory";
  EXPECT_EQ(killed(core.exited({exit}, at(1s))), Ranks{3});
  core.exited({by_signal(3, SIGKILL)}, at(1s));
  EXPECT_EQ(core.state().failure->reason, "RankNotStarted");
  EXPECT_NE(core.state().failure->message.find("/opt/rank"), std::string::npos);
  EXPECT_FALSE(core.state().failure->exitCode);
}

TEST_F(AgentCoreEnds, WaitsAfterAStopThatItWasNotAskedForAsAfterAFailure) {
  core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(1s));
  EXPECT_EQ(phase(), AgentPhase::kStopped);
  core.asked(at(500s));
  EXPECT_TRUE(core.tick(at(1000s)).empty()) << "another worker is drained, and its new pod may have an image to pull";
  EXPECT_EQ(started(core.assign(assignment(2), at(1000s)).actions), (Ranks{2, 3}));
}

TEST_F(AgentCoreEnds, WaitsAfterAStopThatItWasAskedForForAsLongAsAControllerAsks) {
  const Assignment stop{.jobUid = "job-uid", .generation = 1, .amends = true, .checkpointRequest = 1, .stopAfter = 1};
  core.assign(stop, at(1s));
  core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(2s));
  for (const auto now : {40s, 500s}) core.asked(at(now));
  EXPECT_TRUE(core.tick(at(1000s)).empty()) << "the gang is to have more workers, and their pods have an image to pull";
  EXPECT_EQ(started(core.assign(assignment(2), at(1000s)).actions), (Ranks{2, 3}));
}

TEST_F(AgentCoreEnds, EndsAWhileAfterAStopThatItWasAskedFor) {
  const Assignment stop{.jobUid = "job-uid", .generation = 1, .amends = true, .checkpointRequest = 1, .stopAfter = 1};
  core.assign(stop, at(1s));
  core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(2s));
  EXPECT_EQ(core.tick(at(62s)), Actions{Exit{0}});
}

TEST_F(AgentCoreEnds, GivesUpALingerWhenANewGenerationComes) {
  core.exited({ended(2, contract::kFinishedExitCode), ended(3, contract::kFinishedExitCode)}, at(1s));
  core.assign(assignment(2), at(2s));
  EXPECT_FALSE(core.deadline());
}

TEST_F(AgentCoreEnds, EndsRanksThatStillRunWhenItIsReleased) {
  auto released = assignment(1);
  released.release = true;
  EXPECT_EQ(killed(core.assign(released, at(1s)).actions), (Ranks{2, 3}));
  EXPECT_EQ(core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(2s)), (Actions{Publish{}, Exit{0}}));
}

TEST_F(AgentCoreEnds, IsReleasedByAWordThatDoesNotRepeatTheStopBeforeIt) {
  core.assign({.jobUid = "job-uid", .generation = 1, .amends = true, .checkpointRequest = 1, .stopAfter = 1}, at(1s));
  const auto answer = core.assign({.jobUid = "job-uid", .generation = 1, .amends = true, .release = true}, at(2s));
  EXPECT_EQ(answer.status, 200u) << answer.message;
  EXPECT_EQ(killed(answer.actions), (Ranks{2, 3}));
}

TEST_F(AgentCoreEnds, AsksForACheckpointAndAStopOnSigterm) {
  const RankControl control{.checkpointRequest = 1, .stopAfter = 1};
  EXPECT_EQ(core.terminate(at(10s)), (Actions{SendControl{2, control}, SendControl{3, control}}));
  EXPECT_EQ(core.deadline(), 110s);
  EXPECT_TRUE(core.terminate(at(11s)).empty()) << "once is enough";
  const auto actions = core.exited({ended(2, contract::kStoppedExitCode), ended(3, contract::kStoppedExitCode)}, at(20s));
  EXPECT_EQ(actions, (Actions{Publish{}, Exit{0}}));
  EXPECT_EQ(phase(), AgentPhase::kStopped);
}

TEST_F(AgentCoreEnds, LeavesAStopThatIsUnderWayAsItIsOnSigterm) {
  auto wanted = assignment(1);
  wanted.checkpointRequest = 5;
  wanted.stopAfter = 5;
  core.assign(wanted, at(1s));
  EXPECT_TRUE(core.terminate(at(2s)).empty());
  EXPECT_EQ(core.deadline(), 101s) << "what the checkpoint had of its time it does not get twice";
}

TEST_F(AgentCoreEnds, GivesRanksThatWriteNoCheckpointAFewSecondsOnSigterm) {
  AgentCore agent({.pod_uid = "pod"}, kLimits);
  auto without = assignment(1);
  without.spec.checkpoint.reset();
  agent.assign(without, at(0s));
  agent.terminate(at(10s));
  EXPECT_EQ(agent.deadline(), 15s);
  EXPECT_EQ(killed(agent.tick(at(15s))), (Ranks{2, 3}));
  EXPECT_EQ(agent.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(16s)), (Actions{Publish{}, Exit{0}}));
  EXPECT_EQ(agent.state().phase, AgentPhase::kStopped) << "nothing was lost";
}

TEST_F(AgentCoreEnds, EndsRanksAtOnceThatWaitForLostPeersWhenItIsReleasedAfterSigterm) {
  core.terminate(at(10s));
  auto released = assignment(1);
  released.amends = released.release = true;
  released.stopAfter = released.checkpointRequest = 1;
  EXPECT_EQ(killed(core.assign(released, at(11s)).actions), (Ranks{2, 3}));
  EXPECT_EQ(core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(11s)), (Actions{Publish{}, Exit{0}}));
}

TEST_F(AgentCoreEnds, KillsRanksThatDoNotStopWithinTheGrace) {
  core.terminate(at(10s));
  EXPECT_TRUE(core.tick(at(109s)).empty());
  EXPECT_EQ(killed(core.tick(at(110s))), (Ranks{2, 3}));
  EXPECT_EQ(core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(111s)), (Actions{Publish{}, Exit{1}}));
  EXPECT_EQ(core.state().failure->reason, "GraceExceeded");
  EXPECT_EQ(core.state().failure->failureClass, contract::FailureClass::kInfrastructure);
}

TEST_F(AgentCoreEnds, EndsAtOnceOnSigtermWhereNothingRuns) {
  core.exited({ended(2, 9), by_signal(3, SIGKILL)}, at(1s));
  EXPECT_EQ(core.terminate(at(2s)), Actions{Exit{1}});
  AgentCore idle({.pod_uid = "pod"}, kLimits);
  EXPECT_EQ(idle.terminate(at(0s)), Actions{Exit{0}});
}

TEST_F(AgentCoreEnds, TakesNoNewGenerationAfterSigterm) {
  core.terminate(at(1s));
  EXPECT_EQ(core.assign(assignment(2), at(2s)).status, 409u);
  EXPECT_EQ(core.assign(assignment(1), at(2s)).status, 200u);
}

TEST_F(AgentCoreEnds, StartsNothingOnSigtermBetweenTwoGenerations) {
  core.assign(assignment(2), at(1s));
  core.terminate(at(2s));
  const auto actions = core.exited({by_signal(2, SIGKILL), by_signal(3, SIGKILL)}, at(3s));
  EXPECT_TRUE(started(actions).empty());
  EXPECT_EQ(all<Exit>(actions), std::vector<Exit>{Exit{0}});
  EXPECT_EQ(phase(), AgentPhase::kStopped);
}

// Every end of two ranks, in every order and together: the phase is what the contract says, and nobody is left alive.
TEST(AgentCoreEnd, SumsUpEveryPairOfEnds) {
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
