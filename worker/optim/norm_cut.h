#pragma once
// Which elements of a tensor are on this rank, as plain numbers that a CUDA kernel can take.

#include <cstdint>

#include "worker/plan/norm_block.h"

namespace trainyard::optim {

using plan::kNormBlock;

/// Of every `row` consecutive elements of the unsharded tensor this rank has those from `begin` to `begin + width`, packed. A tensor
/// that is whole, or cut in its first dimension, is one row.
struct NormCut {
  std::int64_t elements = 0;  // of the unsharded tensor
  std::int64_t row = 0;
  std::int64_t begin = 0;
  std::int64_t width = 0;

  /// Where an element of the unsharded tensor lies on this rank; -1: on another rank, or behind the end.
  constexpr std::int64_t place_of(std::int64_t element) const {
    if (element >= elements) return -1;
    const std::int64_t row_number = element < row ? 0 : element / row;
    const std::int64_t in_row = element - row_number * row - begin;
    return in_row >= 0 && in_row < width ? row_number * width + in_row : -1;
  }

  constexpr std::int64_t num_blocks() const { return (elements + kNormBlock - 1) / kNormBlock; }
};

}  // namespace trainyard::optim
