// AdamW's kernel on a GPU against the operations on the CPU; adamw_kernels_test.cc tests its arithmetic without a GPU.
#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace trainyard::optim

#endif  // TRAINYARD_CUDA
