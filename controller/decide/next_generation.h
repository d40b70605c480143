#pragma once
// The gang's next generation.

#include <cstdint>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// Above the status's, and such that no pod has one of its names yet, also none of a deleted job of the same name.
std::int64_t next_generation(const Cluster& cluster, const Job& job);

}  // namespace trainyard::decide
