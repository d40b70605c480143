#include "worker/agent/console.h"

#include <sstream>

#include <gtest/gtest.h>

namespace trainyard::agent {
namespace {

contract::State at_step(std::int64_t step) {
  contract::State state;
  state.progress = contract::Progress{.step = step, .steps = 500};
  return state;
}

TEST(ProgressText, SaysHowFarHowWellHowFastAndHowLong) {
  const contract::Progress progress{.step = 120, .steps = 500, .loss = 3.1104, .tokensPerSecond = 5210.4, .remainingSeconds = 73};
  EXPECT_EQ(progress_text(progress), "step 120/500 (24%) | loss 3.110 | 5,210 tokens/s | 1 min 13 s left");
}

TEST(ProgressText, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(progress_text({.step = 1, .steps = 500}), "step 1/500 (0%)");
  EXPECT_EQ(progress_text({.step = 500, .steps = 500, .remainingSeconds = 0}), "step 500/500 (100%)");
}

TEST(FailureText, ShowsTheEvidence) {
  contract::Failure failure{.rank = 3, .exitCode = 139, .signal = "SIGSEGV", .reason = "RankCrashed", .message = "it crashed"};
  failure.lastLines = {"one", "two"};
  EXPECT_EQ(failure_text(failure), "RankCrashed: it crashed (rank 3, SIGSEGV)\n  Its last lines:\n  | one\n  | two");
}

TEST(Console, ShowsTheFirstEveryNthAndTheLastStepWithoutATerminal) {
  std::ostringstream out;
  Console console(out, {.terminal = false, .every_steps = 100});
  for (const std::int64_t step : {1, 2, 99, 100, 101, 203, 499, 500}) console.state(at_step(step));
  EXPECT_EQ(out.str(), "step 1/500 (0%)\nstep 100/500 (20%)\nstep 203/500 (40%)\nstep 499/500 (99%)\nstep 500/500 (100%)\n");
}

TEST(Console, WritesOverTheProgressLineOfATerminal) {
  std::ostringstream out;
  Console console(out, {.terminal = true});
  console.state(at_step(1));
  console.state(at_step(2));
  console.rank_line(3, "hello");
  EXPECT_EQ(out.str(), "\r\033[Kstep 1/500 (0%)\r\033[Kstep 2/500 (0%)\r\033[K[rank 3] hello\n");
}

TEST(Console, TellsOfSkippedStepsWhereThereWereSome) {
  EXPECT_EQ(progress_text({.step = 9, .steps = 10, .loss = 2.5, .skippedSteps = 3}), "step 9/10 (90%) | loss 2.500 | 3 skipped");
}

TEST(Console, ShowsNoticesAndCheckpointsOnce) {
  std::ostringstream out;
  Console console(out, {});
  contract::State state;
  state.checkpoint = contract::CheckpointStatus{.step = 100, .path = "/k"};
  state.notices.push_back({.number = 1, .warning = true, .reason = "CheckpointCorrupt", .message = "step 90"});
  console.state(state);
  console.state(state);
  EXPECT_EQ(out.str(), "Warning: CheckpointCorrupt: step 90\nCheckpoint of step 100 at /k\n");
}

}  // namespace
}  // namespace trainyard::agent
