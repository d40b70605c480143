// The kernel of AdamW without a GPU; adamw_on_gpu_test.cc runs it on one.

#include "tests/support/cuda_on_cpu.h"

#include "worker/optim/adamw_kernels.cuh"

#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include "tests/worker/optim/ulps.h"
#include "worker/optim/adamw.h"

namespace trainyard::optim {
namespace {

TEST(AdamWKernel, IsWithinAnUlpOfTheOperationsAndWritesTheWeight) {
  contract::Optimizer options;
  options.weightDecay = 0.1;
  for (const std::int64_t count : {1, 3, 1024, 4099}) {
    for (const bool decays : {true, false}) {
      const at::Tensor initial = at::arange(count, at::kFloat).mul(0.37).sin();
      at::Tensor wanted = initial.clone(), master = initial.clone(), weight = at::zeros({count}, at::kBFloat16);
      at::Tensor average = at::zeros({count}), square = at::zeros({count});
      AdamW optimizer(options, {{wanted, decays}});
      for (std::int64_t step = 1; step <= 5; ++step) {
        const at::Tensor gradient = at::arange(count, at::kFloat).mul(0.11).add(static_cast<double>(step)).cos();
        const at::Tensor before = wanted.clone();
        master.copy_(before);
        average.copy_(optimizer.averages()[0]);
        square.copy_(optimizer.squares()[0]);
        optimizer.step({gradient}, 0.01);
        const AdamWNumbers numbers = adamw_numbers(options, step, 0.01, decays);
        cuda_on_cpu::launch(static_cast<unsigned>(count / (kAdamWThreads * kAdamWEach) + 1), kAdamWThreads, [&] {
          adamw_step(master.data_ptr<float>(), average.data_ptr<float>(), square.data_ptr<float>(),
                     gradient.const_data_ptr<float>(), weight.data_ptr<c10::BFloat16>(), count, numbers, step % 2 == 0);
        });
        EXPECT_LE(test::ulps_of_step(master, wanted, before), 1) << count << ' ' << step;
        EXPECT_LE(test::ulps_between(average, optimizer.averages()[0]), 1) << count << ' ' << step;
        EXPECT_LE(test::ulps_between(square, optimizer.squares()[0]), 1) << count << ' ' << step;
      }
      EXPECT_TRUE(at::equal(weight, master.to(at::kBFloat16))) << count;
    }
  }
}

TEST(AdamWKernel, WithMomentsInBf16IsTheOperationsUpToTheirRounding) {
  contract::Optimizer options;
  options.beta2 = 0.95;
  for (const std::int64_t count : {3, 4099}) {
    at::Tensor wanted = at::arange(count, at::kFloat).mul(0.37).sin(), master = wanted.clone(),
               weight = at::zeros({count}, at::kBFloat16);
    at::Tensor average = at::zeros({count}, at::kBFloat16), square = at::zeros({count}, at::kBFloat16);
    AdamW optimizer(options, {{wanted, true}}, at::kBFloat16);
    for (std::int64_t step = 1; step <= 5; ++step) {
      const at::Tensor gradient = at::arange(count, at::kFloat).mul(0.11).add(static_cast<double>(step)).cos();
      const at::Tensor before = wanted.clone();
      master.copy_(before);
      average.copy_(optimizer.averages()[0]);
      square.copy_(optimizer.squares()[0]);
      optimizer.step({gradient}, 0.01);
      const AdamWNumbers numbers = adamw_numbers(options, step, 0.01, true);
      cuda_on_cpu::launch(static_cast<unsigned>(count / (kAdamWThreads * kAdamWEach) + 1), kAdamWThreads, [&] {
        adamw_step(master.data_ptr<float>(), average.data_ptr<c10::BFloat16>(), square.data_ptr<c10::BFloat16>(),
                   gradient.const_data_ptr<float>(), weight.data_ptr<c10::BFloat16>(), count, numbers, step % 2 == 0);
      });
      EXPECT_LE(test::ulps_of_step(master, wanted, before), 1) << count << ' ' << step;
      // An ulp of FP32 may be what decides between two of BF16.
      EXPECT_TRUE(at::allclose(average.to(at::kFloat), optimizer.averages()[0].to(at::kFloat), 1.0 / 128, 0))
          << count << ' ' << step;
      EXPECT_TRUE(at::allclose(square.to(at::kFloat), optimizer.squares()[0].to(at::kFloat), 1.0 / 128, 0))
          << count << ' ' << step;
    }
  }
}

}  // namespace
}  // namespace trainyard::optim
