#pragma once
// The agent's log: one JSON object a line, a constant message and keys.

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

}  // namespace trainyard::agent
