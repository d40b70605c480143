// What an agent does with ranks that show no sign of progress.

#include <utility>

#include <gtest/gtest.h>

#include "crds/contract/hang.h"
#include "tests/worker/agent/agent_core_words.h"

namespace trainyard::agent {
namespace {

using namespace std::chrono_literals;

contract::Report activity(std::int32_t rank, std::int64_t mark, bool warm = true,
                          std::optional<contract::GroupCall> call = std::nullopt, std::int64_t calls = 41) {
  contract::Report report{.kind = contract::ReportKind::kActivity};
  report.activity = contract::RankActivity{.rank = rank,
                                           .step = 7,
                                           .mark = mark,
                                           .warm = warm,
                                           .doing = "forward",
                                           .call = std::move(call),
                                           .started = {{"data", calls}}};
  return report;
}
const contract::GroupCall kCall{.group = "data", .operation = "all_reduce", .number = 42, .elements = 64, .seconds = 0};

/// Ranks 2 and 3 of 4, whose job waits 30 s for a sign of progress.
class AgentCoreHang : public ::testing::Test {
 protected:
  AgentCoreHang() {
    auto wanted = assignment(1);
    wanted.spec.lifecycle.hangTimeoutSeconds = 30;
    wanted.spec.lifecycle.startTimeoutSeconds = 600;
    wanted.spec.workers.count = 2;
    wanted.spec.workers.processesPerWorker = 2;
    EXPECT_EQ(core.assign(wanted, at(0s)).status, 200u);
  }
  /// To every deadline until `end`, as the agent does.
  Actions pass(std::chrono::milliseconds end) {
    Actions all;
    while (const auto next = core.deadline()) {
      if (*next > end) break;
      const auto actions = core.tick(at(*next));
      all.insert(all.end(), actions.begin(), actions.end());
      if (!killed(actions).empty()) break;
    }
    return all;
  }

  AgentCore core{{.pod_uid = "pod", .bind_address = "10.0.0.2", .node = "n2", .cpus = 8}, kLimits};
};

TEST_F(AgentCoreHang, EndsRanksThatShowNoSignOfProgressAndNamesTheOneAtFault) {
  core.reported(2, activity(2, 10, true, kCall, 42), at(1s));
  core.reported(3, activity(3, 10), at(1s));
  for (auto second = 2s; second <= 32s; second += 1s)
    core.reported(2, activity(2, 10, true, kCall, 42), at(second));  // rank 3 is silent
  const auto actions = pass(33s);
  EXPECT_EQ(killed(actions), (Ranks{2, 3}));
  core.exited({by_signal(2, 9), by_signal(3, 9)}, at(33s));
  const auto& state = core.state();
  EXPECT_EQ(state.phase, AgentPhase::kFailed);
  EXPECT_FALSE(state.secondary);
  EXPECT_EQ(state.failure->reason, "RankHung");
  EXPECT_EQ(state.failure->failureClass, contract::FailureClass::kInfrastructure);
  EXPECT_EQ(state.failure->rank, 3);
  EXPECT_EQ(state.failure->node, "n2");
  EXPECT_NE(state.failure->message.find("30 s of lifecycle.hangTimeoutSeconds: rank 3 has not answered for 3"), std::string::npos)
      << state.failure->message;
  EXPECT_NE(state.failure->message.find("rank 2 waits for it in all_reduce 42 of the data axis (64 elements)"), std::string::npos)
      << state.failure->message;
  ASSERT_EQ(state.activities.size(), 2u);
  EXPECT_EQ(state.activities[0].call->number, 42);
}

TEST_F(AgentCoreHang, LeavesRanksAloneThatMove) {
  for (auto second = 1s; second <= 300s; second += 10s) {
    core.reported(2, activity(2, second.count()), at(second));
    core.reported(3, activity(3, second.count()), at(second));
    EXPECT_TRUE(killed(pass(second + 9s)).empty());
  }
  EXPECT_TRUE(core.state().activities.empty());
}

TEST_F(AgentCoreHang, WaitsLongerForTheFirstStep) {
  core.reported(2, activity(2, 1, false), at(1s));
  EXPECT_TRUE(killed(pass(630s)).empty()) << "startTimeoutSeconds more";
  EXPECT_EQ(killed(pass(633s)), (Ranks{2, 3}));
}

TEST_F(AgentCoreHang, DoesNotKnowOfRanksThatHaveToldNothing) { EXPECT_TRUE(killed(pass(10'000s)).empty()); }

TEST_F(AgentCoreHang, TellsHalfwayWhatItsRanksDoAndTakesItBackWhereTheyGoOn) {
  core.reported(2, activity(2, 1), at(1s));
  const auto version = core.state().version;
  EXPECT_TRUE(pass(15s).empty());
  EXPECT_EQ(all<Publish>(pass(16s)).size(), 1u);
  ASSERT_EQ(core.state().activities.size(), 1u);
  EXPECT_EQ(core.state().activities[0].stillSeconds, 15);
  EXPECT_EQ(all<Publish>(core.reported(2, activity(2, 2), at(20s))).size(), 1u);
  EXPECT_TRUE(core.state().activities.empty());
  EXPECT_EQ(core.state().version, version + 2);
}

TEST_F(AgentCoreHang, FirstReadsWhatCameWhileItDidNotRunItself) {
  core.reported(2, activity(2, 1), at(1s));
  // The agent was stopped for an hour; words of its ranks wait in their pipes.
  EXPECT_TRUE(killed(core.tick(at(3600s))).empty());
  core.reported(2, activity(2, 2), at(3600s));
  EXPECT_TRUE(killed(pass(3620s)).empty());
}

TEST_F(AgentCoreHang, FollowsFromAnotherWorkersWhereItsOwnRanksOnlyWait) {
  for (const std::int32_t rank : {2, 3}) core.reported(rank, activity(rank, 10, true, kCall, 42), at(1s));
  const auto tell_until = [&](std::chrono::seconds end) {
    for (auto second = 2s; second <= end; second += 1s) {
      for (const std::int32_t rank : {2, 3}) core.reported(rank, activity(rank, 10, true, kCall, 42), at(second));
    }
  };
  tell_until(59s);
  EXPECT_TRUE(killed(pass(60s)).empty()) << "the agent of the rank that they wait for comes first";
  tell_until(62s);
  EXPECT_EQ(killed(pass(63s)), (Ranks{2, 3}));
  core.exited({by_signal(2, 9), by_signal(3, 9)}, at(63s));
  EXPECT_TRUE(core.state().secondary);
  EXPECT_FALSE(core.state().failure->rank);
  EXPECT_NE(core.state().failure->message.find("ranks 0 and 1 have not come"), std::string::npos)
      << core.state().failure->message;
}

TEST_F(AgentCoreHang, LeavesARankAloneThatWaitsForOneThatIsSlow) {
  core.reported(2, activity(2, 10, true, kCall, 42), at(1s));
  for (auto second = 2s; second <= 200s; second += 1s) {
    core.reported(2, activity(2, 10, true, kCall, 42), at(second));
    core.reported(3, activity(3, second.count()), at(second));
    ASSERT_TRUE(killed(pass(second)).empty()) << second.count();
  }
  // Until that one stands still, too.
  for (auto second = 201s; second <= 240s; second += 1s) core.reported(2, activity(2, 10, true, kCall, 42), at(second));
  EXPECT_EQ(killed(pass(240s)), (Ranks{2, 3}));
  core.exited({by_signal(2, 9), by_signal(3, 9)}, at(240s));
  EXPECT_EQ(core.state().failure->rank, 3);
}

TEST_F(AgentCoreHang, TellsOfARankThatCannotEvenBeKilled) {
  core.reported(3, activity(3, 10), at(1s));
  EXPECT_EQ(killed(pass(33s)), (Ranks{2, 3}));
  core.exited({by_signal(2, 9)}, at(33s));
  EXPECT_EQ(core.state().phase, AgentPhase::kStarting) << "it may end at any moment";
  pass(60s);
  EXPECT_EQ(core.state().phase, AgentPhase::kFailed);
  EXPECT_EQ(core.state().failure->reason, "RankNotKilled");
  EXPECT_EQ(core.state().failure->failureClass, contract::FailureClass::kInfrastructure);
  EXPECT_EQ(core.state().failure->rank, 3);
  core.exited({by_signal(3, 9)}, at(100s));
  EXPECT_EQ(core.state().failure->reason, "RankNotKilled");
}

TEST_F(AgentCoreHang, DoesNotTellAtEachMoveOfOthersWhatOneThatStandsStillDoes) {
  core.reported(2, activity(2, 1), at(1s));
  pass(17s);
  const auto version = core.state().version;
  for (auto second = 18s; second <= 25s; second += 1s) {
    core.reported(3, activity(3, second.count()), at(second));
    pass(second);
  }
  EXPECT_EQ(core.state().version, version);
  EXPECT_FALSE(core.state().activities.empty());
}

TEST_F(AgentCoreHang, TellsWhatItsRanksDidWhenTheyLostAPeer) {
  core.reported(2, activity(2, 10, true, kCall, 42), at(1s));
  core.exited({ended(2, contract::kPeerLostExitCode)}, at(2s));
  core.exited({by_signal(3, 9)}, at(2s));
  EXPECT_EQ(core.state().failure->reason, "PeerLost");
  ASSERT_EQ(core.state().activities.size(), 1u);
  EXPECT_EQ(core.state().activities[0].call->operation, "all_reduce");
}

TEST(AgentCore, KillsNoRankThatStandsStillWithoutALimit) {
  AgentCore core({.pod_uid = "pod"}, kLimits);
  core.assign(assignment(1), at(0s));
  core.reported(2, activity(2, 1), at(1s));
  EXPECT_FALSE(core.deadline());
}

TEST(AgentCore, KeepsWhatItsRanksMeasured) {
  AgentCore core({.pod_uid = "pod"}, kLimits);
  core.assign(assignment(1), at(0s));
  auto words = activity(3, 1);
  words.measures = contract::Measures{.memoryPeakBytes = 5};
  core.reported(3, words, at(1s));
  auto step = progress(1);
  step.measures = contract::Measures{.memoryPeakBytes = 6, .lossZScore = 1.5};
  core.reported(2, step, at(1s));
  EXPECT_EQ(core.measured().of_rank.at(3).memoryPeakBytes, 5);
  EXPECT_EQ(core.measured().reporting_rank, 2);
  EXPECT_EQ(core.measured().of_rank.at(2).lossZScore, 1.5);
}

}  // namespace
}  // namespace trainyard::agent
