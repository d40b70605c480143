#pragma once
// Which source the next sample comes from, so that every prefix of the stream holds each source's share of it.

#include <cstdint>
#include <vector>

namespace trainyard::data {

/// Deterministic, and resumable from the counts alone.
class Blend {
 public:
  /// Relative weights, each finite and above 0; at least one.
  explicit Blend(const std::vector<double>& weights);

  /// The source of the next sample, when `consumed[s]` samples were taken of source s so far. Followed from zero, each count differs
  /// from its exact share of the samples so far by less than 1: the source's j-th sample has the window [floor(j/w), ceil((j+1)/w)) to
  /// be taken in, and the one whose window ends first is taken. Source: Baruah and others, "Proportionate progress" (Algorithmica 1996).
  std::int32_t next(const std::vector<std::int64_t>& consumed) const;

 private:
  std::vector<std::uint64_t> shares_;  // of total_
  std::uint64_t total_ = 0;
};

}  // namespace trainyard::data
