#include "worker/plan/moments.h"

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "tests/worker/plan/dynamic_map.h"
#include "tests/worker/plan/llama3_8b.h"
#include "worker/plan/cost.h"

namespace trainyard::plan {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_numbers(std::size_t count, bool is_signed, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers;
  for (std::size_t i = 0; i < count; ++i) {
    const float size = normal(random) * std::exp(3 * normal(random));  // over many decades
    numbers.push_back(is_signed ? size : size * size);
  }
  return numbers;
}

struct Encoded {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};
Encoded encoded(bool is_signed, std::int64_t segment, std::span<const float> numbers) {
  const auto blocks = std::ssize(numbers) / segment * blocks_of_segment(segment);
  Encoded out{.codes = std::vector<std::uint8_t>(numbers.size()), .scales = std::vector<float>(static_cast<std::size_t>(blocks))};
  encode(moment_table(is_signed), segment, numbers, out.codes, out.scales);
  return out;
}

std::uint8_t code_of_number(bool is_signed, float number) {
  const std::vector<float> numbers{number, 1.0F};
  return encoded(is_signed, 2, numbers).codes[0];
}

TEST(DynamicCode, HasTheValuesOfThePaper) {
  for (const bool is_signed : {false, true}) {
    const auto map = test::dynamic_map(is_signed);
    ASSERT_EQ(map.size(), 256U);
    for (std::size_t code = 0; code < 256; ++code) EXPECT_EQ(moment_table(is_signed).values[code], map[code]) << code;
    EXPECT_EQ(moment_table(is_signed).values[moment_table(is_signed).zero], 0);
  }
  // As bitsandbytes prints them.
  EXPECT_FLOAT_EQ(moment_table(true).values[0], -0.99296875F);
  EXPECT_FLOAT_EQ(moment_table(true).values[128], 5.5e-7F);
  EXPECT_FLOAT_EQ(moment_table(false).values[1], 3.25e-7F);
  EXPECT_FLOAT_EQ(moment_table(false).values[254], 0.996484375F);
}

TEST(DynamicCode, OfANumberIsThatOfTheNearestValue) {
  for (const bool is_signed : {false, true}) {
    const auto map = test::dynamic_map(is_signed);
    std::vector<float> numbers{0.0F, 1.0F, 1e-30F, std::numeric_limits<float>::denorm_min()};
    for (std::size_t code = 0; code + 1 < map.size(); ++code) {
      const auto halfway = static_cast<float>((double{map[code]} + double{map[code + 1]}) / 2);
      for (const float number : {map[code], halfway, std::nextafter(halfway, -kInfinity), std::nextafter(halfway, kInfinity)}) {
        numbers.push_back(number);
      }
    }
    std::mt19937 random(7);
    std::uniform_real_distribution<float> exponent(-8, 0);
    for (int i = 0; i < 20'000; ++i) numbers.push_back(std::pow(10.0F, exponent(random)));
    const auto count = numbers.size();
    for (std::size_t i = 0; is_signed && i < count; ++i) numbers.push_back(-numbers[i]);
    for (const float number : numbers) {
      EXPECT_EQ(code_of_number(is_signed, number), test::nearest_code(map, number)) << number << (is_signed ? " signed" : "");
    }
  }
}

TEST(DynamicCode, OfBlocksIsThatOfASecondImplementation) {
  for (const bool is_signed : {false, true}) {
    for (const std::int64_t segment : {1, 48, 256, 257, 344, 600}) {
      const auto numbers = random_numbers(static_cast<std::size_t>(5 * segment), is_signed, static_cast<std::uint32_t>(segment));
      const auto found = encoded(is_signed, segment, numbers);
      const auto wanted = test::coded(test::dynamic_map(is_signed), numbers, static_cast<std::size_t>(segment));
      EXPECT_EQ(found.codes, wanted.codes) << segment;
      EXPECT_EQ(found.scales, wanted.scales) << segment;
    }
  }
}

/// Half the distance of two values, which at the top is 0.9/64 of the block's largest with a sign and 0.9/128 without, and for numbers
/// a tenth as large a fifth of that.
TEST(DynamicCode, IsOffByHalfTheDistanceOfTwoValuesAtTheMost) {
  for (const bool is_signed : {false, true}) {
    const auto numbers = random_numbers(256 * 64, is_signed, 3);
    const auto coded = encoded(is_signed, 256, numbers);
    std::vector<float> back(numbers.size());
    decode(moment_table(is_signed), 256, coded.codes, coded.scales, back);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const double size = std::abs(numbers[i]), largest = coded.scales[i / 256],
                   off = std::abs(double{back[i]} - numbers[i]) / largest;
      EXPECT_LE(off, is_signed ? 0.00704 : 0.00353);
      if (size < 0.09 * largest) {
        EXPECT_LE(off, is_signed ? 0.00143 : 0.00072) << size / largest;
      }
      if (size < 0.009 * largest) {
        EXPECT_LE(off, is_signed ? 0.00031 : 0.00015) << size / largest;
      }
    }
  }
}

TEST(DynamicCode, OfZerosIsZeroAndOfWhatIsNoNumberNoNumber) {
  std::vector<float> numbers(256, 0.0F), back(256);
  for (const bool is_signed : {false, true}) {
    auto coded = encoded(is_signed, 256, numbers);
    EXPECT_EQ(coded.codes, std::vector<std::uint8_t>(256, moment_table(is_signed).zero));
    decode(moment_table(is_signed), 256, coded.codes, coded.scales, back);
    EXPECT_EQ(back, numbers);
    for (const float bad : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      auto spoilt = numbers;
      spoilt[17] = bad;
      coded = encoded(is_signed, 256, spoilt);
      decode(moment_table(is_signed), 256, coded.codes, coded.scales, back);
      EXPECT_FALSE(std::isfinite(back[17]));
    }
  }
}

/// Sizes in which tensor parallelism cuts rows elsewhere than at multiples of 256.
std::vector<contract::ModelSize> sizes() {
  return {llama3_8b(),
          {.layers = 2, .hiddenSize = 96, .heads = 4, .keyValueHeads = 2, .feedForwardSize = 200, .vocabularySize = 161},
          {.layers = 2, .hiddenSize = 4096, .heads = 32, .keyValueHeads = {}, .feedForwardSize = 11008, .vocabularySize = 32000},
          {.layers = 2, .hiddenSize = 3584, .heads = 28, .keyValueHeads = 4, .feedForwardSize = 18944, .vocabularySize = 152064}};
}

const Parameter& named(const std::vector<Parameter>& all, const std::string& name) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Parameter& each) { return each.name == name; });
  EXPECT_NE(found, all.end()) << name;
  return *found;
}

TEST(MomentSegment, IsABlockWhereRowsDivideByIt) {
  const auto all = llama_parameters(llama3_8b(), split_layers(llama3_8b(), 1));
  for (const auto& parameter : all) {
    EXPECT_EQ(moment_segment(llama3_8b(), parameter), parameter.shape.size() == 2 ? 256 : 0) << parameter.name;
  }
}

TEST(MomentSegment, OfSmallTensorsAndNormsIsNoneSinceTheyStayInFp32) {
  auto size = sizes()[1];
  size.hiddenSize = 64;
  const auto all = llama_parameters(size, split_layers(size, 1));
  EXPECT_EQ(moment_segment(size, named(all, "model.layers.0.self_attn.k_proj.weight")), 0) << "32 x 64";
  EXPECT_EQ(moment_segment(size, named(all, "model.layers.0.self_attn.q_proj.weight")), 64) << "64 x 64";
  EXPECT_EQ(moment_segment(size, named(all, "model.norm.weight")), 0);
}

/// In every layout a rank's box is whole segments, and a box of the scales is the blocks of that box alone.
TEST(MomentSegment, IsNeverCutByTensorParallelism) {
  for (const auto& size : sizes()) {
    for (const auto& parameter : llama_parameters(size, split_layers(size, 1))) {
      const std::int64_t segment = moment_segment(size, parameter);
      if (segment == 0) continue;
      const Box whole = scales_of(box_of(parameter, 1, 0), segment);
      EXPECT_GE(whole.sizes[1] * kCodedBlock, parameter.shape[1]) << parameter.name;
      for (std::int32_t tp = 1; tp <= key_value_heads(size); ++tp) {
        if (key_value_heads(size) % tp != 0 || size.heads % tp != 0 || size.feedForwardSize % tp != 0) continue;
        std::int64_t blocks = 0;
        for (std::int32_t rank = 0; rank < tp; ++rank) {
          const Box box = box_of(parameter, tp, rank), scales = scales_of(box, segment);
          EXPECT_EQ(box.offsets[1] % segment, 0) << parameter.name << " tp " << tp;
          EXPECT_EQ(box.sizes[1] % segment, 0) << parameter.name << " tp " << tp;
          EXPECT_EQ(scales.offsets[1], box.offsets[1] / segment * blocks_of_segment(segment));
          blocks += num_elements(scales.sizes);
        }
        EXPECT_EQ(blocks, num_elements(whole.sizes) * (parameter.split_dim ? 1 : tp)) << parameter.name << " tp " << tp;
      }
    }
  }
}

TEST(DynamicCode, OfAPartThatARankHasIsThePartOfTheWholesCodes) {
  constexpr std::int64_t kRows = 6, kColumns = 3 * 344, kSegment = 344;
  const auto numbers = random_numbers(kRows * kColumns, true, 5);
  const auto whole = encoded(true, kSegment, numbers);
  for (const Box& box : {Box{{2, 0}, {3, kColumns}}, Box{{0, 344}, {kRows, 688}}, Box{{5, 688}, {1, 344}}}) {
    const auto part_of = [&box](const auto& from, std::int64_t columns, const Box& at) {
      std::decay_t<decltype(from)> out;
      for (std::int64_t row = 0; row < at.sizes[0]; ++row) {
        const auto begin = from.begin() + (at.offsets[0] + row) * columns + at.offsets[1];
        out.insert(out.end(), begin, begin + at.sizes[1]);
      }
      return out;
    };
    const Box scales = scales_of(box, kSegment);
    const auto part = encoded(true, kSegment, part_of(numbers, kColumns, box));
    EXPECT_EQ(part.codes, part_of(whole.codes, kColumns, box));
    EXPECT_EQ(part.scales, part_of(whole.scales, 6, scales));
  }
}

TEST(MomentBytes, AreTwoAndAThirtySecondANumberInEightBits) {
  contract::TrainingJobSpec spec;
  spec.model.size = llama3_8b();
  const auto all = llama_parameters(llama3_8b(), split_layers(llama3_8b(), 1));
  const auto& matrix = named(all, "lm_head.weight");
  const auto& norm = named(all, "model.norm.weight");
  const std::int64_t count = num_elements(matrix.shape);
  const auto bytes = [&](contract::OptimizerStates states, const Parameter& parameter) {
    spec.training.precision.optimizerStates = states;
    return moment_bytes(spec, parameter, parameter.shape);
  };
  EXPECT_EQ(bytes(contract::OptimizerStates::kFP32, matrix), 8 * count);
  EXPECT_EQ(bytes(contract::OptimizerStates::kBF16, matrix), 4 * count);
  EXPECT_EQ(bytes(contract::OptimizerStates::kBlockwise8Bit, matrix), 2 * count + count / 32);
  EXPECT_EQ(bytes(contract::OptimizerStates::kBlockwise8Bit, norm), 8 * 4096);
}

}  // namespace
}  // namespace trainyard::plan
