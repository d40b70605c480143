#include "controller/agents/agent_reply.h"

#include <gtest/gtest.h>

namespace trainyard::agents {
namespace {

std::string text_of(const contract::State& state) { return contract::encode(state).dump(); }

TEST(AnAgentsReply, IsTheStateThatItTells) {
  contract::State state{.version = 3, .podUid = "u", .generation = 2, .phase = contract::AgentPhase::kRunning};
  state.progress = contract::Progress{.step = 7, .remainingSeconds = 60, .updatedAt = "2026-01-02T03:04:05Z"};
  state.checkpoint = contract::CheckpointStatus{.step = 5, .path = "/c/5", .completedAt = "2026-01-02T03:04:05Z"};
  EXPECT_EQ(state_in(text_of(state)), state);
}

TEST(AnAgentsReply, IsNoneWhereItIsNoJsonOrOfAnotherForm) {
  for (const char* text : {"", "{", "[]", "7", R"({"version": "one"})", R"({"phase": "Asleep"})"})
    EXPECT_FALSE(state_in(text)) << text;
}

TEST(AnAgentsReply, ThatNestsDeepFillsNoStack) {
  EXPECT_FALSE(state_in(R"({"version":)" + std::string(120'000, '[') + std::string(120'000, ']') + "}"));
  EXPECT_EQ(words_of_refusal(409, R"({"message":)" + std::string(120'000, '[')).size(), 4u + 1'024u);
}

TEST(AnAgentsReply, IsCutBetweenTwoCharactersWhereItRefusesInTooManyWords) {
  for (const char* before : {"", "a", "ab"}) {
    std::string words = before;
    for (int i = 0; i < 1'000; ++i) words += "€";
    EXPECT_NO_THROW(contract::Json(words_of_refusal(409, words)).dump());
  }
}

TEST(AnAgentsReply, TellsOfNoTimesThatAreNone) {
  contract::State state{.version = 3, .podUid = "u"};
  for (const std::string& at : {std::string("soon"), "2026-01-02T03:04:05." + std::string(100'000, '0') + "Z"}) {
    state.progress = contract::Progress{.step = 7, .updatedAt = at};
    state.checkpoint = contract::CheckpointStatus{.step = 5, .path = "/c/5", .completedAt = at};
    const auto read = state_in(text_of(state));
    EXPECT_FALSE(read->progress || read->checkpoint) << at.substr(0, 30);
  }
}

TEST(AnAgentsReply, ExpectsNoTrainingToLastForMillionsOfYears) {
  contract::State state{.version = 3, .podUid = "u"};
  state.progress = contract::Progress{.step = 7, .remainingSeconds = INT64_MAX};
  EXPECT_EQ(state_in(text_of(state))->progress->remainingSeconds, 31'556'952'000);
  state.progress->remainingSeconds = -5;
  EXPECT_EQ(state_in(text_of(state))->progress->remainingSeconds, 0);
}

}  // namespace
}  // namespace trainyard::agents
