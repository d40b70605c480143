#include "crds/contract/state.h"

#include <cstring>
#include <iterator>

#include "crds/contract/shortened.h"

namespace trainyard::contract {
namespace {

/// The last `bytes` bytes of `text`, from the start of a UTF-8 character on, with a sign that something was cut.
std::string tail(const std::string& text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  std::size_t from = text.size() - bytes;
  while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
  return "..." + text.substr(from);
}

constexpr std::size_t kLongestWord = 256;  // names of nodes have up to 253
constexpr std::ptrdiff_t kMostLines = 128;

std::size_t size_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace).size(); }

}  // namespace

Failure trimmed(Failure failure, std::size_t bytes) {
  cut(failure.reason, kLongestWord);
  cut(failure.at, kLongestWord);
  if (failure.node) cut(*failure.node, kLongestWord);
  if (failure.signal) cut(*failure.signal, kLongestWord);
  auto& lines = failure.lastLines;
  if (std::ssize(lines) > kMostLines)
    lines.erase(lines.begin(), lines.end() - kMostLines);  // what follows looks at all of them for each
  while (size_of(encode(failure)) > bytes && failure.lastLines.size() > 4) failure.lastLines.erase(failure.lastLines.begin());
  for (std::size_t limit = 512; size_of(encode(failure)) > bytes && limit >= 16; limit /= 2) {
    for (auto& line : failure.lastLines) line = tail(line, limit);
    failure.message = tail(failure.message, limit);
  }
  if (size_of(encode(failure)) > bytes) failure.lastLines.clear();
  return failure;
}

std::string termination_message(State state) {
  constexpr std::size_t kLimit = 4096;
  if (size_of(encode(state)) > kLimit) state.notices.clear();
  if (size_of(encode(state)) > kLimit) state.activities.clear();
  if (state.failure && size_of(encode(state)) > kLimit) {
    const std::size_t rest = size_of(encode(state)) - size_of(encode(*state.failure));
    state.failure = trimmed(*state.failure, kLimit - rest);
  }
  return encode(state).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? "SIG" + std::string(name) : "signal " + std::to_string(signal);
}

}  // namespace trainyard::contract
