#include "worker/agent/log.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <string>

#include <poll.h>
#include <unistd.h>

#include "crds/contract/time.h"

namespace trainyard::agent {

void write_log(Severity severity, std::string_view message, const nlohmann::json& keys) {
  nlohmann::ordered_json line;
  line["time"] = contract::to_rfc3339_micro(std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now()));
  line["level"] = severity == Severity::kInfo ? "info" : "warning";
  line["message"] = message;
  for (const auto& [key, value] : keys.items()) line[key] = value;
  static LineWriter writer(STDERR_FILENO);
  writer.write(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void LineWriter::write(std::string_view line) {
  constexpr std::chrono::milliseconds kPatience{50};  // more than a reader needs that reads at all
  if (dropped_ > 0) {
    const nlohmann::json lost = {{"level", "warning"}, {"message", "nobody read this log"}, {"linesDropped", dropped_}};
    if (!put((is_cut_ ? "\n" : "") + lost.dump() + "\n", std::chrono::milliseconds(0))) {
      ++dropped_;
      return;
    }
    dropped_ = 0;
    is_cut_ = false;
  }
  if (!put(std::string(line) + "\n", kPatience)) dropped_ = 1;
}

bool LineWriter::put(std::string_view text, std::chrono::milliseconds patience) {
  const auto length = text.size();
  while (!text.empty()) {
    pollfd ready{.fd = descriptor_, .events = POLLOUT, .revents = 0};
    const int polled = ::poll(&ready, 1, static_cast<int>(patience.count()));
    if (polled < 0 && errno == EINTR) continue;
    if (polled <= 0) {
      is_cut_ = is_cut_ || text.size() < length;
      return false;
    }
    // At most PIPE_BUF bytes: POLLOUT promises a pipe room for those, so that the write does not wait.
    const auto written = ::write(descriptor_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace trainyard::agent
