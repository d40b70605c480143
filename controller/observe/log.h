#pragma once
// Logs: one JSON line an event, a constant message and keys, so that machines can find what people read:
//   log.info("gang placed", {{"job", key}, {"nodes", 32}, {"seconds", 0.4}});
//   {"time":"2026-01-02T03:04:05.678901Z","level":"info","message":"gang placed","job":"default/a","nodes":32,"seconds":0.4}
// Info: what an operator wants in a post-mortem. Warning: someone may have to act. Debug: a decision's reasons. No secrets.

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "crds/contract/time.h"

namespace trainyard::observe {

using Json = nlohmann::json;

enum class Level { kDebug, kInfo, kWarning, kError };
/// debug, info, warning, error.
std::string_view name_of(Level level);
std::optional<Level> level_from(std::string_view name);

struct Field {
  std::string_view name;
  Json value;
};
using Fields = std::initializer_list<Field>;

/// The line, without its end. Text that is no UTF-8 is repaired.
std::string log_line(contract::Time time, Level level, std::string_view message, Fields fields);
/// The same with the entries of an object, in alphabetical order.
std::string log_line(contract::Time time, Level level, std::string_view message, const Json& fields);

/// Writes events at or above a level. Any thread.
class Log {
 public:
  using Writer = std::function<void(std::string line)>;  // called from any thread, several at once
  /// Without a writer: to standard error, each line by one write, so that lines of several threads do not mix.
  explicit Log(Level least, Writer writer = {});

  bool enabled(Level level) const { return level >= least_; }
  void write(Level level, std::string_view message, Fields fields = {}) const;
  void write_object(Level level, std::string_view message, const Json& fields) const;
  void debug(std::string_view message, Fields fields = {}) const { write(Level::kDebug, message, fields); }
  void info(std::string_view message, Fields fields = {}) const { write(Level::kInfo, message, fields); }
  void warning(std::string_view message, Fields fields = {}) const { write(Level::kWarning, message, fields); }
  void error(std::string_view message, Fields fields = {}) const { write(Level::kError, message, fields); }

 private:
  const Level least_;
  const Writer writer_;
};

}  // namespace trainyard::observe
