#pragma once
// A random-looking order of [0, size) without a table: sample n is looked up in constant time and memory, by any rank, at any point
// of an epoch. Formula: a balanced Feistel network over the next even number of bits, walked along its cycle until it falls into the
// range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).

#include <cstdint>

namespace trainyard::data {

/// Mixes all bits of `value` into all bits of the result (the finalizer of SplitMix64, Steele, Lea and Flood 2014).
std::uint64_t mix(std::uint64_t value);

class Permutation {
 public:
  /// `size` at least 1; equal keys give equal orders.
  Permutation(std::int64_t size, std::uint64_t key);
  /// A bijection on [0, size): at most 4 walks are expected.
  std::int64_t operator()(std::int64_t index) const;

 private:
  std::uint64_t encrypt(std::uint64_t value) const;

  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

}  // namespace trainyard::data
