#pragma once
// Texts of others that have to fit into a field of the API.

#include <string>

namespace trainyard::decide {

/// At most `bytes` bytes, with a sign where something was cut, and no UTF-8 character torn.
inline std::string shortened(std::string text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  std::size_t end = bytes - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + "...";
}

}  // namespace trainyard::decide
