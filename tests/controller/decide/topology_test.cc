#include "controller/decide/topology.h"

#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

TEST(ATrial, LeavesTheTopologyAsItWasAlsoWhereSumsSaturate) {
  const Cluster cluster = test::ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  Topology topology(cluster);
  const Resources first = topology.free_on(0), second = topology.free_on(1);
  {
    Trial trial(topology);
    trial.take(0, {{test::kGpu, 8}, {"of nobody", 1}});
    trial.give(0, {{"cpu", std::numeric_limits<std::int64_t>::max()}});
    trial.give(0, {{"cpu", std::numeric_limits<std::int64_t>::max()}});
    trial.take(1, {{test::kGpu, 3}});
    EXPECT_EQ(topology.free_on(0)[test::kGpu], 0);
    EXPECT_EQ(topology.free_on(1)[test::kGpu], 5);
  }
  EXPECT_EQ(topology.free_on(0), first);
  EXPECT_EQ(topology.free_on(1), second);
}

TEST(ATopology, PutsNodesOfOneDomainTogetherWhereverTheyStandByName) {
  Cluster cluster = test::ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build();
  Node node = *cluster.node("node-1");
  node.labels = cluster.node("node-3")->labels;
  cluster.put(node);
  node = *cluster.node("node-2");
  node.labels = cluster.node("node-0")->labels;
  cluster.put(node);
  const Topology topology(cluster);
  const auto rack_of = [&](const char* name) { return topology.ancestor(topology.find_node(name), topology.level_of("rack")); };
  EXPECT_EQ(rack_of("node-0"), rack_of("node-2"));
  EXPECT_EQ(rack_of("node-1"), rack_of("node-3"));
  EXPECT_NE(rack_of("node-0"), rack_of("node-1"));
  EXPECT_EQ(topology.domains().size(), 4u + 2u + 1u);
  EXPECT_EQ(topology.find_node("node-4"), -1);
}

}  // namespace
}  // namespace trainyard::decide
