#include "controller/decide/fragmentation.h"

#include <gtest/gtest.h>

#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::kGpu;

std::vector<double> of(const ClusterBuilder& builder) { return fragmentation(Topology(builder.build()), kGpu); }

TEST(Fragmentation, IsNoneWhereAllIsFreeOrNothing) {
  EXPECT_EQ(of(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8)), (std::vector<double>{0, 0}));
  EXPECT_EQ(of(ClusterBuilder{}.racks(1).nodes_per_rack(1).gpus_per_node(8).use("node-0", 8)), (std::vector<double>{0, 0}));
}

TEST(Fragmentation, IsTheShareOfWhatIsFreeInDomainsThatAreInUse) {
  // 8 + 4 free in a rack that is in use, 16 in one that is not; 4 of 28 on a node that is in use.
  const auto found = of(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).use("node-0", 4));
  EXPECT_DOUBLE_EQ(found[0], 12.0 / 28);
  EXPECT_DOUBLE_EQ(found[1], 4.0 / 28);
}

TEST(Fragmentation, LeavesOutNodesThatTakeNoPods) {
  const auto cordon = [](Node& node) { node.unschedulable = true; };
  const auto lose = [](Node& node) { node.ready = false; };
  const auto found = of(ClusterBuilder{}
                            .racks(1)
                            .nodes_per_rack(4)
                            .gpus_per_node(8)
                            .use("node-0", 4)
                            .change("node-1", cordon)
                            .change("node-2", lose));
  EXPECT_DOUBLE_EQ(found[0], 1);
  EXPECT_DOUBLE_EQ(found[1], 4.0 / 12);
}

}  // namespace
}  // namespace trainyard::decide
