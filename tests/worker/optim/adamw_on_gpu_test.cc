// AdamW's kernel on a GPU against the operations on the CPU; adamw_kernels_test.cc tests its arithmetic without a GPU.
#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>

#include <gtest/gtest.h>

#include "tests/worker/optim/ulps.h"
#include "worker/optim/adamw.h"

namespace trainyard::optim {
namespace {

// Of parameters. LibTorch's square root on a CPU with AVX-512 is MKL's, an ulp off in some numbers, where the GPU's is right: then the step is
// off by 2^-23 of itself, which is at most twice the largest of before and after, hence four units in its last place; and one of rounding.
constexpr double kUlpsOfStep = 5;

TEST(AdamWOnGpu, FollowsTheCpuAndWritesTheWeightsItIsGiven) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  contract::Optimizer options;
  options.weightDecay = 0.1;
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor initial = at::arange(100'003, at::kFloat).mul(0.37).sin();
    const at::Tensor here = initial.clone(), there = initial.cuda(), weight = at::zeros_like(there, type);
    AdamW on_cpu(options, {{here, true}}), on_gpu(options, {{there, true, weight}});
    EXPECT_FALSE(on_cpu.writes_weights());
    EXPECT_TRUE(on_gpu.writes_weights());
    for (int step = 1; step <= 20; ++step) {
      const at::Tensor gradient = at::arange(100'003, at::kFloat).mul(0.11).add(step).cos().mul(1e-3);
      on_cpu.step({gradient}, 0.01);
      on_gpu.step({gradient.cuda()}, 0.01);
    }
    EXPECT_TRUE(at::allclose(there.cpu(), here, 1e-5, 1e-6));
    EXPECT_TRUE(at::allclose(on_gpu.averages()[0].cpu(), on_cpu.averages()[0], 1e-5, 1e-9));
    EXPECT_TRUE(at::allclose(on_gpu.squares()[0].cpu(), on_cpu.squares()[0], 1e-5, 1e-12));
    EXPECT_TRUE(at::equal(weight, there.to(type)));
  }
}

TEST(AdamWOnGpu, OfOneStepIsThatOfTheCpuButForItsSquareRoot) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  contract::Optimizer options;
  options.weightDecay = 0.1;
  const at::Tensor here = at::arange(100'003, at::kFloat).mul(0.37).sin(), there = here.cuda();
  AdamW on_cpu(options, {{here, true}}), on_gpu(options, {{there, true}});
  for (int step = 1; step <= 20; ++step) {
    const at::Tensor gradient = at::arange(100'003, at::kFloat).mul(0.11).add(step).cos().mul(1e-3);
    at::Tensor average = on_gpu.averages()[0], square = on_gpu.squares()[0];
    const at::Tensor before = here.clone();
    there.copy_(before);
    average.copy_(on_cpu.averages()[0]);
    square.copy_(on_cpu.squares()[0]);
    on_cpu.step({gradient}, 0.01);
    on_gpu.step({gradient.cuda()}, 0.01);
    EXPECT_LE(test::ulps_of_step(there.cpu(), here, before), kUlpsOfStep) << step;
    EXPECT_LE(test::ulps_between(average.cpu(), on_cpu.averages()[0]), 1) << step;
    EXPECT_LE(test::ulps_between(square.cpu(), on_cpu.squares()[0]), 1) << step;
  }
}

/// From equal codes: the new master within 1 ulp, scales too, and of a thousand codes at most one another, next to it.
TEST(AdamWOnGpu, WithMomentsInCodesOfOneStepIsThatOfTheCpuUpToACode) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  contract::Optimizer options;
  options.weightDecay = 0.1;
  for (const std::int64_t columns : {512, 344, 333}) {
    constexpr std::int64_t kRows = 301;
    const std::int64_t segment = columns % 256 == 0 ? 256 : columns, count = kRows * columns;
    const at::Tensor here = at::arange(count, at::kFloat).mul(0.37).sin().view({kRows, columns}), there = here.cuda();
    const at::Tensor weight = at::zeros_like(there, at::kBFloat16);
    AdamW on_cpu(options, {{.master = here, .weight = {}, .segment = segment}}, at::kByte);
    AdamW on_gpu(options, {{.master = there, .weight = weight, .segment = segment}}, at::kByte);
    for (int step = 1; step <= 20; ++step) {
      SCOPED_TRACE(testing::Message() << columns << " columns, step " << step);
      const at::Tensor gradient = at::arange(count, at::kFloat).mul(0.11).add(step).cos().pow(5).mul(1e-3).view({kRows, columns});
      const at::Tensor before = here.clone();
      there.copy_(before);
      const auto copy = [](at::Tensor to, const at::Tensor& from) { to.copy_(from); };
      copy(on_gpu.averages()[0], on_cpu.averages()[0]);
      copy(on_gpu.squares()[0], on_cpu.squares()[0]);
      copy(on_gpu.average_scales()[0], on_cpu.average_scales()[0]);
      copy(on_gpu.square_scales()[0], on_cpu.square_scales()[0]);
      on_cpu.step({gradient}, 0.01);
      on_gpu.step({gradient.cuda()}, 0.01);
      EXPECT_LE(test::ulps_of_step(there.cpu(), here, before), kUlpsOfStep);
      EXPECT_LE(test::ulps_between(on_gpu.average_scales()[0].cpu(), on_cpu.average_scales()[0]), 1);
      EXPECT_LE(test::ulps_between(on_gpu.square_scales()[0].cpu(), on_cpu.square_scales()[0]), 1);
      for (const auto& [a, b] :
           {std::pair{on_gpu.averages()[0].cpu(), on_cpu.averages()[0]}, {on_gpu.squares()[0].cpu(), on_cpu.squares()[0]}}) {
        const at::Tensor off = (a.to(at::kInt) - b.to(at::kInt)).abs();
        EXPECT_LE(off.max().item<int>(), 1);
        EXPECT_LE(off.sum().item<std::int64_t>(), count / 1000);
      }
      EXPECT_TRUE(at::equal(weight, there.to(at::kBFloat16)));
    }
  }
}

TEST(AdamWOnGpu, OffloadedGivesTheNumbersOfTheCpuAndTheDeviceItsWeights) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  contract::Optimizer options;
  options.weightDecay = 0.1;
  constexpr std::int64_t kCount = 10'000'019;  // three blocks
  const auto link = mesh::host_link(at::Device(at::kCUDA, 0));
  for (const auto type : {at::kBFloat16, at::kHalf, at::kFloat}) {
    const at::Tensor here = at::arange(kCount, at::kFloat).mul(0.37).sin();
    const at::Tensor pinned = link->memory({kCount}, at::kFloat).copy_(here);
    const at::Tensor weight = at::zeros({kCount}, at::TensorOptions(type).device(at::kCUDA));
    AdamW on_cpu(options, {{here, true}}), offloaded(options, {{pinned, true, weight}}, HostSide{.link = link.get()});
    for (int step = 1; step <= 4; ++step) {
      const at::Tensor gradient = at::arange(kCount, at::kFloat).mul(0.11).add(step).cos().mul(1e-3);
      offloaded.step({gradient}, 0.01, 0.7);  // which leaves it as it is
      on_cpu.step({gradient}, 0.01, 0.7);
    }
    EXPECT_TRUE(at::equal(pinned, here));
    EXPECT_TRUE(at::equal(offloaded.averages()[0], on_cpu.averages()[0]));
    EXPECT_TRUE(at::equal(offloaded.squares()[0], on_cpu.squares()[0]));
    EXPECT_TRUE(at::equal(weight.cpu(), here.to(type)));
  }
}

}  // namespace
}  // namespace trainyard::optim

#endif  // TRAINYARD_CUDA
