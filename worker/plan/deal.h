#pragma once
// Things of different sizes, dealt out so that nobody has much more than another.

#include <cstdint>
#include <vector>

namespace trainyard::plan {

/// For each thing who gets it, of `players`: the largest first, each to the one who has the least so far, of equals to the lowest.
std::vector<std::int32_t> deal_by_size(const std::vector<std::int64_t>& sizes, std::int32_t players);

}  // namespace trainyard::plan
