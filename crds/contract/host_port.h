#pragma once
// HOST:PORT, as people and URLs write it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace trainyard::contract {

struct HostPort {
  std::string host;                   // without the brackets of IPv6; may be empty
  std::optional<std::uint16_t> port;  // nothing: there is no colon
  bool operator==(const HostPort&) const = default;
};

/// "10.0.0.7:8471", "[fd00::7]:8471", "collector", ":8080". Nothing where brackets are without a partner, or what follows the last colon outside of
/// them is no number up to 65535.
std::optional<HostPort> read_host_port(std::string_view text);

}  // namespace trainyard::contract
