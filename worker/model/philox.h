#pragma once
// Random words by number: the n-th is computed from n alone, so that any rank has it, at any time, in any layout. Plain arithmetic, for
// CPUs and CUDA kernels alike. Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

#include <cstdint>

namespace trainyard::model {

struct PhiloxWords {
  std::uint32_t at[4];
};

/// The four words with that number under `key`, of which every one is independent of the others and of those of all other numbers.
constexpr PhiloxWords philox(PhiloxWords number, std::uint64_t key) {
  auto low = static_cast<std::uint32_t>(key);
  auto high = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53u} * number.at[0], third = std::uint64_t{0xCD9E8D57u} * number.at[2];
    number = {{static_cast<std::uint32_t>(third >> 32) ^ number.at[1] ^ low, static_cast<std::uint32_t>(third),
               static_cast<std::uint32_t>(first >> 32) ^ number.at[3] ^ high, static_cast<std::uint32_t>(first)}};
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return number;
}

}  // namespace trainyard::model
