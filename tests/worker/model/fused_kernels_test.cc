// The kernels of fused_kernels.h without a GPU; fused_on_gpu_test.cc runs them on one.

#include "tests/support/cuda_on_cpu.h"

#include "worker/model/fused_kernels.cuh"

#include <limits>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "worker/model/dropout.h"
#include "worker/model/head_loss.h"
#include "worker/model/rotary.h"

namespace trainyard::model {
namespace {

at::Tensor mixed(const std::vector<std::int64_t>& shape, at::ScalarType type, double phase = 0) {
  const std::int64_t count = at::empty(shape).numel();
  return at::arange(count, at::kDouble).mul(0.37).add(phase).sin().mul(4).view(shape).to(type);
}

unsigned blocks_of(std::int64_t threads) { return static_cast<unsigned>((threads + kFusedThreads - 1) / kFusedThreads); }

/// At the most one unit in the last place of BF16 apart; in FP32 a few, of numbers of size one.
void expect_near(const at::Tensor& found, const at::Tensor& wanted) {
  const bool full = found.scalar_type() == at::kFloat;
  EXPECT_TRUE(at::allclose(found.to(at::kDouble), wanted.to(at::kDouble), full ? 1e-6 : 1.0 / 128, full ? 1e-6 : 1e-4))
      << found.scalar_type() << (found - wanted).abs().max().item<double>();
}

template <class T>
class FusedKernels : public testing::Test {};
using Types = testing::Types<float, c10::BFloat16, c10::Half>;
TYPED_TEST_SUITE(FusedKernels, Types);

TYPED_TEST(FusedKernels, SwiGluIsThatOfTheOperations) {
  constexpr auto kType = c10::CppTypeToScalarType<TypeParam>::value;
  for (const std::int64_t count : {5, 1000, 5003}) {
    const at::Tensor gate = mixed({count}, kType).requires_grad_(), up = mixed({count}, kType, 1).requires_grad_();
    const at::Tensor gradient = mixed({count}, kType, 2), wanted = at::silu(gate) * up;
    wanted.backward(gradient);
    at::Tensor out = at::full_like(gate, -1).detach(), d_gate = out.clone(), d_up = out.clone();
    const auto g = gate.const_data_ptr<TypeParam>(), u = up.const_data_ptr<TypeParam>();
    const unsigned blocks = blocks_of(count / Pack<TypeParam>::kSize + 1);
    cuda_on_cpu::launch(blocks, kFusedThreads, [&] { swiglu_forward(g, u, out.data_ptr<TypeParam>(), count); });
    cuda_on_cpu::launch(blocks, kFusedThreads, [&] {
      swiglu_backward(g, u, gradient.const_data_ptr<TypeParam>(), d_gate.data_ptr<TypeParam>(), d_up.data_ptr<TypeParam>(),
                      count);
    });
    expect_near(out, wanted.detach());
    expect_near(d_gate, gate.grad());
    expect_near(d_up, up.grad());
  }
}

TYPED_TEST(FusedKernels, RmsNormIsThatOfTheOperationForwardAndBack) {
  constexpr auto kType = c10::CppTypeToScalarType<TypeParam>::value;
  constexpr std::int64_t kRows = 70, kWidth = 2400, kGroup = 64;
  const at::Tensor x = mixed({kRows, kWidth}, kType).requires_grad_(), weight = mixed({kWidth}, kType, 1).requires_grad_();
  const at::Tensor gradient = mixed({kRows, kWidth}, kType, 2);
  // The operation in FP64: in BF16 it rounds on its way.
  const at::Tensor x_64 = x.detach().to(at::kDouble).requires_grad_(),
                   weight_64 = weight.detach().to(at::kDouble).requires_grad_();
  const at::Tensor wanted = at::rms_norm(x_64, {kWidth}, weight_64, 1e-5);
  wanted.backward(gradient.to(at::kDouble));
  at::Tensor out = at::full({kRows, kWidth}, -1, kType), d_x = out.clone(), inverse = at::zeros({kRows});
  at::Tensor d_weight = at::full({2, kWidth}, -1, at::kFloat);
  const auto in = x.const_data_ptr<TypeParam>(), w = weight.const_data_ptr<TypeParam>();
  const auto g = gradient.const_data_ptr<TypeParam>();
  cuda_on_cpu::launch(kRows, kFusedThreads,
                      [&] { rms_norm_forward(in, w, out.data_ptr<TypeParam>(), inverse.data_ptr<float>(), kWidth, 1e-5f); });
  cuda_on_cpu::launch(kRows, kFusedThreads,
                      [&] { rms_norm_backward(in, w, inverse.data_ptr<float>(), g, d_x.data_ptr<TypeParam>(), kWidth); });
  const std::int64_t columns = blocks_of(kWidth / Pack<TypeParam>::kSize);
  cuda_on_cpu::launch(static_cast<unsigned>(2 * columns), kFusedThreads, [&] {
    rms_norm_weight_backward(in, inverse.data_ptr<float>(), g, d_weight.data_ptr<float>(), kRows, kWidth, columns, kGroup);
  });
  const double tolerance = kType == at::kFloat ? 1e-5 : 1.0 / 128;
  EXPECT_TRUE(at::allclose(out.to(at::kDouble), wanted.detach(), tolerance, tolerance));
  EXPECT_TRUE(at::allclose(d_x.to(at::kDouble), x_64.grad(), tolerance, tolerance));
  EXPECT_TRUE(at::allclose(d_weight.sum(0).to(at::kDouble), weight_64.grad(), 1e-4, 1e-3));
}

TYPED_TEST(FusedKernels, RotationIsThatOfTheOperationsForwardAndBack) {
  constexpr auto kType = c10::CppTypeToScalarType<TypeParam>::value;
  const RotaryTable table = rotary_table(7, 32, 10000.0, at::TensorOptions().dtype(kType));
  const at::Tensor x_BTNH = mixed({2, 7, 3, 32}, kType), gradient_BTNH = mixed({2, 7, 3, 32}, kType, 1);
  const at::Tensor x_BNTH = x_BTNH.transpose(1, 2).detach().requires_grad_();
  const at::Tensor wanted = rotate(x_BNTH, table);
  wanted.backward(gradient_BTNH.transpose(1, 2));
  const auto by_kernel = [&](const at::Tensor& in, bool back) {
    at::Tensor out = at::full_like(in, -1);
    const std::int64_t pieces = in.numel() / 2 / Pack<TypeParam>::kSize;
    cuda_on_cpu::launch(blocks_of(pieces), kFusedThreads, [&] {
      rotate_halves(in.const_data_ptr<TypeParam>(), table.cosine_TH.const_data_ptr<TypeParam>(),
                    table.sine_TH.const_data_ptr<TypeParam>(), out.data_ptr<TypeParam>(), pieces, 3, 7, 32, back);
    });
    return out.transpose(1, 2);
  };
  EXPECT_TRUE(at::equal(by_kernel(x_BTNH, false), wanted.detach()));
  EXPECT_TRUE(at::equal(by_kernel(gradient_BTNH, true), x_BNTH.grad()));
}

TYPED_TEST(FusedKernels, CrossEntropyAndItsGradientAreThoseOfTheOperations) {
  constexpr auto kType = c10::CppTypeToScalarType<TypeParam>::value;
  constexpr int kWide = Pack<TypeParam>::kSize;
  struct Case {
    std::int64_t classes = 0;
    contract::Loss terms;
  };
  const contract::Loss both{.labelSmoothing = 0.1, .zLoss = 0.02}, z_loss{.labelSmoothing = 0, .zLoss = 0.02};
  for (const Case& one : {Case{16, {}}, Case{4096, {}}, Case{5000, {}}, Case{16, both}, Case{5000, both}, Case{4096, z_loss}}) {
    const std::int64_t classes = one.classes;
    const contract::Loss terms = one.terms;
    const at::Tensor logits = mixed({3, classes}, kType);
    const at::Tensor targets = at::tensor({std::int64_t{0}, classes - 1, classes / 2}, at::kLong);
    const at::Tensor full = logits.to(at::kFloat).requires_grad_();
    const at::Tensor wanted = at::cross_entropy_loss(full, targets, {}, at::Reduction::None);
    loss_of_logits(full, targets, terms).backward();
    const auto by_kernel = [&](auto kernel, bool with_gradient) {
      at::Tensor scratch = logits.clone(), losses = at::full({3}, -1, at::kFloat);
      cuda_on_cpu::launch(3, kFusedThreads, [&] {
        kernel(scratch.data_ptr<TypeParam>(), targets.const_data_ptr<std::int64_t>(), losses.data_ptr<float>(), classes,
               with_gradient, static_cast<float>(terms.labelSmoothing), static_cast<float>(terms.zLoss));
      });
      EXPECT_TRUE(at::allclose(losses, wanted.detach(), 1e-6, 1e-6)) << classes;
      return scratch;
    };
    expect_near(by_kernel(&cross_entropy<TypeParam, kWide>, true), full.grad().to(kType));
    expect_near(by_kernel(&cross_entropy<TypeParam, 1>, true), full.grad().to(kType));
    EXPECT_TRUE(at::equal(by_kernel(&cross_entropy<TypeParam, kWide>, false), logits));
  }
}

TYPED_TEST(FusedKernels, CrossEntropyOfNumbersThatAreNotFiniteIsThatOfTheOperations) {
  constexpr auto kType = c10::CppTypeToScalarType<TypeParam>::value;
  constexpr int kWide = Pack<TypeParam>::kSize;
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    std::int64_t first, count;  // classes
    double logit;
  };
  for (const std::int64_t classes : {16, 5000}) {
    // One class, a thread's first pieces, a whole piece of a later round, all; the targets are 0, the last and the middle.
    for (const Case& one : {Case{3, 1, kNaN}, Case{0, kWide, kNaN}, Case{3, 1, -kInfinity}, Case{0, kWide, -kInfinity},
                            Case{classes - 8, 8, -kInfinity}, Case{0, classes, -kInfinity}, Case{3, 1, kInfinity}}) {
      at::Tensor logits = mixed({3, classes}, kType);
      logits.narrow(1, one.first, one.count).fill_(one.logit);
      const at::Tensor targets = at::tensor({std::int64_t{0}, classes - 1, classes / 2}, at::kLong);
      const at::Tensor full = logits.to(at::kFloat).requires_grad_();
      const at::Tensor wanted = at::cross_entropy_loss(full, targets, {}, at::Reduction::None);
      wanted.sum().backward();
      for (const auto kernel : {&cross_entropy<TypeParam, kWide>, &cross_entropy<TypeParam, 1>}) {
        at::Tensor gradient = logits.clone(), losses = at::full({3}, -1, at::kFloat);
        cuda_on_cpu::launch(3, kFusedThreads, [&] {
          kernel(gradient.data_ptr<TypeParam>(), targets.const_data_ptr<std::int64_t>(), losses.data_ptr<float>(), classes, true,
                 0, 0);
        });
        const auto text = std::to_string(classes) + " classes, " + std::to_string(one.count) + " of " + std::to_string(one.logit);
        EXPECT_TRUE(at::allclose(losses, wanted.detach(), 1e-6, 1e-6, true)) << text << losses << wanted;
        EXPECT_TRUE(at::allclose(gradient.to(at::kFloat), full.grad(), 1.0 / 128, 1e-4, true)) << text;
      }
    }
  }
}

TYPED_TEST(FusedKernels, DropoutIsThatOfTheCpuToTheBit) {
  constexpr auto kType = c10::CppTypeToScalarType<TypeParam>::value;
  const DropoutPlace place{.seed = 123456789012, .site = 5, .first_token = (std::int64_t{1} << 32) - 10};
  const auto numbers = dropout_numbers(0.3);
  for (const std::int64_t width : {2, 10, 96}) {
    const at::Tensor x = mixed({3, 7, width}, kType), wanted = dropout(x, 0.3, place);
    at::Tensor out = at::full_like(x, -1);
    cuda_on_cpu::launch(blocks_of(21 * ((width + 3) / 4)), kFusedThreads, [&] {
      drop(x.const_data_ptr<TypeParam>(), out.data_ptr<TypeParam>(), std::int64_t{21}, width, numbers.threshold, numbers.scale,
           place.first_token, place.site, place.seed);
    });
    EXPECT_TRUE(at::equal(out, wanted)) << width;
    EXPECT_TRUE(out.eq(0).any().template item<bool>());
  }
}

}  // namespace
}  // namespace trainyard::model
