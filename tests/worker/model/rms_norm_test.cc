#include "worker/model/rms_norm.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/worker/model/live_bytes.h"

namespace trainyard::model {
namespace {

at::Tensor wave(at::IntArrayRef sizes, double step, double offset = 0) {
  std::int64_t count = 1;
  for (const auto size : sizes) count *= size;
  return at::arange(count, at::kFloat).mul(step).sin().add(offset).view(sizes);
}

struct Found {
  at::Tensor out, d_x, d_weight;
};

/// With x used a second time, before or after, as a residual stream is: the order in which its gradients are added decides their last bits.
template <class Norm>
Found found(const Norm& norm, at::IntArrayRef sizes) {
  const at::Tensor leaf = wave(sizes, 0.31).requires_grad_(),
                   weight = wave(sizes.slice(sizes.size() - 1), 0.7, 1).requires_grad_();
  const at::Tensor x = leaf * 1.7F, out = norm(x, weight);
  (x + out * wave(sizes, 0.13)).backward(wave(sizes, 0.57));
  return {out.detach(), leaf.grad(), weight.grad()};
}

TEST(RmsNorm, AndItsGradientsAreLibTorchsBitForBitWhateverTheSize) {
  const auto ours = [](const at::Tensor& x, const at::Tensor& weight) { return rms_norm(x, weight, 1e-5); };
  const auto book = [](const at::Tensor& x, const at::Tensor& weight) { return at::rms_norm(x, {x.size(-1)}, weight, 1e-5); };
  for (const std::int64_t width : {1, 5, 16, 32, 44, 64, 100, 128, 160, 257, 1000}) {
    for (const auto& sizes :
         std::vector<std::vector<std::int64_t>>{{1, 1, width}, {2, 16, width}, {3, 7, width}, {2, 40, width}, {11, width}}) {
      const Found one = found(ours, sizes), other = found(book, sizes);
      EXPECT_TRUE(at::equal(one.out, other.out)) << at::IntArrayRef(sizes);
      EXPECT_TRUE(at::equal(one.d_x, other.d_x)) << at::IntArrayRef(sizes);
      EXPECT_TRUE(at::equal(one.d_weight, other.d_weight)) << at::IntArrayRef(sizes);
    }
  }
}

TEST(RmsNorm, KeepsForItsGradientWhatLibTorchKeeps) {
  const auto kept = [](const auto& norm) {
    const at::Tensor x = wave({2, 16, 32}, 0.31).requires_grad_(), weight = wave({32}, 0.7).requires_grad_();
    test::LiveBytes live;
    const std::int64_t before = live.now();
    const at::Tensor out = norm(x, weight);
    return live.now() - before;
  };
  EXPECT_EQ(kept([](const at::Tensor& x, const at::Tensor& weight) { return rms_norm(x, weight, 1e-5); }),
            kept([](const at::Tensor& x, const at::Tensor& weight) { return at::rms_norm(x, {32}, weight, 1e-5); }));
}

TEST(RmsNorm, MakesEveryRowOfOneLength) {
  const at::Tensor x = wave({3, 8, 20}, 0.9), out = rms_norm(x, at::ones({20}), 0);
  EXPECT_TRUE(at::allclose(out.norm(2, {-1}), at::full({3, 8}, std::sqrt(20.0)), 1e-5));
}

}  // namespace
}  // namespace trainyard::model
