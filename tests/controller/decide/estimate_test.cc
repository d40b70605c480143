#include "controller/decide/estimate.h"

#include <functional>

#include <gtest/gtest.h>

#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::make_job;

ClusterBuilder four_nodes(const std::string& product = "NVIDIA-H100-80GB-HBM3") {
  return ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).gpu_model(product, 81'559);
}
contract::PlacementStatus told(const Cluster& cluster, const Job& job, const std::vector<std::string>& on) {
  contract::PlacementStatus place;
  tell_place(Topology(cluster), job.spec, on, place);
  return place;
}

TEST(TellPlace, TellsAllOfGpusThatAreKnown) {
  const auto place = told(four_nodes().build(), make_job("a", 2, 8), {"node-0", "node-2"});
  ASSERT_EQ(place.traffic.size(), 2u);
  EXPECT_GT(place.traffic[0].bytesPerStep, 0);
  EXPECT_GT(place.traffic[0].seconds.value_or(0), 0);
  EXPECT_EQ(place.memoryPerRank->device.value_or(0), std::int64_t{81'559} << 20);
  ASSERT_TRUE(place.estimate);
  EXPECT_GT(place.estimate->mfu, 0);
  EXPECT_LE(place.estimate->mfu, 1);
  EXPECT_FALSE(place.unknown);
  EXPECT_FALSE(place.offloadBytesPerStep);
}

TEST(TellPlace, GoesByTheSlowestOfTheGpus) {
  auto builder = four_nodes();
  builder.change("node-2", [](Node& node) {
    node.labels["nvidia.com/gpu.product"] = "NVIDIA-A100-SXM4-40GB";
    node.labels["nvidia.com/gpu.memory"] = "40960";
  });
  const auto cluster = builder.build();
  const Job job = make_job("a", 2, 8);
  const auto mixed = told(cluster, job, {"node-0", "node-2"}), fast = told(cluster, job, {"node-0", "node-1"});
  EXPECT_EQ(mixed.memoryPerRank->device.value_or(0), std::int64_t{40'960} << 20);
  EXPECT_LT(mixed.estimate->tokensPerSecond, fast.estimate->tokensPerSecond);
  EXPECT_NEAR(mixed.traffic[1].seconds.value_or(0), fast.traffic[1].seconds.value_or(1) * 2, 1e-9) << "half the network";
}

TEST(TellPlace, SaysWhatItDoesNotKnow) {
  const auto unknown = [](
                           const std::function<void(Node&)>& change, const std::vector<std::string>& on,
                           const std::function<void(Job&)>& edit = [](Job&) {}) {
    Job job = make_job("a", static_cast<int>(on.size()), 8);
    edit(job);
    const auto place = told(four_nodes().change("node-0", change).build(), job, on);
    EXPECT_FALSE(place.estimate && place.memoryPerRank->device);
    return place.unknown.value_or("");
  };
  const std::string product = "nvidia.com/gpu.product", memory = "nvidia.com/gpu.memory";
  EXPECT_EQ(unknown([&](Node& node) { node.labels.erase(product); }, {"node-0"}),
            "how fast it can be: node node-0 has no label nvidia.com/gpu.product");
  EXPECT_EQ(unknown([&](Node& node) { node.labels[product] = "Tesla-T4"; }, {"node-1", "node-0"}),
            "how fast it can be: nothing is known of Tesla-T4, the GPUs of node node-0");
  EXPECT_EQ(unknown([&](Node& node) { node.labels[memory] = "much"; }, {"node-0"}),
            "whether a rank's memory is enough: node node-0 has no label nvidia.com/gpu.memory");
  EXPECT_EQ(unknown([&](Node& node) { node.labels["nvidia.com/gpu.replicas"] = "4"; }, {"node-0"}),
            "whether a rank's memory is enough: the GPUs of node node-0 are shared (label nvidia.com/gpu.replicas)");
  EXPECT_EQ(unknown([](Node&) {}, {"node-0"},
                    [](Job& job) { job.spec.training.precision.compute = contract::ComputePrecision::kFP32; }),
            "how fast it can be: no peak is known of NVIDIA-H100-80GB-HBM3 in FP32");
  EXPECT_EQ(unknown([&](Node& node) { node.labels[product] = "NVIDIA-H100-PCIe"; }, {"node-0", "node-1"}),
            "how fast it can be: no network is known to belong to GPUs such as those of node node-0");
}

TEST(TellPlace, NeedsNoNetworkInsideOneNode) {
  const auto place = told(four_nodes("NVIDIA-H100-PCIe").build(), make_job("a", 1, 8), {"node-0"});
  EXPECT_TRUE(place.estimate);
  EXPECT_FALSE(place.unknown);
}

TEST(TellPlace, LeavesOutWhatAnotherEngineOrACpuDoesNotHave) {
  const auto custom = told(four_nodes().build(), test::make_custom_job("a", 1, 8), {"node-0"});
  EXPECT_EQ(custom, contract::PlacementStatus{});
  const auto cpu = told(four_nodes().build(), make_job("a", 2), {"node-0", "node-1"});
  EXPECT_TRUE(cpu.memoryPerRank);
  EXPECT_EQ(cpu.traffic.size(), 2u);
  EXPECT_FALSE(cpu.estimate || cpu.unknown);
}

TEST(TellPlace, SaysWhatNeedsNoNodesWhereKubeSchedulerChoosesThem) {
  const auto place = told(Cluster{}, make_job("a", 2, 8), {"", ""});
  EXPECT_TRUE(place.memoryPerRank);
  EXPECT_TRUE(place.traffic.empty());
  EXPECT_FALSE(place.estimate || place.unknown);
}

TEST(TellPlace, LeavesOutANodeThatIsGone) {
  const auto place = told(four_nodes().build(), make_job("a", 3, 8), {"node-0", "gone", "node-1"});
  EXPECT_TRUE(place.estimate);
}

}  // namespace
}  // namespace trainyard::decide
