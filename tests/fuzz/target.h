#pragma once
// What a fuzz target offers: one file defines both functions. What is told of a target beside them is its promise: what holds whatever
// the bytes are.

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// Feeds one input to the code under test; throws std::logic_error when a promise of it does not hold.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace trainyard::fuzz {

/// Valid inputs to begin with.
std::vector<std::string> seeds();

inline std::string_view text_of(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

inline void expect(bool holds, const char* promise) {
  if (!holds) throw std::logic_error(promise);
}

}  // namespace trainyard::fuzz
