#pragma once
// Codes of 8 bits for numbers of which few are large and many small, as an optimizer's moments are: seven decades, the largest with most
// codes. A block of numbers has one scale, the largest size among them; each number becomes the code whose value, times the scale, is
// nearest.
//
// With e = 0 … 6 a decade, and n = 2^e codes in it where numbers have a sign, or 2^(e+1) where they have none: the values are the middles
// of n equal parts of [0.1, 1], times 10^(e − 6), with a sign these and their negatives, and 0 and 1. Code c is the c-th from below.
// Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861, sections 2.1 and 2.2, whose library
// (bitsandbytes, create_dynamic_map) has the same values; torchao takes them too.
//
// Read by nvcc too, as C++17, and without LibTorch.

#include <cstdint>

namespace trainyard::plan {

/// Numbers that share a scale, at the most.
inline constexpr std::int64_t kCodedBlock = 256;
/// Of a segment: numbers that follow each other, cut into blocks of kCodedBlock and a last one of what is left.
constexpr std::int64_t blocks_of_segment(std::int64_t segment) { return (segment + kCodedBlock - 1) / kCodedBlock; }

/// Sizes from 2^-23 to 1 fall into buckets, by exponent and seven bits of mantissa; smaller ones into the first.
inline constexpr int kCodeOctaves = 23;
inline constexpr int kCodeBuckets = kCodeOctaves * 128 + 1;

struct DynamicTable {
  float values[256] = {};  // by code, ascending
  float upto[256] = {};    // the largest FP32 number that has the code: halfway between two values the lower one has it
  /// By sign and bucket: the code of its least number. No bucket has more than two codes.
  std::uint8_t least[2][kCodeBuckets] = {};
  std::uint8_t zero = 0;  // the code of 0
};

namespace dynamic_code {

/// Value j of the n in decade e. The quotient of two whole numbers: rounded once to FP64.
constexpr double value_of(int e, int n, int j) {
  double divisor = 20.0 * n;
  for (int i = e; i < 6; ++i) divisor *= 10.0;
  return (2.0 * n + 9.0 * (2 * j + 1)) / divisor;
}

/// The largest FP32 number that is not above x, which is not zero.
constexpr float rounded_down(double x) {
  const auto nearest = static_cast<float>(x);
  if (static_cast<double>(nearest) <= x) return nearest;
  constexpr double kJustOverHalf = 0x1.0002p-24;  // of a unit in the last place, or up to twice as much
  return static_cast<float>(nearest * (x > 0 ? 1.0 - kJustOverHalf : 1.0 + kJustOverHalf));
}

/// The least size in a bucket, but for the first, which goes down to 0.
constexpr double bottom_of(int bucket) {
  double size = 1.0 + bucket % 128 / 128.0;
  for (int octave = bucket / 128; octave < kCodeOctaves; ++octave) size /= 2;
  return size;
}

}  // namespace dynamic_code

constexpr DynamicTable dynamic_table(bool is_signed) {
  DynamicTable table;
  int code = 0;
  if (is_signed) {
    for (int e = 6; e >= 0; --e) {
      for (int j = (1 << e) - 1; j >= 0; --j) table.values[code++] = static_cast<float>(-dynamic_code::value_of(e, 1 << e, j));
    }
  }
  table.zero = static_cast<std::uint8_t>(code);
  table.values[code++] = 0;
  for (int e = 0; e <= 6; ++e) {
    const int n = is_signed ? 1 << e : 2 << e;
    for (int j = 0; j < n; ++j) table.values[code++] = static_cast<float>(dynamic_code::value_of(e, n, j));
  }
  table.values[code] = 1;
  for (int c = 0; c < 255; ++c) {
    table.upto[c] =
        dynamic_code::rounded_down((static_cast<double>(table.values[c]) + static_cast<double>(table.values[c + 1])) / 2);
  }
  table.upto[255] = 3.0e38F;
  int positive = table.zero, negative = 255;
  for (int bucket = 0; bucket < kCodeBuckets; ++bucket) {
    const double bottom = bucket == 0 ? 0.0 : dynamic_code::bottom_of(bucket), top = dynamic_code::bottom_of(bucket + 1);
    while (static_cast<double>(table.upto[positive]) < bottom) ++positive;
    while (negative > 0 && static_cast<double>(table.upto[negative - 1]) > -top) --negative;
    table.least[0][bucket] = static_cast<std::uint8_t>(positive);
    table.least[1][bucket] = static_cast<std::uint8_t>(negative);
  }
  return table;
}

/// The code of a number of size 1 at the most, whose bits in FP32 are `bits`. What is no number gets that of the largest.
constexpr std::uint8_t code_of(const DynamicTable& table, float number, std::uint32_t bits) {
  constexpr std::uint32_t kFirst = (127 - kCodeOctaves) * 128, kLast = 127 * 128;
  std::uint32_t size = (bits & 0x7fffffffU) >> 16;
  if (size < kFirst) size = kFirst;
  if (size > kLast) size = kLast;
  const std::uint8_t least = table.least[bits >> 31][size - kFirst];
  return static_cast<std::uint8_t>(least + (number > table.upto[least] ? 1 : 0));
}

}  // namespace trainyard::plan
