// AdamW's kernel on a GPU against the operations on the CPU; adamw_kernels_test.cc tests its arithmetic without a GPU.
#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>

#include <gtest/gtest.h>

#include "tests/worker/optim/ulps.h"
#include "worker/optim/adamw.h"

namespace trainyard::optim {
namespace {

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

TEST(AdamWOnGpu, OfOneStepIsWithinAnUlpOfTheCpu) {
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
    EXPECT_LE(test::ulps_of_step(there.cpu(), here, before), 1) << step;
    EXPECT_LE(test::ulps_between(average.cpu(), on_cpu.averages()[0]), 1) << step;
    EXPECT_LE(test::ulps_between(square.cpu(), on_cpu.squares()[0]), 1) << step;
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
      const at::Tensor gradient = at::arange(kCount, at::kFloat).mul(0.11).add(step).cos().mul(1e-3), up = gradient.cuda();
      on_cpu.step({gradient}, 0.01, 0.7);
      offloaded.step({up}, 0.01, 0.7);
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
