#include "worker/plan/device.h"

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

using contract::ComputePrecision;

TEST(PeakFlops, TellVariantsOfADeviceAndFormatsApart) {
  EXPECT_EQ(peak_flops("NVIDIA H100 80GB HBM3", ComputePrecision::kBF16), 989e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 80GB HBM3", ComputePrecision::kFP16), 989e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 80GB HBM3", ComputePrecision::kFP8), 1979e12);
  EXPECT_FALSE(peak_flops("NVIDIA H100 80GB HBM3", ComputePrecision::kFP32));
  EXPECT_EQ(peak_flops("NVIDIA H100 PCIe", ComputePrecision::kBF16), 756e12);
  EXPECT_EQ(peak_flops("NVIDIA A100-SXM4-80GB", ComputePrecision::kBF16), 312e12);
  EXPECT_FALSE(peak_flops("NVIDIA A100-SXM4-80GB", ComputePrecision::kFP8)) << "it has none";
  EXPECT_FALSE(peak_flops("NVIDIA GeForce RTX 4090", ComputePrecision::kBF16));
  EXPECT_FALSE(peak_flops("", ComputePrecision::kBF16));
}

TEST(FindDevice, ReadsTheNamesOfNodesLabels) {
  ASSERT_TRUE(find_device("NVIDIA-H100-80GB-HBM3"));
  EXPECT_EQ(find_device("NVIDIA-H100-80GB-HBM3")->link_bytes, 450e9);
  EXPECT_EQ(find_device("NVIDIA-H100-PCIe")->half_flops, 756e12);
  EXPECT_EQ(find_device("NVIDIA-H100-PCIe")->network_bytes, 0) << "nobody knows what is around it";
  EXPECT_EQ(find_device("NVIDIA-A100-SXM4-80GB")->network_bytes, 25e9);
  EXPECT_EQ(find_device("A100-SXM4-40GB")->half_flops, 312e12);
}

TEST(FindDevice, KnowsNoPartsOfDevicesAndNoNamesThatOnlyLookAlike) {
  EXPECT_FALSE(find_device("A100-SXM4-40GB-MIG-1g.5gb"));
  EXPECT_FALSE(find_device("NVIDIA A100-SXM4-40GB MIG 1g.5gb"));
  EXPECT_FALSE(find_device("NVIDIA-H100-80GB-HBM3-SHARED"));
  EXPECT_FALSE(find_device("NVIDIA RTX A1000"));
  EXPECT_FALSE(find_device("NVIDIA GB200")) << "its GPUs do more than a B200";
  EXPECT_EQ(find_device("NVIDIA GH200 480GB")->host_bytes, 450e9);
}

}  // namespace
}  // namespace trainyard::plan
