#include "controller/agents/agent_reply.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "crds/contract/parse_json.h"
#include "crds/contract/shortened.h"
#include "crds/contract/time.h"

namespace trainyard::agents {
namespace {

constexpr std::ptrdiff_t kMostNotices = 16;  // an agent holds no more
constexpr std::size_t kLongestRefusal = 1'024;
constexpr std::size_t kLongestPath = 4'096;  // PATH_MAX
constexpr std::size_t kLongestTime = 64;
constexpr std::int64_t kLongestTraining = std::chrono::seconds(std::chrono::years(1'000)).count();

bool is_time(const std::string& text) { return text.empty() || (text.size() <= kLongestTime && contract::parse_rfc3339(text)); }

/// Each notice becomes an event, all else a part of the status.
contract::State within_limits(contract::State state) {
  if (std::ssize(state.notices) > kMostNotices) state.notices.erase(state.notices.begin(), state.notices.end() - kMostNotices);
  if (state.failure) state.failure = contract::trimmed(std::move(*state.failure));
  if (state.checkpoint && (state.checkpoint->path.size() > kLongestPath || !is_time(state.checkpoint->completedAt))) {
    state.checkpoint.reset();
  }
  if (state.progress && !is_time(state.progress->updatedAt)) state.progress.reset();
  if (state.progress && state.progress->remainingSeconds) {
    state.progress->remainingSeconds = std::clamp<std::int64_t>(*state.progress->remainingSeconds, 0, kLongestTraining);
  }
  return state;
}

}  // namespace

std::optional<contract::State> state_in(std::string_view body) {
  const auto json = contract::parse_json(body);
  if (json.is_discarded()) return std::nullopt;
  auto decoded = contract::decode<contract::State>(json);
  if (!decoded.problems.empty()) return std::nullopt;
  return within_limits(std::move(decoded.value));
}

std::string words_of_refusal(unsigned status, const std::string& body) {
  const auto json = contract::parse_json(body);
  const bool has = json.is_object() && json.contains("message") && json["message"].is_string();
  const std::string words = has ? json["message"].get<std::string>() : body;
  return std::to_string(status) + " " + contract::shortened(words, kLongestRefusal);
}

}  // namespace trainyard::agents
