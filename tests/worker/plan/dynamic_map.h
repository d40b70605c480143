#pragma once
// A second implementation of the 8-bit codes of worker/plan/dynamic_code.h, from the words of arXiv:2110.02861 and by search.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace trainyard::test {

/// The 256 values, in their order.
inline std::vector<float> dynamic_map(bool is_signed) {
  std::vector<double> values{0, 1};
  for (int decade = 0; decade < 7; ++decade) {
    const int n = (is_signed ? 1 : 2) * static_cast<int>(std::pow(2, decade));
    for (int i = 0; i < n; ++i) {
      const double left = 0.1 + 0.9 * i / n, right = 0.1 + 0.9 * (i + 1) / n;
      const double value = std::pow(10.0, decade - 6) * (left + right) / 2;
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  return {values.begin(), values.end()};
}

/// The code of the nearest value; of two equally near ones the lower.
inline std::uint8_t nearest_code(const std::vector<float>& map, float number) {
  std::size_t best = 0;
  for (std::size_t code = 1; code < map.size(); ++code) {
    // Exact in FP64: all have few bits, and no two are more than 2^25 apart in size.
    if (std::abs(double{map[code]} - double{number}) < std::abs(double{map[best]} - double{number})) best = code;
  }
  return static_cast<std::uint8_t>(best);
}

struct Coded {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

/// Rows of `columns` numbers, blocks of 256 in each.
inline Coded coded(const std::vector<float>& map, std::span<const float> numbers, std::size_t columns) {
  Coded out;
  for (std::size_t row = 0; row < numbers.size(); row += columns) {
    for (std::size_t first = 0; first < columns; first += 256) {
      const auto block = numbers.subspan(row + first, std::min<std::size_t>(256, columns - first));
      float scale = 0;
      for (const float number : block) scale = std::max(scale, std::abs(number));
      out.scales.push_back(scale);
      for (const float number : block) out.codes.push_back(nearest_code(map, scale > 0 ? number / scale : 0));
    }
  }
  return out;
}

}  // namespace trainyard::test
