#include "worker/optim/adamw.h"

#include <cmath>

#include <gtest/gtest.h>

namespace trainyard::optim {
namespace {

contract::Optimizer options(double weight_decay = 0.1) {
  contract::Optimizer out;
  out.weightDecay = weight_decay;
  return out;
}

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
  AdamW optimizer(options(), {{decaying, true}, {other, false}});
  Reference with{.weight = 0.5}, without{.weight = 0.5};
  for (int t = 1; t <= 20; ++t) {
    const double gradient = std::sin(t), rate = 0.01 / t;
    optimizer.step({at::full({2, 2}, gradient, at::kFloat), at::full({3}, gradient, at::kFloat)}, rate);
    with.step(gradient, rate, t, options(), true);
    without.step(gradient, rate, t, options(), false);
    EXPECT_NEAR(decaying[1][1].item<double>(), with.weight, 1e-6);
    EXPECT_NEAR(other[2].item<double>(), without.weight, 1e-6);
  }
  EXPECT_EQ(optimizer.steps(), 20);
}

TEST(AdamW, MovesByTheLearningRateInTheFirstStepWhateverTheGradientsSize) {
  for (const float gradient : {1e-3f, 1.0f, 1e3f}) {
    const at::Tensor weight = at::zeros({1});
    AdamW optimizer(options(0), {{weight, true}});
    optimizer.step({at::full({1}, gradient)}, 0.01);
    EXPECT_NEAR(weight.item<double>(), -0.01, 1e-6);
  }
}

TEST(AdamW, GoesOnFromItsMomentsAndItsStep) {
  const at::Tensor through = at::ones({4});
  AdamW one(options(), {{through, true}});
  const auto gradient = [](int t) { return at::full({4}, std::cos(t), at::kFloat); };
  for (int t = 1; t <= 6; ++t) one.step({gradient(t)}, 0.01);

  const at::Tensor halfway = at::ones({4});
  AdamW before(options(), {{halfway, true}});
  for (int t = 1; t <= 3; ++t) before.step({gradient(t)}, 0.01);
  AdamW after(options(), {{halfway, true}});
  at::Tensor average = after.averages()[0], square = after.squares()[0];
  average.copy_(before.averages()[0]);
  square.copy_(before.squares()[0]);
  after.set_steps(before.steps());
  for (int t = 4; t <= 6; ++t) after.step({gradient(t)}, 0.01);
  EXPECT_TRUE(at::equal(halfway, through));
}

TEST(AdamW, WithMomentsInBf16DoesTheStepOfFp32AndThenRoundsThem) {
  const at::Tensor master = at::arange(300, at::kFloat).mul(0.37).sin();
  AdamW kept(options(), {{master, true}}, at::kBFloat16);
  for (int t = 1; t <= 5; ++t) {
    const at::Tensor gradient = at::arange(300, at::kFloat).mul(0.11).add(static_cast<double>(t)).cos();
    const at::Tensor exact = master.clone();
    AdamW in_fp32(options(), {{exact, true}});
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

}  // namespace
}  // namespace trainyard::optim
