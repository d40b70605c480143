// The kernel of AdamW without a GPU; adamw_on_gpu_test.cc runs it on one.

#include "tests/support/cuda_on_cpu.h"

#include "worker/optim/adamw_kernels.cuh"

#include <array>

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include "tests/worker/optim/ulps.h"
#include "worker/optim/adamw.h"

namespace trainyard::optim {
namespace {

TEST(AdamWKernel, IsWithinAnUlpOfTheOperationsAndWritesTheWeight) {
  const double ulps = test::ulps_by_the_root();
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
        EXPECT_LE(test::ulps_of_step(master, wanted, before), ulps) << count << ' ' << step;
        EXPECT_LE(test::ulps_between(average, optimizer.averages()[0]), 1) << count << ' ' << step;
        EXPECT_LE(test::ulps_between(square, optimizer.squares()[0]), 1) << count << ' ' << step;
      }
      EXPECT_TRUE(at::equal(weight, master.to(at::kBFloat16))) << count;
    }
  }
}

TEST(AdamWKernel, WithMomentsInBf16IsTheOperationsUpToTheirRounding) {
  const double ulps = test::ulps_by_the_root();
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
      EXPECT_LE(test::ulps_of_step(master, wanted, before), ulps) << count << ' ' << step;
      // An ulp of FP32 may be what decides between two of BF16.
      EXPECT_TRUE(at::allclose(average.to(at::kFloat), optimizer.averages()[0].to(at::kFloat), 1.0 / 128, 0))
          << count << ' ' << step;
      EXPECT_TRUE(at::allclose(square.to(at::kFloat), optimizer.squares()[0].to(at::kFloat), 1.0 / 128, 0))
          << count << ' ' << step;
    }
  }
}

/// Blocks with an end and without, of segments that divide by four and that do not.
TEST(AdamWKernel, WithMomentsInCodesIsTheOperationsUpToACode) {
  const double ulps = test::ulps_by_the_root();
  contract::Optimizer options;
  at::set_num_threads(1);
  for (const auto& shape : {std::array<std::int64_t, 3>{9, 256, 256}, {3, 688, 344}, {5, 333, 333}}) {
    const std::int64_t rows = shape[0], columns = shape[1], segment = shape[2];
    at::Tensor wanted = at::arange(rows * columns, at::kFloat).mul(0.37).sin().view({rows, columns}), master = wanted.clone(),
               weight = at::zeros({rows, columns}, at::kBFloat16);
    AdamW optimizer(options, {{.master = wanted, .weight = {}, .segment = segment}}, at::kByte);
    at::Tensor average = at::empty_like(wanted, at::kByte), square = at::empty_like(average);
    at::Tensor average_scales = at::empty_like(optimizer.average_scales()[0]), square_scales = at::empty_like(average_scales);
    for (std::int64_t step = 1; step <= 4; ++step) {
      const at::Tensor gradient =
          at::arange(rows * columns, at::kFloat).mul(0.11).add(static_cast<double>(step)).cos().pow(5).view({rows, columns});
      const at::Tensor before = wanted.clone();
      master.copy_(before);
      average.copy_(optimizer.averages()[0]);
      square.copy_(optimizer.squares()[0]);
      average_scales.copy_(optimizer.average_scales()[0]);
      square_scales.copy_(optimizer.square_scales()[0]);
      optimizer.step({gradient}, 0.01);
      const AdamWNumbers numbers = adamw_numbers(options, step, 0.01, true);
      cuda_on_cpu::launch(static_cast<unsigned>(average_scales.numel() / (kAdamWThreads / kWarp) + 1), kAdamWThreads, [&] {
        adamw_step_in_codes(master.data_ptr<float>(), average.data_ptr<std::uint8_t>(), square.data_ptr<std::uint8_t>(),
                            average_scales.data_ptr<float>(), square_scales.data_ptr<float>(), gradient.const_data_ptr<float>(),
                            weight.data_ptr<c10::BFloat16>(), rows * columns, segment, numbers,
                            step % 2 == 0 && segment % 4 == 0);
      });
      SCOPED_TRACE(testing::Message() << segment << ' ' << step);
      EXPECT_LE(test::ulps_of_step(master, wanted, before), ulps);
      EXPECT_LE(test::ulps_between(average_scales, optimizer.average_scales()[0]), 1);
      EXPECT_LE(test::ulps_between(square_scales, optimizer.square_scales()[0]), 1);
      // An ulp of FP32 may be what decides between two codes.
      for (const auto& [a, b] : {std::pair{average, optimizer.averages()[0]}, {square, optimizer.squares()[0]}}) {
        const at::Tensor off = (a.to(at::kInt) - b.to(at::kInt)).abs();
        EXPECT_LE(off.max().item<int>(), 1);
        EXPECT_LE(off.sum().item<std::int64_t>(), rows * columns / 1000);
      }
    }
    EXPECT_TRUE(at::equal(weight, master.to(at::kBFloat16)));
  }
}

}  // namespace
}  // namespace trainyard::optim
