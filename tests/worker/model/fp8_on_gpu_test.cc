// The FP8 units of a GPU against the same products on a CPU; fp8_test.cc tests the CPU's.
#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/torch.h>

#include "crds/contract/user_error.h"
#include "tests/worker/model/difference.h"
#include "worker/model/fp8.h"

namespace trainyard::model {
namespace {

using contract::Fp8Recipe;

class Fp8OnGpu : public testing::TestWithParam<Fp8Recipe> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
    try {
      check_fp8(at::Device(at::kCUDA, 0), GetParam());
    } catch (const contract::UserError& error) {
      GTEST_SKIP() << error.what();
    }
  }
};

TEST_P(Fp8OnGpu, CastsAndScalesAreTheBitsOfTheCpu) {
  at::manual_seed(1);
  const at::Tensor x = (at::randn({384, 640}) * at::randn({384, 1}).exp()).to(at::kBFloat16);
  for (const auto blocks : {Fp8Blocks::kTensor, Fp8Blocks::kRow, Fp8Blocks::k1x128, Fp8Blocks::k128x128}) {
    const auto here = to_fp8(x, blocks), there = to_fp8(x.cuda(), blocks);
    EXPECT_TRUE(at::equal(here.scales, there.scales.cpu()));
    EXPECT_TRUE(at::equal(here.values_RK.view(at::kByte), there.values_RK.view(at::kByte).cpu()));
  }
}

TEST_P(Fp8OnGpu, ForwardAndBothBackwardProductsAreNearThoseOfTheCpu) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({2, 256, 1024}).to(at::kBFloat16), weight = (at::randn({640, 1024}) * 0.02).to(at::kBFloat16);
  const at::Tensor gradient = (at::randn({2, 256, 640}) * 1e-3).to(at::kBFloat16);
  const auto run = [&](at::Device device) {
    const at::Tensor in = x.to(device).requires_grad_(), leaf = weight.to(device).requires_grad_();
    const at::Tensor out = fp8_linear(in, {leaf}, GetParam())[0];
    auto all = torch::autograd::grad({out}, {in, leaf}, {gradient.to(device)});
    all.push_back(out.detach());
    return all;
  };
  const auto here = run(at::kCPU), there = run(at::Device(at::kCUDA, 0));
  for (std::size_t i = 0; i < here.size(); ++i) EXPECT_LE(difference(there[i], here[i]), 1e-3) << i;
}

INSTANTIATE_TEST_SUITE_P(Recipes, Fp8OnGpu, testing::Values(Fp8Recipe::kTensorwise, Fp8Recipe::kRowwise, Fp8Recipe::kBlockwise),
                         [](const auto& recipe) { return std::string(contract::name_of(recipe.param)); });

}  // namespace
}  // namespace trainyard::model
