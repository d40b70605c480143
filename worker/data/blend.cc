#include "worker/data/blend.h"

#include <cmath>
#include <numeric>
#include <stdexcept>

namespace trainyard::data {

namespace {
// Windows are compared exactly, in whole numbers: a product of a sample number and a share needs more than 64 bits.
__extension__ typedef unsigned __int128 Wide;
constexpr double kShareUnits = 4294967296.0;  // 2^32: weights keep 9 digits
}  // namespace

Blend::Blend(const std::vector<double>& weights) {
  if (weights.empty()) throw std::invalid_argument("a blend needs at least one source");
  for (const double weight : weights) {
    if (!std::isfinite(weight) || weight <= 0) throw std::invalid_argument("a source's weight must be finite and above 0");
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const double weight : weights) {
    shares_.push_back(static_cast<std::uint64_t>(std::max(1.0, std::round(weight / sum * kShareUnits))));
  }
  total_ = std::accumulate(shares_.begin(), shares_.end(), std::uint64_t{0});
}

std::int32_t Blend::next(const std::vector<std::int64_t>& consumed) const {
  if (consumed.size() != shares_.size()) throw std::invalid_argument("a count for each source of the blend is needed");
  const auto taken = static_cast<std::uint64_t>(std::accumulate(consumed.begin(), consumed.end(), std::int64_t{0}));
  std::size_t best = 0;
  Wide best_end = 0;
  bool best_open = false;
  for (std::size_t s = 0; s < shares_.size(); ++s) {
    const auto sample = static_cast<std::uint64_t>(consumed[s]);
    const bool open = Wide{sample} * total_ / shares_[s] <= taken;
    const Wide end = (Wide{sample + 1} * total_ + shares_[s] - 1) / shares_[s];
    // Some window is always open, by the counts' definition; were counts given that no blend reaches, the earliest end still is right.
    if (s == 0 || (open && !best_open) || (open == best_open && end < best_end)) {
      best = s;
      best_end = end;
      best_open = open;
    }
  }
  return static_cast<std::int32_t>(best);
}

}  // namespace trainyard::data
