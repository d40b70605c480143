#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>

#include <gtest/gtest.h>

#include "worker/mesh/host_link.h"

namespace trainyard::mesh {
namespace {

TEST(HostLinkOnGpu, CarriesBothWaysInTheOrderOfWhatTheDeviceComputes) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  const at::Device device(at::kCUDA, 0);
  const auto link = host_link(device);
  constexpr std::int64_t kCount = 1 << 24;
  const at::Tensor down = link->memory({kCount}, at::kFloat), up = link->passing_memory({kCount}, at::kFloat);
  EXPECT_TRUE(down.is_pinned());
  EXPECT_TRUE(up.is_pinned());
  at::Tensor x = at::zeros({kCount}, at::TensorOptions(device)), y = at::zeros_like(x);
  for (int i = 1; i <= 20; ++i) {
    x.add_(1);  // not done yet when the copy is started
    const auto came = link->start(Way::kDown, [&] { down.copy_(x, /*non_blocking=*/true); });
    came->wait_on_host();
    EXPECT_EQ(down.min().item<float>(), i);
    EXPECT_EQ(down.max().item<float>(), i);
    up.copy_(down);
    const auto went = link->start(Way::kUp, [&] { y.copy_(up, /*non_blocking=*/true); });
    went->wait_on_device();
    x.copy_(y);  // after it
    went->wait_on_host();
  }
  EXPECT_EQ(x.min().item<float>(), 20);
}

}  // namespace
}  // namespace trainyard::mesh

#endif  // TRAINYARD_CUDA
