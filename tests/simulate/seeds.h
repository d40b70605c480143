#pragma once
// How many stories are told: TRAINYARD_SEEDS sets it.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace trainyard::simulate {

inline constexpr std::uint64_t kSeeds = 10'000;

/// Of the random stories of seeds_test.cc.
inline std::uint64_t num_seeds() {
  const char* wanted = std::getenv("TRAINYARD_SEEDS");
  return wanted == nullptr ? kSeeds : std::stoull(wanted);
}

/// Of other stories: all of them, or fewer where fewer random ones are told, a tenth at least.
inline std::uint64_t num_stories(std::uint64_t all) { return std::clamp(all * num_seeds() / kSeeds, all / 10, all); }

}  // namespace trainyard::simulate
