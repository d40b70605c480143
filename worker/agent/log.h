#pragma once
// The agent's log: one JSON object a line, a constant message and keys.

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>

#include <nlohmann/json.hpp>

namespace trainyard::agent {

/// Info: what an operator would want to find in a post-mortem. Warning: somebody may have to act.
enum class Severity { kInfo, kWarning };
/// Where to: write_log in a pod, a person's terminal in `trainyard-worker run`.
using Log = std::function<void(Severity, std::string_view message, const nlohmann::json& keys)>;

/// To standard error.
void write_log(Severity severity, std::string_view message, const nlohmann::json& keys);

/// Writes lines to a descriptor, whole and in order, but never waits long for its reader: where that does not read, lines are dropped,
/// and counted in a line of their own once it does. A log that cannot be written must not stop the training.
class LineWriter {
 public:
  explicit LineWriter(int descriptor) : descriptor_(descriptor) {}
  void write(std::string_view line);  // without its end

 private:
  bool put(std::string_view text, std::chrono::milliseconds patience);

  const int descriptor_;
  std::int64_t dropped_ = 0;
  bool is_cut_ = false;  // the reader has the beginning of a line whose rest was dropped
};

}  // namespace trainyard::agent
