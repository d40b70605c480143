#pragma once
// Few combinations of many choices that hold every pair of two choices (a pairwise covering array; Cohen et al., "The AETG system", IEEE TSE 1997).

#include <algorithm>
#include <cstddef>
#include <map>
#include <tuple>
#include <vector>

namespace trainyard::trainer {

/// One value for each of the factors, always in the same order.
using Combination = std::vector<int>;

/// Of `all` so many that each pair of values which some of them has is in one that is chosen; the one with the most new pairs is next, of equals
/// the first. Always the same for the same `all`.
inline std::vector<Combination> covering_set(const std::vector<Combination>& all) {
  std::map<std::tuple<std::size_t, int, std::size_t, int>, std::size_t> numbers;
  std::vector<std::vector<std::size_t>> pairs;  // of each combination, by number
  for (const auto& values : all) {
    auto& mine = pairs.emplace_back();
    for (std::size_t a = 0; a < values.size(); ++a) {
      for (std::size_t b = a + 1; b < values.size(); ++b) {
        mine.push_back(numbers.try_emplace({a, values[a], b, values[b]}, numbers.size()).first->second);
      }
    }
  }
  std::vector<bool> is_covered(numbers.size());
  std::vector<Combination> chosen;
  for (std::size_t num_covered = 0; num_covered < numbers.size();) {
    std::size_t best = 0;
    std::ptrdiff_t most = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto is_new = std::count_if(pairs[i].begin(), pairs[i].end(), [&](std::size_t pair) { return !is_covered[pair]; });
      if (is_new > most) std::tie(best, most) = std::pair(i, is_new);
    }
    for (const auto pair : pairs[best]) is_covered[pair] = true;
    num_covered += static_cast<std::size_t>(most);
    chosen.push_back(all[best]);
  }
  return chosen;
}

}  // namespace trainyard::trainer
