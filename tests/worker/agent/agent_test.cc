// The agent with real processes, driven on its own thread; its HTTP is in agent_service_test.cc.

#include "worker/agent/agent.h"

#include <csignal>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/worker/agent/agent_in_thread.h"
#include "tests/worker/agent/process_facts.h"

namespace trainyard::agent {
namespace {

using namespace std::chrono_literals;
using contract::AgentPhase;
using testing::AgentInThread;
using testing::is_alive;
using testing::is_gone_soon;
using testing::scripted;

int pid_in(const std::string& text) { return std::stoi(text); }

TEST(Agent, SucceedsWithTheProgressOfItsLastStep) {
  AgentInThread agent;
  ASSERT_EQ(agent.assign(scripted(1, "steps:100 checkpoint notice:disk", {0, 1})).status, 200u);
  const auto state = agent.wait(AgentPhase::kSucceeded);
  ASSERT_EQ(state.phase, AgentPhase::kSucceeded);
  EXPECT_EQ(state.progress->step, 100);
  EXPECT_EQ(state.checkpoint->step, 7);
  ASSERT_EQ(state.notices.size(), 2u);
  EXPECT_EQ(state.notices[1].number, 2);
}

TEST(Agent, KeepsTheEvidenceOfACrash) {
  const testing::TemporaryFolder folder;
  const std::string started = folder.path() / "started";  // a rank that is killed before it has said its pid never says it
  AgentInThread agent;
  agent.assign(
      scripted(1, "only:0 make:" + started + " only:1 until:" + started + " say:about_to_go_wrong crash:11 all wait", {0, 1}));
  const int other = pid_in(agent.wait_for_line("0: pid "));
  const auto state = agent.wait(AgentPhase::kFailed);
  ASSERT_TRUE(state.failure);
  EXPECT_EQ(state.failure->rank, 1);
  EXPECT_EQ(state.failure->signal, "SIGSEGV");
  EXPECT_EQ(state.failure->exitCode, 139);
  EXPECT_EQ(state.failure->node, "n1");
  ASSERT_EQ(state.failure->lastLines.size(), 2u);
  EXPECT_EQ(state.failure->lastLines[1], "about to go wrong");
  EXPECT_FALSE(is_alive(other)) << "phase Failed means that all ranks are gone";
}

TEST(Agent, KeepsTheLastTwentyLinesWrittenBeforeTheEnd) {
  std::string script;
  for (int i = 0; i < 50; ++i) script += "say:line_" + std::to_string(i) + " ";
  AgentInThread agent;
  agent.assign(scripted(1, script + "exit:1"));
  const auto lines = agent.wait(AgentPhase::kFailed).failure.value_or(contract::Failure{}).lastLines;
  ASSERT_EQ(lines.size(), 20u);
  EXPECT_EQ(lines.front(), "line 30");
  EXPECT_EQ(lines.back(), "line 49");
}

TEST(Agent, HandsOnWhatARankSaysOfAnErrorOfTheUser) {
  AgentInThread agent;
  agent.assign(scripted(1, "report:no_corpus exit:2"));
  const auto failure = agent.wait(AgentPhase::kFailed).failure.value_or(contract::Failure{});
  EXPECT_EQ(failure.failureClass, contract::FailureClass::kUser);
  EXPECT_EQ(failure.reason, "CorpusMissing");
  EXPECT_EQ(failure.message, "no_corpus");
  EXPECT_EQ(failure.exitCode, 2);
}

TEST(Agent, MarksALostPeerAsSecondary) {
  AgentInThread agent;
  agent.assign(scripted(1, "exit:76"));
  EXPECT_TRUE(agent.wait(AgentPhase::kFailed).secondary);
}

TEST(Agent, HasEveryProcessOfTheOldGenerationGoneBeforeTheNewOneStarts) {
  AgentInThread agent;
  agent.assign(scripted(1, "child steps:1 stubborn", {0, 1}));
  const int first = pid_in(agent.wait_for_line("0: pid ")), second = pid_in(agent.wait_for_line("1: pid "));
  const int grandchild = pid_in(agent.wait_for_line("0: child "));
  agent.wait(AgentPhase::kRunning);
  ASSERT_EQ(agent.assign(scripted(2, "say:new_one wait", {0})).status, 200u);
  agent.wait_for_line("0: new one");
  EXPECT_FALSE(is_alive(first));
  EXPECT_FALSE(is_alive(second));
  EXPECT_TRUE(is_gone_soon(grandchild));
  EXPECT_EQ(agent.state().generation, 2);
  EXPECT_FALSE(agent.state().failure);
}

TEST(Agent, RefusesALowerGenerationAndLeavesTheRanksAlone) {
  AgentInThread agent;
  agent.assign(scripted(2, "wait"));
  const int pid = pid_in(agent.wait_for_line("0: pid "));
  EXPECT_EQ(agent.assign(scripted(1, "wait")).status, 409u);
  EXPECT_TRUE(is_alive(pid));
}

TEST(Agent, StopsRanksAfterTheCheckpointThatWasAskedFor) {
  AgentInThread agent;
  auto assignment = scripted(1, "steps:1 wait");
  agent.assign(assignment);
  agent.wait(AgentPhase::kRunning);
  assignment.checkpointRequest = 1;
  agent.assign(assignment);
  const auto state = agent.wait([](const auto& seen) { return seen.checkpointed.has_value(); });
  EXPECT_EQ(state.checkpointed, (contract::Checkpointed{.request = 1, .step = 7, .durable = true}));
  EXPECT_EQ(state.phase, AgentPhase::kRunning);
  assignment.stopAfter = 1;
  agent.assign(assignment);
  EXPECT_EQ(agent.wait(AgentPhase::kStopped).phase, AgentPhase::kStopped);
}

TEST(Agent, WritesItsLastWordAfterSigterm) {
  const testing::TemporaryFolder folder;
  const auto path = folder.path() / "termination-log";
  AgentInThread agent("pod-uid", {}, path);
  agent.assign(scripted(1, "steps:3 wait"));
  agent.wait(AgentPhase::kRunning);
  agent.terminate();
  EXPECT_EQ(agent.wait_for_end(), 0);
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  const auto last = contract::decode<contract::State>(contract::Json::parse(text.str())).value;
  EXPECT_EQ(last.phase, AgentPhase::kStopped);
  EXPECT_EQ(last.progress->step, 3);
  EXPECT_TRUE(last.checkpointed->durable);
}

TEST(Agent, KillsRanksThatDoNotStopWithinTheGraceOfSigterm) {
  AgentInThread agent("pod-uid", {.grace = 50ms});
  agent.assign(scripted(1, "steps:1 stubborn"));
  const int pid = pid_in(agent.wait_for_line("0: pid "));
  agent.wait(AgentPhase::kRunning);
  agent.terminate();
  EXPECT_EQ(agent.wait_for_end(), 1);
  EXPECT_FALSE(is_alive(pid));
  EXPECT_EQ(agent.state().failure->reason, "GraceExceeded");
}

TEST(Agent, EndsRanksThatHangSoonAfterSigtermWhereNoCheckpointIsToBeWritten) {
  AgentInThread agent("pod-uid", {.step_grace = 50ms});  // grace: 110 s
  auto assignment = scripted(1, "steps:1 stubborn");
  assignment.spec.checkpoint.reset();
  agent.assign(assignment);
  agent.wait(AgentPhase::kRunning);
  agent.terminate();
  EXPECT_EQ(agent.wait_for_end(), 0);
  EXPECT_EQ(agent.state().phase, AgentPhase::kStopped);
}

TEST(Agent, EndsRanksThatHangAtOnceWhenItIsReleasedThoughItsGraceIsLong) {
  AgentInThread agent;
  auto assignment = scripted(1, "steps:1 stubborn");
  agent.assign(assignment);
  const int pid = pid_in(agent.wait_for_line("0: pid "));
  agent.wait(AgentPhase::kRunning);
  agent.terminate();
  assignment.checkpointRequest = 1;
  assignment.stopAfter = 1;
  assignment.release = true;
  ASSERT_EQ(agent.assign(assignment).status, 200u);
  EXPECT_EQ(agent.wait_for_end(), 0);
  EXPECT_FALSE(is_alive(pid));
}

TEST(Agent, EndsOnceItsGoodEndWasServedLongEnough) {
  AgentInThread agent("pod-uid", {.linger = 20ms});
  agent.assign(scripted(1, "steps:1"));
  EXPECT_EQ(agent.wait_for_end(), 0);
}

TEST(Agent, LeavesNoRankBehind) {
  int pid = 0;
  {
    AgentInThread agent;
    agent.assign(scripted(1, "stubborn"));
    pid = pid_in(agent.wait_for_line("0: pid "));
  }
  EXPECT_FALSE(is_alive(pid));
}

}  // namespace
}  // namespace trainyard::agent
