#include "crds/contract/state.h"

#include <gtest/gtest.h>

namespace trainyard::contract {
namespace {

std::size_t bytes_of(const Failure& failure) {
  return encode(failure).dump(-1, ' ', false, Json::error_handler_t::replace).size();
}

Failure failure_with(std::size_t lines, std::size_t line_bytes, std::size_t message_bytes) {
  Failure failure{.failureClass = FailureClass::kUnknown, .worker = 3, .rank = 25, .exitCode = 1, .reason = "RankCrashed"};
  failure.message = std::string(message_bytes, 'm') + " the cause";
  for (std::size_t i = 0; i < lines; ++i)
    failure.lastLines.push_back(std::string(line_bytes, 'l') + " end of line " + std::to_string(i));
  return failure;
}

TEST(Trimmed, LeavesASmallFailureAsItIs) {
  const Failure failure = failure_with(3, 20, 100);
  EXPECT_EQ(trimmed(failure), failure);
}

TEST(Trimmed, DropsTheOldestLinesFirst) {
  const Failure out = trimmed(failure_with(100, 60, 100));
  EXPECT_LE(bytes_of(out), 4096u);
  EXPECT_GT(out.lastLines.size(), 10u);
  EXPECT_TRUE(out.lastLines.back().ends_with(" end of line 99"));
  EXPECT_EQ(out.message.size(), 110u);
}

TEST(Trimmed, KeepsTheEndsOfLongTexts) {
  const Failure out = trimmed(failure_with(8, 5000, 5000));
  EXPECT_LE(bytes_of(out), 4096u);
  ASSERT_EQ(out.lastLines.size(), 4u);
  EXPECT_TRUE(out.lastLines.back().starts_with("...l"));
  EXPECT_TRUE(out.lastLines.back().ends_with(" end of line 7"));
  EXPECT_TRUE(out.message.ends_with("m the cause"));
}

TEST(Trimmed, FitsEveryLimitThatHoldsTheFactsAlone) {
  for (std::size_t limit = 300; limit <= 6000; limit += 300) {
    for (const std::size_t size : {10u, 1000u, 5000u}) {
      const Failure out = trimmed(failure_with(20, size, size), limit);
      ASSERT_LE(bytes_of(out), limit) << size;
      ASSERT_EQ(out.rank, 25);
      ASSERT_EQ(out.reason, "RankCrashed");
    }
  }
}

TEST(Trimmed, CutsBetweenCharactersOfUtf8) {
  Failure failure;
  failure.message = "x";
  for (int i = 0; i < 5000; ++i) failure.message += "\u00e4";  // two bytes each
  const Failure out = trimmed(failure, 1000);
  EXPECT_LE(bytes_of(out), 1000u);
  EXPECT_NO_THROW(Json(out.message).dump()) << "half a character is no JSON";
}

TEST(Trimmed, HoldsWhereTextGrowsAsItIsWritten) {
  Failure failure;
  failure.message = std::string(3000, '\x01');  // six bytes of JSON each
  failure.lastLines = {std::string(3000, '"'), std::string(3000, '\xff')};
  EXPECT_LE(bytes_of(trimmed(failure)), 4096u);
}

TEST(Trimmed, ShortensWhatIsAWordAndWasWrittenAsMore) {
  Failure failure;
  failure.reason = failure.at = std::string(10'000, 'r');
  failure.node = failure.signal = std::string(255, 'n') + "\u00e4" + std::string(10'000, 'n');
  const Failure out = trimmed(failure);
  EXPECT_LE(bytes_of(out), 4096u);
  EXPECT_EQ(out.reason, std::string(256, 'r'));
  EXPECT_EQ(out.node, std::string(255, 'n')) << "no half of a character";
}

TEST(Trimmed, KeepsTheLastOfLinesWithoutNumber) {
  Failure failure;
  failure.lastLines.assign(200'000, "");  // each look at all of them takes milliseconds
  failure.lastLines.push_back("the cause");
  const Failure out = trimmed(failure);
  EXPECT_LE(bytes_of(out), 4096u);
  EXPECT_EQ(out.lastLines.back(), "the cause");
}

TEST(TerminationMessage, IsTheStateWhereThatFits) {
  State state{.version = 7, .podUid = "u", .generation = 2, .phase = AgentPhase::kSucceeded};
  state.notices.push_back({.number = 1, .reason = "Resumed", .message = "from step 100"});
  const auto read = decode<State>(Json::parse(termination_message(state)));
  EXPECT_TRUE(read.problems.empty());
  EXPECT_EQ(read.value, state);
}

TEST(TerminationMessage, DropsNoticesBeforeEvidence) {
  State state{.version = 7, .podUid = "u", .generation = 2, .phase = AgentPhase::kFailed, .failure = failure_with(20, 100, 100)};
  for (int i = 0; i < 16; ++i) state.notices.push_back({.number = i + 1, .message = std::string(300, 'n')});
  const std::string text = termination_message(state);
  EXPECT_LE(text.size(), 4096u);
  const State read = decode<State>(Json::parse(text)).value;
  EXPECT_TRUE(read.notices.empty());
  EXPECT_EQ(read.failure, state.failure);
}

TEST(TerminationMessage, HoldsFourKilobytesWhateverTheFailureSays) {
  for (const std::size_t size : {100u, 3000u, 10000u}) {
    State state{.podUid = "u", .phase = AgentPhase::kFailed, .failure = failure_with(50, size, size)};
    state.checkpoint = CheckpointStatus{.step = 100, .path = "/checkpoints/step-100", .completedAt = "2026-01-02T03:04:05Z"};
    const std::string text = termination_message(state);
    ASSERT_LE(text.size(), 4096u);
    ASSERT_EQ(decode<State>(Json::parse(text)).value.failure->reason, "RankCrashed");
  }
}

}  // namespace
}  // namespace trainyard::contract
