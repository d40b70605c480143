#pragma once
// Texts of others that have to fit into a field, whole characters of UTF-8 alone: what is torn is no JSON.

#include <cstddef>
#include <string>

namespace trainyard::contract {

/// The first `bytes` bytes at most.
inline void cut(std::string& text, std::size_t bytes) {
  if (text.size() <= bytes) return;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0U) == 0x80U) --bytes;
  text.resize(bytes);
}

/// At most `bytes` bytes, with a sign where something was cut.
inline std::string shortened(std::string text, std::size_t bytes) {
  constexpr std::size_t kSign = 3;
  if (text.size() <= bytes) return text;
  cut(text, bytes - kSign);
  return text + "...";
}

}  // namespace trainyard::contract
