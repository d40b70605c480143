#include "crds/contract/host_port.h"

#include <algorithm>
#include <charconv>

namespace trainyard::contract {

std::optional<HostPort> read_host_port(std::string_view text) {
  const bool is_in_brackets = text.starts_with('[');
  const std::size_t end = is_in_brackets ? text.find(']') : std::min(text.rfind(':'), text.size());
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view host = is_in_brackets ? text.substr(1, end - 1) : text.substr(0, end);
  const std::string_view rest = text.substr(end + (is_in_brackets ? 1 : 0));
  if (host.find_first_of("[]") != std::string_view::npos) return std::nullopt;
  HostPort out{.host = std::string(host), .port = std::nullopt};
  if (rest.empty()) return out;
  const std::string_view digits = rest.substr(1);
  std::uint16_t port = 0;
  const auto [at, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (rest.front() != ':' || error != std::errc{} || at != digits.data() + digits.size()) return std::nullopt;
  out.port = port;
  return out;
}

}  // namespace trainyard::contract
