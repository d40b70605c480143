#include "worker/agent/log.h"

#include <chrono>
#include <string>

#include <unistd.h>

#include "crds/contract/time.h"

namespace trainyard::agent {

void write_log(Severity severity, std::string_view message, const nlohmann::json& keys) {
  nlohmann::ordered_json line;
  line["time"] = contract::to_rfc3339_micro(std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now()));
  line["level"] = severity == Severity::kInfo ? "info" : "warning";
  line["message"] = message;
  for (const auto& [key, value] : keys.items()) line[key] = value;
  const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  // One write a line, so that lines of several writers do not mix. A log that cannot be written must not stop the training.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace trainyard::agent
