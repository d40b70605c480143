#include "worker/model/fp8.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/worker/model/difference.h"

namespace trainyard::model {
namespace {

using contract::Fp8Recipe;

/// The value of an E4M3 code, from the format's definition.
double value_of(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa / 8.0, -6) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
  return code & 128 ? -magnitude : magnitude;
}

/// The nearest code, of two the even one; beyond the largest the largest.
int code_of(double value) {
  int best = 0;
  for (int code = 0; code < 127; ++code) {  // 127 is NaN
    const double better = std::abs(std::abs(value) - value_of(best)), now = std::abs(std::abs(value) - value_of(code));
    if (now < better || (now == better && code % 2 == 0)) best = code;
  }
  return std::signbit(value) ? best | 128 : best;
}

at::Tensor codes(const Fp8Matrix& x) { return x.values_RK.view(at::kByte); }

/// By plain loops: blocks of so many rows and columns.
void expect_right(const at::Tensor& x_RK, Fp8Blocks blocks, std::int64_t block_rows, std::int64_t block_columns) {
  const auto found = to_fp8(x_RK, blocks);
  const std::int64_t across = (x_RK.size(1) + block_columns - 1) / block_columns;
  const at::Tensor found_codes = codes(found);
  for (std::int64_t i = 0; i < x_RK.size(0); ++i) {
    for (std::int64_t j = 0; j < x_RK.size(1); ++j) {
      float most = 0;
      const std::int64_t top = i / block_rows * block_rows, left = j / block_columns * block_columns;
      for (std::int64_t r = top; r < std::min(top + block_rows, x_RK.size(0)); ++r) {
        for (std::int64_t c = left; c < std::min(left + block_columns, x_RK.size(1)); ++c)
          most = std::max(most, std::abs(x_RK[r][c].item<float>()));
      }
      const float scale = std::max(most, 1e-4F) / 448.0F;
      ASSERT_EQ(found.scales[i / block_rows][j / block_columns].item<float>(), scale) << i << ' ' << j;
      const float scaled = std::clamp(x_RK[i][j].item<float>() / scale, -448.0F, 448.0F);
      ASSERT_EQ(found_codes[i][j].item<int>(), code_of(scaled)) << i << ' ' << j << " across " << across;
    }
  }
}

TEST(ToFp8, IsTheFormatsNearestNumberToTheBitForEveryCodeAndBetweenThem) {
  std::vector<float> values;
  for (int code = 0; code < 126; ++code) {
    const auto low = static_cast<float>(value_of(code)), high = static_cast<float>(value_of(code + 1)), middle = (low + high) / 2;
    for (const float value : {low, std::nextafter(middle, 0.0F), middle, std::nextafter(middle, 1e9F)}) {
      values.push_back(value);
      values.push_back(-value);
    }
  }
  values.push_back(448);  // so that the scale is 1
  const at::Tensor x = at::tensor(values).unsqueeze(0);
  const auto found = to_fp8(x, Fp8Blocks::kTensor);
  EXPECT_EQ(found.scales.item<float>(), 1.0F);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(codes(found)[0][static_cast<std::int64_t>(i)].item<int>(), code_of(values[i])) << values[i];
  }
}

TEST(ToFp8, ScalesEachBlockByItsLargestNumber) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({6, 40}) * at::randn({6, 40}).exp();
  expect_right(x, Fp8Blocks::kTensor, 6, 40);
  expect_right(x, Fp8Blocks::kRow, 1, 40);
  expect_right(at::randn({3, 300}), Fp8Blocks::k1x128, 1, 128);
}

TEST(ToFp8, HasWholeAndBrokenBlocksOf128) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({200, 130});
  const auto found = to_fp8(x, Fp8Blocks::k128x128);
  EXPECT_EQ(found.scales.sizes(), (at::IntArrayRef{2, 2}));
  EXPECT_EQ(found.scales[0][0].item<float>(), x.narrow(0, 0, 128).narrow(1, 0, 128).abs().max().item<float>() / 448.0F);
  EXPECT_EQ(found.scales[1][1].item<float>(), x.narrow(0, 128, 72).narrow(1, 128, 2).abs().max().item<float>() / 448.0F);
  EXPECT_LT((from_fp8(found) - x).abs().max().item<float>(), x.abs().max().item<float>() / 16) << "half a step of 2^-3";
}

TEST(ToFp8, OfZerosIsZerosAndOfWhatIsNoNumberIsNone) {
  EXPECT_TRUE(at::equal(from_fp8(to_fp8(at::zeros({4, 4}), Fp8Blocks::kTensor)), at::zeros({4, 4})));
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    at::Tensor x = at::ones({4, 4});
    x[1][2] = bad;
    EXPECT_FALSE(at::isfinite(from_fp8(to_fp8(x, Fp8Blocks::kTensor))).all().item<bool>());
    const at::Tensor by_row = at::isfinite(from_fp8(to_fp8(x, Fp8Blocks::kRow))).all(1);
    EXPECT_FALSE(by_row[1].item<bool>());
    EXPECT_TRUE(by_row[0].item<bool>());
  }
}

/// By operations in FP32, each step of its own.
Fp8Matrix step_by_step(const at::Tensor& x_RK, Fp8Blocks blocks) {
  const at::Tensor x = x_RK.to(at::kFloat);
  const at::Tensor scales = blocks == Fp8Blocks::kTensor ? x.abs().max().reshape({1, 1}) : x.abs().amax({1}, /*keepdim=*/true);
  const at::Tensor divisors = scales.clamp_min(1e-4).div(at::full({1}, 448.0));
  return {
      .values_RK = x.div(divisors).clamp(-448, 448).to(at::kFloat8_e4m3fn).contiguous(), .scales = divisors, .blocks = blocks};
}

/// The largest of a block may lie an ulp beyond 448 when it is divided by its scale.
TEST(ToFp8, IsWhatItIsStepByStepInFp32OfNumbersOfEveryFormatAndSize) {
  const at::Tensor every_bf16 =
      at::arange(0x7F80, at::kShort).view(at::kBFloat16).unsqueeze(1);  // that is finite, and not negative
  at::manual_seed(5);
  const at::Tensor random = at::randn({300, 70}) * at::randn({300, 1}).mul(4).exp();
  for (const auto& x : {every_bf16, -every_bf16, random, random.to(at::kBFloat16), random.to(at::kHalf), random.t(),
                        random.to(at::kBFloat16).t(), every_bf16.to(at::kFloat).mul(1.0001)}) {
    for (const auto blocks : {Fp8Blocks::kTensor, Fp8Blocks::kRow}) {
      const auto found = to_fp8(x, blocks), expected = step_by_step(x, blocks);
      EXPECT_EQ(found.scales.scalar_type(), at::kFloat);
      EXPECT_TRUE(at::equal(found.scales, expected.scales)) << x.scalar_type();
      EXPECT_TRUE(at::equal(codes(found), codes(expected))) << x.scalar_type();
    }
  }
  EXPECT_EQ(codes(to_fp8(every_bf16, Fp8Blocks::kRow)).max().item<int>(), 126) << "448, and nowhere NaN";
}

TEST(ToFp8, OfATransposeIsTheTransposeWhereScalesAreTheSame) {
  at::manual_seed(6);
  const at::Tensor x = at::randn({200, 260}).to(at::kBFloat16);
  for (const auto blocks : {Fp8Blocks::kTensor, Fp8Blocks::k128x128}) {
    const auto found = transposed(to_fp8(x, blocks)), expected = to_fp8(x.t(), blocks);
    EXPECT_TRUE(found.values_RK.is_contiguous());
    EXPECT_TRUE(at::equal(codes(found), codes(expected)));
    EXPECT_TRUE(at::equal(found.scales, expected.scales));
  }
  for (const auto blocks : {Fp8Blocks::kRow, Fp8Blocks::k1x128}) EXPECT_ANY_THROW(transposed(to_fp8(x, blocks)));
}

TEST(Fp8Linear, IsNearTheLinearLayerForwardAndBackward) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({2, 128, 256}).requires_grad_(), weight = (at::randn({384, 256}) * 0.02).requires_grad_();
  const at::Tensor gradient = at::randn({2, 128, 384}) * 1e-3;
  const at::Tensor exact = at::linear(x, weight);
  const auto wanted = torch::autograd::grad({exact}, {x, weight}, {gradient});
  for (const auto recipe : {Fp8Recipe::kTensorwise, Fp8Recipe::kRowwise, Fp8Recipe::kBlockwise}) {
    const at::Tensor out = fp8_linear(x, {weight}, recipe)[0];
    const auto found = torch::autograd::grad({out}, {x, weight}, {gradient});
    for (const double far : {difference(out, exact), difference(found[0], wanted[0]), difference(found[1], wanted[1])}) {
      EXPECT_LT(far, 1.5e-3) << contract::name_of(recipe);
      EXPECT_GT(far, 1e-6) << "8 bits are no 32";
    }
  }
}

/// What it gave of three weights of different sizes, and their gradients with that of x.
struct Several {
  explicit Several(const std::function<std::vector<at::Tensor>(const at::Tensor&, const std::vector<at::Tensor>&)>& multiply) {
    at::manual_seed(7);
    const at::Tensor x = at::randn({2, 64, 256}).to(at::kBFloat16).requires_grad_();
    std::vector<at::Tensor> weights, gradients, leaves{x};
    for (const std::int64_t rows : {256, 128, 384}) {
      weights.push_back((at::randn({rows, 256}) * 0.02).to(at::kBFloat16).requires_grad_());
      gradients.push_back(at::randn({2, 64, rows}).to(at::kBFloat16));
      leaves.push_back(weights.back());
    }
    all = multiply(x, weights);
    const auto of_leaves = torch::autograd::grad(all, leaves, gradients);
    all.insert(all.end(), of_leaves.begin(), of_leaves.end());
  }
  std::vector<at::Tensor> all;
};

TEST(Fp8Linear, OfSeveralWeightsHasTheBitsOfACallForEach) {
  for (const auto recipe : {Fp8Recipe::kTensorwise, Fp8Recipe::kRowwise, Fp8Recipe::kBlockwise}) {
    const Several at_once(
        [&](const at::Tensor& x, const std::vector<at::Tensor>& weights) { return fp8_linear(x, weights, recipe); });
    const Several alone([&](const at::Tensor& x, const std::vector<at::Tensor>& weights) {
      std::vector<at::Tensor> out;
      for (const auto& weight : weights) out.push_back(fp8_linear(x, {weight}, recipe)[0]);
      return out;
    });
    ASSERT_EQ(at_once.all.size(), 7U);
    for (std::size_t i = 0; i < at_once.all.size(); ++i) {
      EXPECT_TRUE(at::equal(at_once.all[i], alone.all[i])) << contract::name_of(recipe) << ' ' << i;
    }
  }
}

/// How often something is cast to FP8 while it lives, on any thread.
class Casts {
 public:
  Casts() : handle_(at::addGlobalCallback(at::RecordFunctionCallback(&seen).scopes({at::RecordScope::FUNCTION}))) { count() = 0; }
  ~Casts() { at::removeCallback(handle_); }
  Casts(const Casts&) = delete;
  Casts& operator=(const Casts&) = delete;
  static std::atomic<int>& count() {
    static std::atomic<int> count = 0;
    return count;
  }

 private:
  /// A scale is found once a cast.
  static std::unique_ptr<at::ObserverContext> seen(const at::RecordFunction& function) {
    if (std::string_view(function.name()) == "aten::linalg_vector_norm") ++count();
    return nullptr;
  }
  at::CallbackHandle handle_;
};

TEST(Fp8Linear, CastsXOnceForAllWeightsAndAGradientOnceWhereItHasOneScale) {
  const std::pair<Fp8Recipe, int> of_backward[] = {
      {Fp8Recipe::kTensorwise, 1 + 3 + 3}, {Fp8Recipe::kRowwise, 1 + 3 + 2 * 3}, {Fp8Recipe::kBlockwise, 1 + 3 + 2 * 3}};
  for (const auto& [recipe, backward] : of_backward) {
    const Casts casts;
    int forward = 0;
    const Several all([&](const at::Tensor& x, const std::vector<at::Tensor>& weights) {
      auto out = fp8_linear(x, weights, recipe);
      forward = Casts::count();
      return out;
    });
    EXPECT_EQ(forward, 1 + 3);
    EXPECT_EQ(Casts::count() - forward, backward) << contract::name_of(recipe);
  }
}

TEST(Fp8Linear, FinerScalesHelpWhereSizesDiffer) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({64, 256}) * at::logspace(-4, 2, 64, 10.0).unsqueeze(1),
                   weight = at::randn({64, 256}).requires_grad_();
  const auto of_small_rows = [&](Fp8Recipe recipe) {
    return difference(fp8_linear(x, {weight}, recipe)[0].narrow(0, 0, 16), at::linear(x, weight).narrow(0, 0, 16));
  };
  EXPECT_GT(of_small_rows(Fp8Recipe::kTensorwise), 0.01) << "rows a thousandth of the largest are lost in one scale";
  EXPECT_LT(of_small_rows(Fp8Recipe::kRowwise), 1.5e-3);
  EXPECT_LT(of_small_rows(Fp8Recipe::kBlockwise), 1.5e-3);
}

}  // namespace
}  // namespace trainyard::model
