#pragma once

#include <cstdint>

namespace trainyard::plan {

/// Whole steps that `amount` takes at `a_step` each, rounded up; none where nothing is left.
inline std::int64_t steps_for(std::int64_t amount, std::int64_t a_step) {
  return amount <= 0 ? 0 : amount / a_step + (amount % a_step != 0 ? 1 : 0);
}

}  // namespace trainyard::plan
