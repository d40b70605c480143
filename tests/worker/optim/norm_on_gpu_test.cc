// The kernels of the gradient norm on a GPU; norm_kernels_test.cc tests their arithmetic without one.
#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>

#include <gtest/gtest.h>

#include "tests/worker/optim/mixed.h"
#include "worker/optim/gradient_norm.h"

namespace trainyard::optim {
namespace {

class NormOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  }
};

TEST_F(NormOnGpu, BlockSumsAreTheBitsOfTheCpu) {
  for (const std::int64_t dim : {0, 1}) {
    plan::Parameter p{.name = "w", .shape = {4096, 1000}, .stages = {0}};
    p.split_dim = dim;
    for (const std::int32_t tp : {1, 4}) {
      for (std::int32_t rank = 0; rank < tp; ++rank) {
        const auto box = plan::box_of(p, tp, rank);
        const std::int64_t size = box.sizes[static_cast<std::size_t>(dim)];
        const at::Tensor part = mixed(p.shape).narrow(dim, rank * size, size);
        EXPECT_TRUE(at::equal(block_sums(part.cuda(), p, box).cpu(), block_sums(part, p, box)))
            << dim << ", rank " << rank << " of " << tp;
      }
    }
  }
}

TEST_F(NormOnGpu, HalvingSumsAreTheBitsOfTheCpu) {
  for (const std::int64_t count : {1, 3, 255, 256, 257, 100'000}) {
    const at::Tensor values = mixed({count}).to(at::kDouble);
    EXPECT_EQ(halving_sum(values.cuda()).item<double>(), halving_sum(values).item<double>()) << count;
  }
}

}  // namespace
}  // namespace trainyard::optim

#endif  // TRAINYARD_CUDA
