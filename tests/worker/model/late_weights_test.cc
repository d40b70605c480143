#include "worker/model/late_weights.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace trainyard::model {
namespace {

struct GradientsOfTwoLayers {
  at::Tensor output, x, first, second;  // of two layers, one after the other
};

/// Two linear layers with something that is not linear between them; `finish` computes what was kept.
GradientsOfTwoLayers through(LateWeights* late, at::ScalarType type, bool finish = true) {
  const auto values = [&](at::IntArrayRef shape, double step) {
    const at::Tensor ramp = at::arange(c10::multiply_integers(shape), at::kFloat).mul(step).sin();
    return ramp.view(shape).to(type).requires_grad_();
  };
  const at::Tensor x = values({3, 7, 40}, 0.37), first = values({56, 40}, 0.11), second = values({24, 56}, 0.23);
  const auto linear = [&](const at::Tensor& in, const at::Tensor& weight) {
    return late != nullptr ? late->linear(in, weight) : at::linear(in, weight);
  };
  const at::Tensor output = linear(at::silu(linear(x, first)), second);
  output.to(at::kFloat).square().sum().backward();
  if (late != nullptr && finish) LateWeights::finish(late->take());
  return {output, x.grad(), first.grad(), second.grad()};
}

TEST(LateWeights, GiveTheBitsOfAnUnsplitBackwardPass) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    LateWeights late;
    const auto split = through(&late, type), whole = through(nullptr, type);
    EXPECT_TRUE(at::equal(split.output, whole.output));
    EXPECT_TRUE(at::equal(split.x, whole.x));
    EXPECT_TRUE(at::equal(split.first, whole.first));
    EXPECT_TRUE(at::equal(split.second, whole.second));
  }
}

TEST(LateWeights, AreNotComputedBeforeTheyAreFinished) {
  LateWeights late;
  const auto half = through(&late, at::kFloat, false);
  EXPECT_TRUE(half.x.defined());
  EXPECT_FALSE(half.first.defined());
  EXPECT_FALSE(half.second.defined());
  EXPECT_EQ(late.take().size(), 2u);
  EXPECT_TRUE(late.take().empty());
}

TEST(LateWeights, OfOneWeightThatIsUsedTwiceAreAdded) {
  LateWeights late;
  const at::Tensor weight = at::eye(4).requires_grad_(), x = at::ones({2, 4});
  (late.linear(x, weight) + late.linear(2 * x, weight)).sum().backward();
  LateWeights::finish(late.take());
  EXPECT_TRUE(at::equal(weight.grad(), at::full({4, 4}, 6.0)));
}

}  // namespace
}  // namespace trainyard::model
