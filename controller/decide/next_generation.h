#pragma once
// The gang's next generation.

#include <cstdint>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// Above the status's, and such that no pod has one of its names yet, also none of a deleted job of the same name.
std::int64_t next_generation(const Cluster& cluster, const Job& job);

/// Puts it into the status, with what its engines take of the spec as it is now. The gang's size is there already. Of status.resize only a
/// size that is not to be tried again for a while outlives it.
void begin_generation(Review& review);

}  // namespace trainyard::decide
