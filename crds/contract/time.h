#pragma once
// RFC 3339 times in UTC, as Kubernetes writes them: metav1.Time in seconds, metav1.MicroTime in microseconds.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace trainyard::contract {

using Time = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;

/// 2026-01-02T03:04:05Z; the fraction is cut off.
std::string to_rfc3339(Time time);
/// 2026-01-02T03:04:05.678901Z.
std::string to_rfc3339_micro(Time time);
/// Both of the above, and offsets such as +02:00; nothing where `text` is no such time.
std::optional<Time> parse_rfc3339(std::string_view text);

}  // namespace trainyard::contract
