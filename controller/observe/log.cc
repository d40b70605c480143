#include "controller/observe/log.h"

#include <unistd.h>
#include <array>
#include <chrono>

namespace trainyard::observe {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"debug", "info", "warning", "error"};

std::string quoted(std::string_view text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

// Lines are written piece by piece, because Json would sort the keys.
std::string beginning(contract::Time time, Level level, std::string_view message) {
  return "{\"time\":\"" + contract::to_rfc3339_micro(time) + "\",\"level\":\"" + std::string(name_of(level)) +
         "\",\"message\":" + quoted(message);
}
void append(std::string& line, std::string_view name, const Json& value) {
  line += ',' + quoted(name) + ':' + value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

contract::Time now() { return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now()); }

void write_to_stderr(std::string line) {
  line += '\n';
  std::string_view rest = line;
  while (!rest.empty()) {
    const auto count = ::write(STDERR_FILENO, rest.data(), rest.size());
    if (count <= 0) return;  // nobody reads: there is nowhere to complain
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace

std::string_view name_of(Level level) { return kNames[static_cast<std::size_t>(level)]; }

std::optional<Level> level_from(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Level>(i);
  }
  return std::nullopt;
}

std::string log_line(contract::Time time, Level level, std::string_view message, Fields fields) {
  std::string line = beginning(time, level, message);
  for (const auto& [name, value] : fields) append(line, name, value);
  return line + '}';
}

std::string log_line(contract::Time time, Level level, std::string_view message, const Json& fields) {
  std::string line = beginning(time, level, message);
  for (const auto& field : fields.items()) append(line, field.key(), field.value());
  return line + '}';
}

Log::Log(Level least, Writer writer) : least_(least), writer_(writer ? std::move(writer) : write_to_stderr) {}

void Log::write(Level level, std::string_view message, Fields fields) const {
  if (enabled(level)) writer_(log_line(now(), level, message, fields));
}

void Log::write_object(Level level, std::string_view message, const Json& fields) const {
  if (enabled(level)) writer_(log_line(now(), level, message, fields));
}

}  // namespace trainyard::observe
