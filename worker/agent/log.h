#pragma once
// The agent's log: one JSON object a line on standard error, a constant message and keys.

#include <string_view>

#include <nlohmann/json.hpp>

namespace trainyard::agent {

/// What an operator would want to find in a post-mortem.
void log_info(std::string_view message, const nlohmann::json& keys = nlohmann::json::object());
/// Somebody may have to act.
void log_warning(std::string_view message, const nlohmann::json& keys = nlohmann::json::object());

}  // namespace trainyard::agent
