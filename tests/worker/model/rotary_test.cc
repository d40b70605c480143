#include "worker/model/rotary.h"

#include <cmath>

#include <gtest/gtest.h>

namespace trainyard::model {
namespace {

const at::TensorOptions kFull = at::TensorOptions().dtype(at::kFloat);

/// As modeling_llama.py writes it, with autograd all the way.
at::Tensor by_the_book(const at::Tensor& x, const RotaryTable& table) {
  const auto halves = x.chunk(2, -1);
  const at::Tensor turned = at::cat({-halves[1], halves[0]}, -1);
  const auto [first, second] = std::pair{table.sine_TH.chunk(2, -1)[0].neg(), table.sine_TH.chunk(2, -1)[1]};
  return x * table.cosine_TH + turned * at::cat({first, second}, -1);
}

TEST(Rotate, AndItsGradientAreHuggingFacesBitForBit) {
  const auto table = rotary_table(10, 8, 10'000, kFull);
  const at::Tensor data = at::arange(2 * 3 * 10 * 8, kFull).mul(0.31).sin().view({2, 3, 10, 8}), gradient = data.cos();
  const at::Tensor one = data.clone().requires_grad_(), other = data.clone().requires_grad_();
  const at::Tensor mine = rotate(one, table), book = by_the_book(other, table);
  EXPECT_TRUE(at::equal(mine, book));
  mine.backward(gradient);
  book.backward(gradient);
  EXPECT_TRUE(at::equal(one.grad(), other.grad()));
}

TEST(Rotate, IsTheSameBitsInAnyOrderOfMemoryWhichItKeeps) {
  const auto table = rotary_table(10, 8, 10'000, kFull);
  const at::Tensor data = at::arange(2 * 3 * 10 * 8, kFull).mul(0.31).sin().view({2, 3, 10, 8});
  const at::Tensor book = by_the_book(data, table);
  // As projections leave heads; as nothing does; with room between rows.
  const at::Tensor roomy = at::zeros({2, 3, 10, 12}).narrow(-1, 2, 8).copy_(data);
  for (const auto& x : {data.transpose(1, 2).contiguous().transpose(1, 2),
                        data.permute({3, 2, 1, 0}).contiguous().permute({3, 2, 1, 0}), roomy}) {
    const at::Tensor mine = rotate(x, table);
    EXPECT_TRUE(at::equal(mine, book));
    EXPECT_EQ(mine.strides(), (x * table.cosine_TH).strides());
  }
}

TEST(Rotate, LeavesPositionZeroAndLengthsAlone) {
  const auto table = rotary_table(6, 4, 10'000, kFull);
  const at::Tensor x = at::arange(24, kFull).add(1).view({1, 1, 6, 4}), y = rotate(x, table);
  EXPECT_TRUE(at::equal(y[0][0][0], x[0][0][0]));
  EXPECT_TRUE(at::allclose(y.norm(2, {-1}), x.norm(2, {-1}), 1e-5));
}

TEST(Rotate, TurnsThePairOfAnElementAndTheOneHalfAHeadOnByPositionTimesFrequency) {
  const auto table = rotary_table(4, 4, 100, kFull);
  at::Tensor x = at::zeros({1, 1, 4, 4});
  x.select(-1, 1).fill_(1);  // pair 1: elements 1 and 3, frequency 100^(−2/4) = 0.1
  const at::Tensor y = rotate(x, table);
  EXPECT_NEAR(y[0][0][3][1].item<double>(), std::cos(0.3), 1e-6);
  EXPECT_NEAR(y[0][0][3][3].item<double>(), std::sin(0.3), 1e-6);
  EXPECT_EQ(y[0][0][3][0].item<double>(), 0);
}

}  // namespace
}  // namespace trainyard::model
