#include "worker/plan/moments.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

constexpr DynamicTable kSigned = dynamic_table(true), kUnsigned = dynamic_table(false);

/// That code_of(), which looks at two codes, finds the nearest.
constexpr bool has_two_codes_a_bucket(const DynamicTable& table) {
  for (int bucket = 0; bucket < kCodeBuckets; ++bucket) {
    const double bottom = bucket == 0 ? 0.0 : dynamic_code::bottom_of(bucket), top = dynamic_code::bottom_of(bucket + 1);
    const int after = table.least[0][bucket] + 1;
    if (after < 255 && static_cast<double>(table.upto[after]) < top) return false;
    const int negative_after = table.least[1][bucket] + 1;
    if (negative_after < 255 && static_cast<double>(table.upto[negative_after]) < -bottom) return false;
  }
  return true;
}
static_assert(has_two_codes_a_bucket(kSigned) && has_two_codes_a_bucket(kUnsigned));

/// Calls with the first number, the count and the place of each block.
template <class Do>
void for_each_block(std::int64_t segment, std::int64_t count, const Do& block) {
  std::size_t place = 0;
  for (std::int64_t first = 0; first < count; first += segment) {
    for (std::int64_t done = 0; done < segment; done += kCodedBlock) {
      block(static_cast<std::size_t>(first) + static_cast<std::size_t>(done),
            static_cast<std::size_t>(std::min(kCodedBlock, segment - done)), place++);
    }
  }
}

}  // namespace

const DynamicTable& moment_table(bool is_signed) { return is_signed ? kSigned : kUnsigned; }

std::int64_t moment_segment(const contract::ModelSize& size, const Parameter& parameter) {
  if (parameter.shape.size() != 2 || num_elements(parameter.shape) < kLeastCoded) return 0;
  const std::int64_t columns = parameter.shape[1];
  const bool is_cut = parameter.split_dim == 1;
  const std::int64_t part = is_cut ? columns / std::gcd(columns, std::int64_t{key_value_heads(size)}) : columns;
  return part % kCodedBlock == 0 ? kCodedBlock : part;
}

Box scales_of(const Box& codes, std::int64_t segment) {
  const std::int64_t blocks = blocks_of_segment(segment);
  return {.offsets = {codes.offsets[0], codes.offsets[1] / segment * blocks},
          .sizes = {codes.sizes[0], codes.sizes[1] / segment * blocks}};
}

std::int64_t moment_bytes(const contract::TrainingJobSpec& spec, const Parameter& parameter,
                          const std::vector<std::int64_t>& sizes) {
  const std::int64_t count = num_elements(sizes);
  switch (spec.training.precision.optimizerStates) {
    case contract::OptimizerStates::kFP32: break;
    case contract::OptimizerStates::kBF16: return 4 * count;
    case contract::OptimizerStates::kBlockwise8Bit: {
      const std::int64_t segment = moment_segment(spec.model.size.value(), parameter);
      if (segment > 0) return 2 * (count + 4 * (count / segment) * blocks_of_segment(segment));
    }
  }
  return 8 * count;
}

void encode(const DynamicTable& table, std::int64_t segment, std::span<const float> numbers, std::span<std::uint8_t> codes,
            std::span<float> scales) {
  for_each_block(segment, std::ssize(numbers), [&](std::size_t first, std::size_t count, std::size_t place) {
    const auto block = numbers.subspan(first, count);
    std::uint32_t largest = 0;  // as bits, whose order is that of sizes, with what is no number above all
    for (const float number : block) largest = std::max(largest, std::bit_cast<std::uint32_t>(number) & 0x7fffffffU);
    const auto scale = std::bit_cast<float>(largest);
    scales[place] = scale;
    for (std::size_t i = 0; i < count; ++i) {
      const float part = scale == 0 ? 0 : block[i] / scale;
      codes[first + i] = code_of(table, part, std::bit_cast<std::uint32_t>(part));
    }
  });
}

void decode(const DynamicTable& table, std::int64_t segment, std::span<const std::uint8_t> codes, std::span<const float> scales,
            std::span<float> numbers) {
  for_each_block(segment, std::ssize(codes), [&](std::size_t first, std::size_t count, std::size_t place) {
    for (std::size_t i = first; i < first + count; ++i) numbers[i] = table.values[codes[i]] * scales[place];
  });
}

}  // namespace trainyard::plan
