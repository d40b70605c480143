#include "worker/plan/deal.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace trainyard::plan {

std::vector<std::int32_t> deal_by_size(const std::vector<std::int64_t>& sizes, std::int32_t players) {
  if (players < 1) throw std::invalid_argument("somebody must be there to deal to");
  std::vector<std::size_t> largest_first(sizes.size());
  std::iota(largest_first.begin(), largest_first.end(), std::size_t{0});
  std::stable_sort(largest_first.begin(), largest_first.end(), [&](auto a, auto b) { return sizes[a] > sizes[b]; });
  std::vector<std::int64_t> has(static_cast<std::size_t>(players), 0);
  std::vector<std::int32_t> gets(sizes.size(), 0);
  for (const std::size_t thing : largest_first) {
    const auto least = std::min_element(has.begin(), has.end());
    *least += sizes[thing];
    gets[thing] = static_cast<std::int32_t>(least - has.begin());
  }
  return gets;
}

}  // namespace trainyard::plan
