#include "worker/optim/adamw.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/optim/adamw_options.h"
#include "tests/worker/plan/dynamic_map.h"

namespace trainyard::optim {
namespace {

/// The published algorithm on one number, in FP64.
struct Reference {
  double weight = 0, average = 0, square = 0;
  void step(double gradient, double rate, int t, const contract::Optimizer& o, bool decays) {
    if (decays) weight -= rate * o.weightDecay * weight;
    average = o.beta1 * average + (1 - o.beta1) * gradient;
    square = o.beta2 * square + (1 - o.beta2) * gradient * gradient;
    const double unbiased = average / (1 - std::pow(o.beta1, t)), scale = std::sqrt(square / (1 - std::pow(o.beta2, t)));
    weight -= rate * unbiased / (scale + o.epsilon);
  }
};

TEST(AdamW, FollowsThePublishedAlgorithm) {
  const at::Tensor decaying = at::full({2, 2}, 0.5f), other = at::full({3}, 0.5f);
  AdamW optimizer(adamw_options(), {{decaying, true}, {other, false}});
  Reference with{.weight = 0.5}, without{.weight = 0.5};
  for (int t = 1; t <= 20; ++t) {
    const double gradient = std::sin(t), rate = 0.01 / t;
    optimizer.step({at::full({2, 2}, gradient, at::kFloat), at::full({3}, gradient, at::kFloat)}, rate);
    with.step(gradient, rate, t, adamw_options(), true);
    without.step(gradient, rate, t, adamw_options(), false);
    EXPECT_NEAR(decaying[1][1].item<double>(), with.weight, 1e-6);
    EXPECT_NEAR(other[2].item<double>(), without.weight, 1e-6);
  }
  EXPECT_EQ(optimizer.steps(), 20);
}

TEST(AdamW, MovesByTheLearningRateInTheFirstStepWhateverTheGradientsSize) {
  for (const float gradient : {1e-3f, 1.0f, 1e3f}) {
    const at::Tensor weight = at::zeros({1});
    AdamW optimizer(adamw_options(0), {{weight, true}});
    optimizer.step({at::full({1}, gradient)}, 0.01);
    EXPECT_NEAR(weight.item<double>(), -0.01, 1e-6);
  }
}

TEST(AdamW, IsTheOperationsOfPyTorchBitForBitOfFewNumbersAndOfMany) {
  for (const std::int64_t count : {1, 7, 31, 64, 1000, 4097, 16'384, 16'385}) {
    const at::Tensor master = at::arange(count, at::kFloat).mul(0.37).sin(), book = master.clone();
    const at::Tensor average = at::zeros({count}), square = at::zeros({count});
    AdamW optimizer(adamw_options(), {{master, true}});
    for (int t = 1; t <= 5; ++t) {
      const at::Tensor gradient = at::arange(count, at::kFloat).mul(0.11).add(static_cast<double>(t)).cos();
      const double rate = 0.01 / t, clipping = t == 3 ? 1.0 : 0.3;
      optimizer.step({gradient.clone()}, rate, clipping);
      // torch/optim/adam.py, _single_tensor_adam
      gradient.mul_(clipping);
      book.mul_(1 - rate * 0.1);
      average.lerp_(gradient, 1 - 0.9);
      square.mul_(0.999).addcmul_(gradient, gradient, 1 - 0.999);
      const at::Tensor denominator = (square.sqrt() / std::pow(1 - std::pow(0.999, t), 0.5)).add_(1e-8);
      book.addcdiv_(average, denominator, -rate / (1 - std::pow(0.9, t)));
    }
    EXPECT_TRUE(at::equal(master, book)) << count;
    EXPECT_TRUE(at::equal(optimizer.averages()[0], average)) << count;
    EXPECT_TRUE(at::equal(optimizer.squares()[0], square)) << count;
  }
}

TEST(AdamW, GoesOnFromItsMomentsAndItsStep) {
  const at::Tensor through = at::ones({4});
  AdamW one(adamw_options(), {{through, true}});
  const auto gradient = [](int t) { return at::full({4}, std::cos(t), at::kFloat); };
  for (int t = 1; t <= 6; ++t) one.step({gradient(t)}, 0.01);

  const at::Tensor halfway = at::ones({4});
  AdamW before(adamw_options(), {{halfway, true}});
  for (int t = 1; t <= 3; ++t) before.step({gradient(t)}, 0.01);
  AdamW after(adamw_options(), {{halfway, true}});
  at::Tensor average = after.averages()[0], square = after.squares()[0];
  average.copy_(before.averages()[0]);
  square.copy_(before.squares()[0]);
  after.set_steps(before.steps());
  for (int t = 4; t <= 6; ++t) after.step({gradient(t)}, 0.01);
  EXPECT_TRUE(at::equal(halfway, through));
}

TEST(AdamW, WithMomentsInBf16DoesTheStepOfFp32AndThenRoundsThem) {
  const at::Tensor master = at::arange(300, at::kFloat).mul(0.37).sin();
  AdamW kept(adamw_options(), {{master, true}}, at::kBFloat16);
  for (int t = 1; t <= 5; ++t) {
    const at::Tensor gradient = at::arange(300, at::kFloat).mul(0.11).add(static_cast<double>(t)).cos();
    const at::Tensor exact = master.clone();
    AdamW in_fp32(adamw_options(), {{exact, true}});
    at::Tensor average = in_fp32.averages()[0], square = in_fp32.squares()[0];
    average.copy_(kept.averages()[0]);
    square.copy_(kept.squares()[0]);
    in_fp32.set_steps(t - 1);
    kept.step({gradient.clone()}, 0.01, 0.5);
    in_fp32.step({gradient.clone()}, 0.01, 0.5);
    EXPECT_TRUE(at::equal(master, exact)) << t;
    EXPECT_EQ(kept.averages()[0].scalar_type(), at::kBFloat16);
    EXPECT_TRUE(at::equal(kept.averages()[0], average.to(at::kBFloat16))) << t;
    EXPECT_TRUE(at::equal(kept.squares()[0], square.to(at::kBFloat16))) << t;
  }
}

/// A block's scale times the value of a number's code, by the second implementation.
at::Tensor as_coded(const at::Tensor& numbers, bool is_signed, std::size_t columns) {
  const auto map = test::dynamic_map(is_signed);
  const at::Tensor flat = numbers.contiguous();
  const auto coded = test::coded(map, {flat.const_data_ptr<float>(), static_cast<std::size_t>(flat.numel())}, columns);
  at::Tensor out = at::empty_like(flat);
  auto* const to = out.data_ptr<float>();
  const std::size_t each = (columns + 255) / 256;
  for (std::size_t i = 0; i < coded.codes.size(); ++i) {
    to[i] = map[coded.codes[i]] * coded.scales[i / columns * each + i % columns / 256];
  }
  return out;
}

/// Two blocks a row, the last one short; more than a piece; and a tensor without a segment.
TEST(AdamW, WithMomentsInCodesDoesTheStepOfFp32AndThenCodesThem) {
  constexpr std::int64_t kRows = 80, kColumns = 344;
  const at::Tensor master = at::arange(kRows * kColumns, at::kFloat).mul(0.37).sin().view({kRows, kColumns}),
                   norm = at::ones({300});
  at::set_num_threads(1);
  AdamW kept(adamw_options(),
             {{.master = master, .weight = {}, .segment = kColumns}, {.master = norm, .decays = false, .weight = {}}}, at::kByte);
  EXPECT_EQ(kept.averages()[0].scalar_type(), at::kByte);
  EXPECT_EQ(kept.squares()[1].scalar_type(), at::kFloat);
  EXPECT_EQ(kept.average_scales()[0].sizes(), at::IntArrayRef({kRows, 2}));
  at::Tensor average = at::zeros_like(master), square = at::zeros_like(master);  // by the second implementation
  for (int t = 1; t <= 3; ++t) {
    // From 1e-6 on to 1, so that all decades come up.
    const at::Tensor gradient =
        at::arange(kRows * kColumns, at::kFloat).mul(0.11).add(static_cast<double>(t)).cos().pow(9).view({kRows, kColumns});
    const at::Tensor exact = master.clone(), exact_norm = norm.clone(), of_norm = at::full({300}, std::cos(t), at::kFloat);
    AdamW in_fp32(adamw_options(), {{exact, true}, {exact_norm, false}});
    at::Tensor a = in_fp32.averages()[0], s = in_fp32.squares()[0], norm_a = in_fp32.averages()[1], norm_s = in_fp32.squares()[1];
    a.copy_(average);
    s.copy_(square);
    norm_a.copy_(kept.averages()[1]);
    norm_s.copy_(kept.squares()[1]);
    in_fp32.set_steps(t - 1);
    // A gradient that lies otherwise in memory, as that of a transposed product.
    kept.step({gradient.t().contiguous().t(), of_norm.clone()}, 0.01, 0.5);
    in_fp32.step({gradient.clone(), of_norm.clone()}, 0.01, 0.5);
    EXPECT_TRUE(at::equal(master, exact)) << t;
    EXPECT_TRUE(at::equal(norm, exact_norm)) << t;
    EXPECT_TRUE(at::equal(kept.averages()[1], norm_a)) << t;
    for (const bool is_signed : {true, false}) {
      const at::Tensor numbers = is_signed ? a : s, codes = is_signed ? kept.averages()[0] : kept.squares()[0];
      const auto wanted = test::coded(test::dynamic_map(is_signed),
                                      {numbers.const_data_ptr<float>(), static_cast<std::size_t>(numbers.numel())}, kColumns);
      const auto* const found = codes.const_data_ptr<std::uint8_t>();
      EXPECT_TRUE(std::equal(wanted.codes.begin(), wanted.codes.end(), found)) << t << is_signed;
      const auto* const scales = (is_signed ? kept.average_scales() : kept.square_scales())[0].const_data_ptr<float>();
      EXPECT_TRUE(std::equal(wanted.scales.begin(), wanted.scales.end(), scales)) << t << is_signed;
    }
    average = as_coded(a, true, kColumns);
    square = as_coded(s, false, kColumns);
  }
}

/// Moments that were coded are off by 0.9/128 and 0.9/256 of their block's largest at the most; what that makes of the second step, where
/// gradients are of one size, is within 2 % of it.
TEST(AdamW, WithMomentsInCodesTakesAStepCloseToThatOfFp32) {
  at::set_num_threads(1);
  constexpr std::int64_t kRows = 64, kColumns = 256;
  const at::Tensor one = at::zeros({kRows, kColumns}), other = at::zeros({kRows, kColumns});
  AdamW in_codes(adamw_options(0), {{.master = one, .weight = {}, .segment = kColumns}}, at::kByte),
      in_fp32(adamw_options(0), {{other, true}});
  for (int t = 1; t <= 2; ++t) {
    const at::Tensor gradient = at::arange(kRows * kColumns, at::kFloat).mul(0.11).add(t).cos().mul(0.25).add(0.75).view_as(one);
    in_codes.step({gradient.clone()}, 0.01);
    in_fp32.step({gradient.clone()}, 0.01);
    if (t == 1) {
      EXPECT_TRUE(at::equal(one, other)) << "moments are zero before the first step";
    }
  }
  EXPECT_FALSE(at::equal(one, other));
  EXPECT_LE((one - other).abs().max().item<double>(), 0.02 * 0.01);
}

TEST(AdamW, WithMomentsInCodesGivesTheSameBitsOnSeveralCores) {
  std::vector<at::Tensor> masters, codes;
  for (const int cores : {1, 3}) {
    at::set_num_threads(cores);
    masters.push_back(at::arange(300 * 333, at::kFloat).mul(0.37).sin().view({300, 333}));
    AdamW optimizer(adamw_options(), {{.master = masters.back(), .weight = {}, .segment = 333}}, at::kByte);
    at::set_num_threads(1);
    for (int t = 1; t <= 3; ++t) optimizer.step({at::arange(300 * 333, at::kFloat).mul(0.2).add(t).cos().view({300, 333})}, 0.01);
    codes.push_back(optimizer.averages()[0]);
  }
  EXPECT_TRUE(at::equal(masters[0], masters[1]));
  EXPECT_TRUE(at::equal(codes[0], codes[1]));
}

}  // namespace
}  // namespace trainyard::optim
