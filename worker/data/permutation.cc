#include "worker/data/permutation.h"

#include <bit>
#include <stdexcept>

namespace trainyard::data {

namespace {
constexpr int kRounds = 6;  // four are enough for a random-looking order; two more for the tiny domains of small corpora
}

std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

Permutation::Permutation(std::int64_t size, std::uint64_t key) : size_(static_cast<std::uint64_t>(size)), key_(key) {
  if (size < 1) throw std::invalid_argument("a permutation needs at least one element");
  half_bits_ = (std::bit_width(size_ - 1) + 1) / 2;
  if (half_bits_ < 1) half_bits_ = 1;
}

std::int64_t Permutation::operator()(std::int64_t index) const {
  auto value = static_cast<std::uint64_t>(index);
  if (value >= size_) throw std::invalid_argument("index outside the permutation");
  do {
    value = encrypt(value);
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

std::uint64_t Permutation::encrypt(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t next = left ^ (mix(key_ ^ mix(right * kRounds + round)) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

}  // namespace trainyard::data
