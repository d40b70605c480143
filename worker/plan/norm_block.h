#pragma once
// Read by nvcc too: nothing but a number.

#include <cstdint>

namespace trainyard::plan {

/// The gradient norm adds up blocks of so many consecutive elements of the unsharded tensor (docs/numerics.md). Shards over data ranks
/// are cut between them.
inline constexpr std::int64_t kNormBlock = 4096;

}  // namespace trainyard::plan
