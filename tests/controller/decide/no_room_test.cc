#include "controller/decide/no_room.h"

#include <gtest/gtest.h>

#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::kGpu;

Gang wanted_gang(int count, int gpus) { return {.count = count, .requests = {{kGpu, gpus}, {"pods", 1}}}; }
Explanation explanation(const Cluster& cluster, const Gang& gang) {
  const Topology topology(cluster);
  return explain(cluster, topology, gang, std::get<NoRoom>(place_gang(topology, gang)));
}

TEST(NoRoom, SaysInNumbersWhatIsMissingAndWhoHoldsIt) {
  const Cluster cluster = ClusterBuilder{}
                              .racks(1)
                              .nodes_per_rack(6)
                              .gpus_per_node(8)
                              .use("node-0", 8, "a")
                              .use("node-1", 8, "a")
                              .use("node-2", 4)
                              .change("node-3", [](Node& node) { node.unschedulable = true; })
                              .change("node-4", [](Node& node) { node.ready = false; })
                              .build();
  const auto why = explanation(cluster, wanted_gang(4, 8));
  EXPECT_FALSE(why.never);
  EXPECT_EQ(why.message,
            "needs 4 workers of 8 nvidia.com/gpu; 1 fits now. Of 6 nodes, 1 is cordoned, 1 is not ready and 3 are too full: "
            "nvidia.com/gpu is held by job default/a (16) and other pods (4).");
}

TEST(NoRoom, TellsARequestThatNoNodeCanEverHoldFromAFullCluster) {
  const Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  const auto why = explanation(cluster, wanted_gang(1, 16));
  EXPECT_TRUE(why.never);
  EXPECT_EQ(
      why.message,
      "no node can ever hold a worker: it asks for 16 nvidia.com/gpu, of which the largest node, node-0, has 8. Ask for less, or "
      "add larger nodes.");
}

TEST(NoRoom, SaysWhenTheWholeClusterIsTooSmall) {
  const Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).use("node-0", 8).build();
  const auto why = explanation(cluster, wanted_gang(3, 8));
  EXPECT_TRUE(why.never);
  EXPECT_NE(why.message.find("the whole cluster would hold 2 if it were empty"), std::string::npos) << why.message;
}

TEST(NoRoom, NamesTheBestDomainWherePackIsRequired) {
  const Cluster cluster =
      ClusterBuilder{}.racks(2).nodes_per_rack(4).gpus_per_node(8).use("node-0", 8).use("node-5", 8).use("node-6", 1).build();
  Gang four = wanted_gang(4, 8);
  four.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
  const auto why = explanation(cluster, four);
  EXPECT_FALSE(why.never);
  EXPECT_NE(why.message.find("in one rack; 3 fit now, in rack-0."), std::string::npos) << why.message;
}

TEST(NoRoom, SaysSoWhereNoNodeMatchesTheTemplate) {
  const Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  Gang picky = wanted_gang(1, 8);
  picky.rules.selector = {{"gpu", "b200"}};
  const auto why = explanation(cluster, picky);
  EXPECT_TRUE(why.never);
  EXPECT_NE(why.message.find("2 do not match the template's nodeSelector"), std::string::npos) << why.message;
}

TEST(NoRoom, SaysSoWhereThereAreNoNodes) {
  const auto why = explanation(ClusterBuilder{}.racks(0).build(), wanted_gang(1, 8));
  EXPECT_NE(why.message.find("The cluster has no nodes."), std::string::npos) << why.message;
}

}  // namespace
}  // namespace trainyard::decide
