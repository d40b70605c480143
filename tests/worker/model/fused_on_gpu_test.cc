// The fused kernels on a GPU against PyTorch's operations, on the same GPU; fused_kernels_test.cc tests their arithmetic without one.
#ifdef TRAINYARD_CUDA

#include <c10/cuda/CUDACachingAllocator.h>
#include <torch/torch.h>

#include <gtest/gtest.h>

#include "worker/model/attention.h"
#include "worker/model/dropout.h"
#include "worker/model/head_loss.h"
#include "worker/model/rms_norm.h"
#include "worker/model/rotary.h"
#include "worker/model/swiglu.h"

namespace trainyard::model {
namespace {

class FusedOnGpu : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
    torch::manual_seed(1);
  }
  at::Tensor random(at::IntArrayRef shape, double deviation = 1) const {
    return at::randn(shape, at::TensorOptions().device(at::kCUDA)).mul(deviation).to(GetParam());
  }
  /// The distance of `found`, relative to `wanted`, both taken as FP64.
  static double distance(const at::Tensor& found, const at::Tensor& wanted) {
    const at::Tensor f = found.to(at::kDouble), w = wanted.to(at::kDouble);
    return ((f - w).norm() / w.norm()).item<double>();
  }
  /// Rounding apart the same function: few elements of BF16 and FP16 may be rounded the other way.
  double bound() const { return GetParam() == at::kFloat ? 1e-6 : 1e-3; }
};

TEST_P(FusedOnGpu, SwiGluIsThatOfTheOperations) {
  const at::Tensor gradient = random({64, 33, 1001});
  std::vector<at::Tensor> results[2];
  for (int fused = 0; fused < 2; ++fused) {
    torch::manual_seed(2);
    const at::Tensor gate = random({64, 33, 1001}).requires_grad_(), up = random({64, 33, 1001}).requires_grad_();
    const at::Tensor out = fused ? swiglu(gate, up) : at::silu(gate) * up;
    out.backward(gradient);
    results[fused] = {out.detach(), gate.grad(), up.grad()};
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_LT(distance(results[1][i], results[0][i]), bound()) << i;
}

/// 512 MiB of scores in FP32 else, and of their gradients.
TEST_P(FusedOnGpu, CausalAttentionOfGroupsKeepsNothingForEachPairOfTokens) {
  const at::Tensor q = random({1, 8, 4096, 64}).requires_grad_(), k = random({1, 2, 4096, 64}).requires_grad_(),
                   v = random({1, 2, 4096, 64}).requires_grad_();
  const auto used = [](auto kind) {
    return c10::cuda::CUDACachingAllocator::getDeviceStats(0).allocated_bytes.at(static_cast<std::size_t>(kind));
  };
  c10::cuda::CUDACachingAllocator::resetPeakStats(0);
  const auto before = used(c10::CachingAllocator::StatType::AGGREGATE).current;
  const at::Tensor out = causal_attention(q, k, v);
  out.backward(random({1, 8, 4096, 64}));
  EXPECT_LT(used(c10::CachingAllocator::StatType::AGGREGATE).peak - before, std::int64_t{256} << 20);
  const auto in_fp64 = [](const at::Tensor& x) { return x.detach().to(at::kDouble); };
  const at::Tensor wanted = at::scaled_dot_product_attention(in_fp64(q), in_fp64(k), in_fp64(v), {}, 0.0, true, {}, true);
  EXPECT_LT(distance(out.detach(), wanted), 10 * bound());
}

TEST_P(FusedOnGpu, RmsNormIsThatOfTheOperationInFp64) {
  for (const std::int64_t width : {4096, 264}) {
    const at::Tensor x = random({3, 50, width}).requires_grad_(), weight = random({width}).requires_grad_(),
                     gradient = random({3, 50, width});
    const at::Tensor x_64 = x.detach().to(at::kDouble).requires_grad_(),
                     weight_64 = weight.detach().to(at::kDouble).requires_grad_();
    const at::Tensor found = rms_norm(x, weight, 1e-5), wanted = at::rms_norm(x_64, {width}, weight_64, 1e-5);
    found.backward(gradient);
    wanted.backward(gradient.to(at::kDouble));
    EXPECT_LT(distance(found.detach(), wanted.detach()), 5 * bound());
    EXPECT_LT(distance(x.grad(), x_64.grad()), 5 * bound());
    EXPECT_LT(distance(weight.grad(), weight_64.grad()), 5 * bound());
  }
}

TEST_P(FusedOnGpu, RotationIsThatOfTheCpu) {
  const auto table = rotary_table(100, 64, 10000.0, at::TensorOptions().dtype(GetParam()));
  const RotaryTable on_gpu{table.cosine_TH.cuda(), table.sine_TH.cuda()};
  const at::Tensor x = random({2, 100, 3, 64}).transpose(1, 2), gradient = random({2, 3, 100, 64});
  const at::Tensor here = x.cpu().requires_grad_(), there = x.detach().requires_grad_();
  const at::Tensor wanted = rotate(here, table), found = rotate(there, on_gpu);
  wanted.backward(gradient.cpu());
  found.backward(gradient);
  EXPECT_LT(distance(found.detach().cpu(), wanted.detach()), bound());
  EXPECT_LT(distance(there.grad().cpu(), here.grad()), bound());
}

TEST_P(FusedOnGpu, HeadLossIsThatOfTheOperationsInItsValueAndBothGradients) {
  const double of_the_loss =
      GetParam() == at::kFloat ? 1e-6 : 1e-4;  // of other products of BF16 some logits are rounded otherwise
  for (const std::int64_t classes : {1024, 50'257}) {
    const std::int64_t tokens = 3 * loss_chunk(64) + 100;
    const at::Tensor targets = at::randint(classes, {tokens}, at::TensorOptions().dtype(at::kLong).device(at::kCUDA));
    std::vector<at::Tensor> results[2];
    for (int fused = 0; fused < 2; ++fused) {
      torch::manual_seed(2);
      const at::Tensor x = random({tokens, 64}).requires_grad_(), weight = random({classes, 64}, 0.2).requires_grad_();
      const at::Tensor loss = fused
                                  ? head_loss(x, weight, targets)
                                  : at::cross_entropy_loss(at::linear(x, weight).to(at::kFloat), targets, {}, at::Reduction::Sum);
      (loss / (GetParam() == at::kHalf ? 1 : 1000)).backward();  // in FP16 smaller gradients of the operations would underflow
      results[fused] = {loss.detach(), x.grad(), weight.grad()};
      const at::NoGradGuard no_grad;
      EXPECT_EQ(head_loss(x, weight, targets).item<float>(), head_loss(x, weight, targets).item<float>());
      EXPECT_LT(distance(head_loss(x, weight, targets), loss), of_the_loss);
    }
    EXPECT_LT(distance(results[1][0], results[0][0]), of_the_loss) << classes;
    for (std::size_t i = 1; i < 3; ++i) {
      EXPECT_LT(distance(results[1][i], results[0][i]), GetParam() == at::kFloat ? 1e-5 : 6e-3) << classes << ", gradient " << i;
    }
  }
}

TEST_P(FusedOnGpu, HeadLossWithItsTermsIsThatOfTheOperations) {
  const contract::Loss terms{.labelSmoothing = 0.1, .zLoss = 1e-3};
  const at::Tensor targets = at::randint(5000, {300}, at::TensorOptions().dtype(at::kLong).device(at::kCUDA));
  std::vector<at::Tensor> results[2];
  for (int fused = 0; fused < 2; ++fused) {
    torch::manual_seed(2);
    const at::Tensor x = random({300, 64}).requires_grad_(), weight = random({5000, 64}, 0.2).requires_grad_();
    const at::Tensor loss =
        fused ? head_loss(x, weight, targets, terms) : loss_of_logits(at::linear(x, weight).to(at::kFloat), targets, terms);
    (loss / (GetParam() == at::kHalf ? 1 : 300)).backward();
    results[fused] = {loss.detach(), x.grad(), weight.grad()};
  }
  EXPECT_LT(distance(results[1][0], results[0][0]), GetParam() == at::kFloat ? 1e-6 : 1e-4);
  for (std::size_t i = 1; i < 3; ++i)
    EXPECT_LT(distance(results[1][i], results[0][i]), GetParam() == at::kFloat ? 1e-5 : 6e-3) << i;
}

TEST_P(FusedOnGpu, HeadLossThatIsDifferentiatedInBackwardIsTheSameBitsAndKeepsNoGradients) {
  const contract::Loss terms{.labelSmoothing = 0.1, .zLoss = 1e-3};
  const at::Tensor targets = at::randint(5000, {300}, at::TensorOptions().dtype(at::kLong).device(at::kCUDA));
  std::vector<at::Tensor> results[2];
  std::int64_t kept[2];
  for (int late = 0; late < 2; ++late) {
    torch::manual_seed(2);
    const at::Tensor x = random({300, 64}).requires_grad_(), weight = random({5000, 64}, 0.2).requires_grad_();
    const auto allocated = [] { return c10::cuda::CUDACachingAllocator::getDeviceStats(0).allocated_bytes[0].current; };
    const std::int64_t before = allocated();
    const at::Tensor loss = head_loss(x, weight, targets, terms, late == 1);
    kept[late] = allocated() - before;
    (loss * 1024).backward();
    results[late] = {loss.detach(), x.grad(), weight.grad()};
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(results[1][i], results[0][i])) << i;
  if (GetParam() != at::kHalf) {
    EXPECT_LE(kept[1], kept[0] - 4 * 5000 * 64);
  }
}

// Of the classes that the model thinks impossible: p is some 4e-8, which FP16 rounds to its smallest number, or to nothing.
TEST_P(FusedOnGpu, HeadLossHasTheGradientsThatTheLossScaleLifts) {
  constexpr double kScale = 65536;
  const at::Tensor targets = at::zeros({32}, at::TensorOptions().dtype(at::kLong).device(at::kCUDA));
  at::Tensor heads = random({1024, 64}, 0.01);
  heads[0].fill_(17.0 / 64);
  const at::Tensor weight = heads.requires_grad_(), x = random({32, 64}, 0.05).add(1).requires_grad_();
  (head_loss(x, weight, targets) * kScale).backward();
  const at::Tensor logits = at::linear(x, weight).detach().to(at::kDouble).requires_grad_();
  at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum).mul(kScale).backward();
  const at::Tensor wanted = at::mm(logits.grad().t(), x.detach().to(at::kDouble));
  EXPECT_LT(distance(weight.grad().narrow(0, 1, 1023), wanted.narrow(0, 1, 1023)), 0.02);
}

TEST_P(FusedOnGpu, DropoutIsThatOfTheCpuToTheBit) {
  const DropoutPlace place{.seed = 123456789012, .site = 5, .first_token = (std::int64_t{1} << 32) - 10};
  for (const std::int64_t width : {10, 4096}) {
    const at::Tensor x = random({3, 50, width}).requires_grad_(), here = x.detach().cpu().requires_grad_();
    const at::Tensor found = dropout(x, 0.1, place), wanted = dropout(here, 0.1, place);
    EXPECT_TRUE(at::equal(found.cpu(), wanted)) << width;
    found.backward(at::ones_like(found));
    wanted.backward(at::ones_like(wanted));
    EXPECT_TRUE(at::equal(x.grad().cpu(), here.grad())) << width;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, FusedOnGpu, testing::Values(at::kFloat, at::kBFloat16, at::kHalf));

}  // namespace
}  // namespace trainyard::model

#endif  // TRAINYARD_CUDA
