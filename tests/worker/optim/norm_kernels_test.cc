// The kernels of the gradient norm without a GPU; norm_on_gpu_test.cc runs them on one.

#include "tests/support/cuda_on_cpu.h"

#include "worker/optim/norm_kernels.cuh"

#include <numeric>

#include <gtest/gtest.h>

#include "tests/worker/optim/mixed.h"
#include "worker/optim/gradient_norm.h"

namespace trainyard::optim {
namespace {

at::Tensor sums_by_kernel(const at::Tensor& packed, const NormCut& cut) {
  at::Tensor sums = at::full({cut.num_blocks()}, -1.0, at::kDouble);
  cuda_on_cpu::launch(static_cast<unsigned>(cut.num_blocks()), kNormThreads,
                      [&] { sum_blocks(packed.const_data_ptr<float>(), cut, sums.data_ptr<double>()); });
  return sums;
}

double halving_sum_by_kernel(const at::Tensor& values) {
  const at::Tensor scratch = values.clone();
  double sum = -1;
  cuda_on_cpu::launch(1, kNormThreads, [&] { sum_halving(scratch.data_ptr<double>(), scratch.numel(), &sum); });
  return sum;
}

TEST(SumBlocks, GivesTheBitsOfTheCpu) {
  for (const std::int64_t elements : {1, 255, 4095, 4096, 4097, 10'000}) {
    const plan::Parameter p{.name = "w", .shape = {elements}, .stages = {0}};
    const at::Tensor gradient = mixed(p.shape);
    const NormCut cut = norm_cut(p, plan::box_of(p, 1, 0));
    EXPECT_TRUE(at::equal(sums_by_kernel(gradient, cut), block_sums(gradient, p, plan::box_of(p, 1, 0)))) << elements;
  }
}

TEST(SumBlocks, TakesATensorThatIsCutForWhatItIsOfTheWhole) {
  for (const std::int64_t dim : {0, 1}) {
    plan::Parameter p{.name = "w", .shape = {48, 200}, .stages = {0}};
    p.split_dim = dim;
    for (std::int32_t rank = 0; rank < 4; ++rank) {
      const auto box = plan::box_of(p, 4, rank);
      const std::int64_t size = box.sizes[static_cast<std::size_t>(dim)];
      const at::Tensor packed = mixed(p.shape).narrow(dim, rank * size, size).contiguous();
      EXPECT_TRUE(at::equal(sums_by_kernel(packed, norm_cut(p, box)), block_sums(packed, p, box))) << dim << ", rank " << rank;
    }
  }
}

TEST(SumHalving, GivesTheBitsOfTheCpu) {
  for (const std::int64_t count : {1, 2, 3, 100, 255, 256, 257, 300, 511, 512, 513, 5000}) {
    const at::Tensor values = mixed({count}).to(at::kDouble);
    EXPECT_EQ(halving_sum_by_kernel(values), halving_sum(values).item<double>()) << count;
  }
}

}  // namespace
}  // namespace trainyard::optim
