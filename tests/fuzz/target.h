#pragma once
// What a fuzz target offers: one file defines both functions.

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

/// Feeds one input to the code under test; throws std::logic_error when a promise of it does not hold.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace trainyard::fuzz {

/// Valid inputs to begin with.
std::vector<std::string> seeds();

inline void expect(bool holds, const char* promise) {
  if (!holds) throw std::logic_error(promise);
}

}  // namespace trainyard::fuzz
