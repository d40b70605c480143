#include "controller/decide/decisions.h"

#include <optional>

#include <gtest/gtest.h>

#include "controller/decide/snapshot.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::at;
using test::ClusterBuilder;
using test::make_job;

TEST(Decisions, AreTheSameOnASnapshotThatWasWrittenAndRead) {
  Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  for (const char* name : {"a", "b"}) {
    Job job = make_job(name, 2, 8);
    cluster.put(job);
  }
  const Json ours = decisions(cluster, at(1));
  ASSERT_FALSE(ours["jobs"].empty());
  const Snapshot read = read_snapshot(to_json(cluster, at(1)));
  EXPECT_EQ(decisions(read.cluster, read.now), ours);
  cluster.erase_node("node-0");
  EXPECT_EQ(hash_of(decisions(read.cluster, read.now)), hash_of(ours));
  Job longer = make_job("b", 1, 8);
  longer.spec.suspend = true;
  cluster.put(longer);
  EXPECT_NE(hash_of(decisions(cluster, at(1))), hash_of(ours));
}

TEST(Decisions, RestOnNothingThatWasReckonedBefore) {
  auto builder = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).gpu_model("NVIDIA-H100-80GB-HBM3", 81559);
  builder.change("node-1", [](Node& node) { node.labels["nvidia.com/gpu.memory"] = "275040"; }).use("node-1", 8, "b");
  test::World world(builder.build());
  Job job = make_job("a", 1, 8);  // 8B parameters on each GPU: for those of node-1 alone
  job.spec.model.size = contract::ModelSize{
      .layers = 32, .hiddenSize = 4096, .heads = 32, .keyValueHeads = 8, .feedForwardSize = 14336, .vocabularySize = 128256};
  job.spec.data.sequenceLength = 4096;
  job.spec.training.globalBatchSize = 8;
  world.add(job);
  world.settle();
  ASSERT_EQ(world.condition("Placed").reason, "Unschedulable");
  const Json ours = decisions(world.cluster, at(world.now));
  world.job().device_needs.forget();
  world.job().device_needs.get(1, [] { return std::optional(DeviceNeed{test::kGpu, 1}); });
  EXPECT_EQ(decisions(world.cluster, at(world.now)), ours) << "node-0 is no place for it, whatever was believed";
}

}  // namespace
}  // namespace trainyard::decide
