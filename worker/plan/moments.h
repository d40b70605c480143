#pragma once
// AdamW's two moments as they are kept between steps (precision.optimizerStates): their bytes, and with Blockwise8Bit where their blocks
// lie and how they are coded.
//
// Blocks lie by the place in the unsharded tensor, within its rows: columns 0 to 255, 256 to 511, and so on. Where tensor parallelism cuts
// columns (the inputs of o_proj and down_proj), they begin anew wherever it may cut: with g the greatest common divisor of columns and
// key-value heads, at each g-th part of a row. So each rank of each layout has whole blocks, and computes the same bits; and any layout
// reads what any other wrote.

#include <cstdint>
#include <span>

#include "crds/contract/job.h"
#include "worker/plan/dynamic_code.h"
#include "worker/plan/parameters.h"

namespace trainyard::plan {

/// Tensors with fewer numbers, and those of one dimension (norms), keep moments in FP32, as the small ones of bitsandbytes
/// (min_8bit_size) and torchao do: there is little to win.
inline constexpr std::int64_t kLeastCoded = 4096;

/// With Blockwise8Bit: each so many numbers of the tensor, and of the box of it that a rank has, are cut into blocks by themselves. 256
/// where the parts of rows divide by it: then blocks are just 256 consecutive numbers. 0: the moments stay in FP32.
std::int64_t moment_segment(const contract::ModelSize& size, const Parameter& parameter);

/// The box of the scales [rows, blocks of a row] that belongs to a box of the codes; of a whole tensor, the whole.
Box scales_of(const Box& codes, std::int64_t segment);

/// Of both moments of a box of some sizes: 8 bytes a number, in BF16 4, in 8 bits 2 and two scales of 4 a block.
std::int64_t moment_bytes(const contract::TrainingJobSpec& spec, const Parameter& parameter,
                          const std::vector<std::int64_t>& sizes);

/// The table of first moments, which have a sign, or of second ones. It lives as long as the program.
const DynamicTable& moment_table(bool is_signed);

/// Whole segments of numbers, one behind the other: a code each, and a scale a block. Of a block of zeros scale and values are 0.
void encode(const DynamicTable& table, std::int64_t segment, std::span<const float> numbers, std::span<std::uint8_t> codes,
            std::span<float> scales);
/// The codes' values times their scale, rounded to FP32.
void decode(const DynamicTable& table, std::int64_t segment, std::span<const std::uint8_t> codes, std::span<const float> scales,
            std::span<float> numbers);

}  // namespace trainyard::plan
