#pragma once
// A short name for a text: 16 hexadecimal digits, the same on every machine (FNV-1a, 64 bits). No secret depends on it.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "crds/contract/fields.h"

namespace trainyard::decide {

inline std::uint64_t text_number(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  return hash;
}

inline std::string text_hash(std::string_view text) {
  std::uint64_t hash = text_number(text);
  constexpr std::array<char, 17> kDigits{"0123456789abcdef"};
  std::string out(16, '0');
  for (std::size_t i = 16; i-- > 0; hash >>= 4) out[i] = kDigits[hash & 15];
  return out;
}

/// Equal for objects whose keys are in another order; bytes that are no UTF-8 are replaced.
inline std::string json_hash(const contract::Json& json) {
  return text_hash(json.dump(-1, ' ', false, contract::Json::error_handler_t::replace));
}

}  // namespace trainyard::decide
