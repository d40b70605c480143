#include "controller/decide/placement.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::kGpu;

Gang gang(int count, int gpus) { return {.count = count, .requests = {{kGpu, gpus}, {"pods", 1}}}; }
Gang packed(Gang of, contract::PackMode mode = contract::PackMode::kRequired) {
  of.pack = contract::Pack{.level = "rack", .mode = mode};
  return of;
}
/// The nodes, or none where there is no room.
std::vector<std::string> nodes(const Cluster& cluster, const Gang& gang) {
  const Topology topology(cluster);
  const auto found = place_gang(topology, gang);
  return std::holds_alternative<Placement>(found) ? std::get<Placement>(found).nodes : std::vector<std::string>{};
}
NoRoom no_room(const Cluster& cluster, const Gang& gang) { return std::get<NoRoom>(place_gang(Topology(cluster), gang)); }
using Nodes = std::vector<std::string>;

TEST(PlaceGang, PlacesAllPodsOrNone) {
  const Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  EXPECT_EQ(nodes(cluster, gang(2, 8)), (Nodes{"node-0", "node-1"}));
  EXPECT_EQ(no_room(cluster, gang(3, 8)).fit_now, 2);
}

TEST(PlaceGang, PutsAGangOnOneNodeWhereItFits) {
  const Cluster cluster = ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build();
  EXPECT_EQ(nodes(cluster, gang(2, 4)), (Nodes{"node-0", "node-0"}));
}

TEST(PlaceGang, PutsAGangIntoOneRackWhereItFits) {
  const Cluster cluster = ClusterBuilder{}.racks(3).nodes_per_rack(2).gpus_per_node(8).use("node-0", 8).use("node-2", 1).build();
  EXPECT_EQ(nodes(cluster, gang(2, 8)), (Nodes{"node-4", "node-5"}));
}

TEST(PlaceGang, DoesNotBreakTheLastFreeRackWithASmallGang) {
  const Cluster cluster = ClusterBuilder{}.racks(3).nodes_per_rack(4).gpus_per_node(8).use("node-5", 8).build();
  EXPECT_EQ(nodes(cluster, gang(1, 8)), (Nodes{"node-4"}));
  EXPECT_EQ(nodes(cluster, gang(3, 8)), (Nodes{"node-4", "node-6", "node-7"}));
}

TEST(PlaceGang, PrefersTheRackInWhichItIsCutLeastToTheFullestOne) {
  ClusterBuilder builder;
  builder.racks(2).nodes_per_rack(3).gpus_per_node(8).use("node-5", 8);
  for (const char* node : {"node-0", "node-1", "node-2"}) builder.use(node, 4);
  Nodes on_two(8, "node-3");
  on_two.insert(on_two.end(), 4, "node-4");
  EXPECT_EQ(nodes(builder.build(), gang(12, 1)), on_two);
}

TEST(PlaceGang, FillsAPartlyUsedNodeBeforeAFreeOne) {
  const Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(3).gpus_per_node(8).use("node-2", 4).build();
  EXPECT_EQ(nodes(cluster, gang(1, 4)), (Nodes{"node-2"}));
}

TEST(PlaceGang, UsesAsFewRacksAsPossibleWhereOneDoesNotDo) {
  // Free nodes a rack: 1, 4, 3, 4.
  const Cluster cluster = ClusterBuilder{}
                              .racks(4)
                              .nodes_per_rack(4)
                              .gpus_per_node(8)
                              .use("node-0", 8)
                              .use("node-1", 8)
                              .use("node-2", 8)
                              .use("node-8", 8)
                              .build();
  const Nodes found = nodes(cluster, gang(7, 8));
  ASSERT_EQ(found.size(), 7u);
  std::set<std::string> racks;
  for (const auto& name : found) racks.insert(cluster.node(name)->labels.at("topology.test/rack"));
  EXPECT_EQ(racks, (std::set<std::string>{"rack-1", "rack-2"})) << "the rack with 3 free nodes takes the rest";
}

TEST(PlaceGang, KeepsConsecutiveWorkersInOneRack) {
  const Cluster cluster = ClusterBuilder{}.racks(2).nodes_per_rack(4).gpus_per_node(8).build();
  const Nodes found = nodes(cluster, gang(8, 8));
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(cluster.node(found[i])->labels.at("topology.test/rack"), i < 4 ? "rack-0" : "rack-1") << i;
}

TEST(PlaceGang, CutsBetweenReplicasNotInsideOne) {
  // Three free nodes in each of three racks; a replica needs two workers, so no rack may take three.
  const Cluster cluster = ClusterBuilder{}.racks(3).nodes_per_rack(3).gpus_per_node(8).build();
  Gang replicas = gang(6, 8);
  replicas.groups = {2};
  const Nodes found = nodes(cluster, replicas);
  ASSERT_EQ(found.size(), 6u);
  for (int i = 0; i < 6; i += 2) {
    EXPECT_EQ(cluster.node(found[i])->labels.at("topology.test/rack"),
              cluster.node(found[i + 1])->labels.at("topology.test/rack"))
        << i;
  }
}

TEST(PlaceGang, CutsAReplicaWhereThereIsNoOtherWay) {
  const Cluster cluster = ClusterBuilder{}.racks(2).nodes_per_rack(3).gpus_per_node(8).build();
  Gang replicas = gang(6, 8);
  replicas.groups = {2};
  EXPECT_EQ(nodes(cluster, replicas).size(), 6u);
}

TEST(PlaceGang, WaitsForOneRackWherePackIsRequired) {
  const Cluster cluster = ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).use("node-1", 8).use("node-3", 4).build();
  EXPECT_EQ(nodes(cluster, gang(2, 8)).size(), 2u);
  const NoRoom none = no_room(cluster, packed(gang(2, 8)));
  EXPECT_EQ(none.fit_now, 1);
  EXPECT_EQ(none.best_domain, "rack-0");
}

TEST(PlaceGang, SpreadsWherePackIsOnlyPreferred) {
  const Cluster cluster = ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).use("node-1", 8).use("node-3", 8).build();
  EXPECT_EQ(nodes(cluster, packed(gang(2, 8), contract::PackMode::kPreferred)), (Nodes{"node-0", "node-2"}));
}

TEST(PlaceGang, DoesNotTakeNodesWithoutALabelForARack) {
  const auto unlabel = [](Node& node) { node.labels.clear(); };
  const Cluster cluster =
      ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).change("node-0", unlabel).change("node-1", unlabel).build();
  EXPECT_TRUE(nodes(cluster, packed(gang(2, 8))).empty());
  EXPECT_EQ(nodes(cluster, gang(2, 8)).size(), 2u);
}

TEST(PlaceGang, PrefersOneBlockToTwo) {
  // Blocks of two racks of one node; block-0 has one free node, block-1 two.
  const Cluster cluster =
      ClusterBuilder{}.racks(4).nodes_per_rack(1).racks_per_block(2).gpus_per_node(8).use("node-0", 8).build();
  EXPECT_EQ(nodes(cluster, gang(2, 8)), (Nodes{"node-2", "node-3"}));
}

TEST(PlaceGang, PutsANewWorkerBesideTheOthers) {
  const Cluster cluster = ClusterBuilder{}
                              .racks(2)
                              .nodes_per_rack(4)
                              .gpus_per_node(8)
                              .use("node-4", 8, "a")
                              .use("node-0", 8)
                              .use("node-1", 8)
                              .build();
  Gang one = gang(1, 8);
  EXPECT_EQ(nodes(cluster, one), (Nodes{"node-2"}));
  one.beside = {"node-4"};
  EXPECT_EQ(nodes(cluster, one), (Nodes{"node-5"}));
}

TEST(PlaceGang, AvoidsNodesThatRejectedAPod) {
  const Cluster cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  Gang one = gang(1, 8);
  one.avoid = {"node-0"};
  EXPECT_EQ(nodes(cluster, one), (Nodes{"node-1"}));
}

TEST(PlaceGang, CountsTheNumberOfPodsANodeMayHave) {
  const Cluster cluster =
      ClusterBuilder{}.racks(1).nodes_per_rack(1).change("node-0", [](Node& node) { node.allocatable.set("pods", 2); }).build();
  EXPECT_TRUE(nodes(cluster, gang(3, 0)).empty());
  EXPECT_EQ(nodes(cluster, gang(2, 0)).size(), 2u);
}

/// Blocks of three racks of three nodes. Free nodes a rack: 2, 2, 2 in block-0; 3, 0, 0 in block-1; 3, 0, 0 in block-2.
ClusterBuilder scattered_room() {
  ClusterBuilder builder;
  builder.racks(9).nodes_per_rack(3).racks_per_block(3).gpus_per_node(8);
  for (const int full : {0, 3, 6, 12, 13, 14, 15, 16, 17, 21, 22, 23, 24, 25, 26}) builder.use("node-" + std::to_string(full), 8);
  return builder;
}

TEST(PlaceGang, PrefersTheFewestDomainsOfThePacksLevelToTheNarrowestDomainAroundThem) {
  const Cluster cluster = scattered_room().build();
  EXPECT_EQ(nodes(cluster, gang(6, 8)), (Nodes{"node-1", "node-2", "node-4", "node-5", "node-7", "node-8"})) << "one block";
  EXPECT_EQ(nodes(cluster, packed(gang(6, 8), contract::PackMode::kPreferred)),
            (Nodes{"node-10", "node-11", "node-9", "node-18", "node-19", "node-20"}))
      << "two racks";
}

TEST(PlaceGang, StaysInTheNarrowestDomainWhereThatTakesNoMorePacks) {
  const Cluster cluster = scattered_room().build();
  EXPECT_EQ(nodes(cluster, packed(gang(4, 8), contract::PackMode::kPreferred)), (Nodes{"node-1", "node-2", "node-4", "node-5"}));
  EXPECT_EQ(nodes(cluster, packed(gang(3, 8), contract::PackMode::kPreferred)), (Nodes{"node-10", "node-11", "node-9"}));
  EXPECT_EQ(nodes(cluster, packed(gang(12, 8), contract::PackMode::kPreferred)).size(), 12u);
}

TEST(PlaceGang, TakesNodesWithoutThePacksLabelEachForItself) {
  ClusterBuilder builder;
  builder.racks(2).nodes_per_rack(3).racks_per_block(1).gpus_per_node(8);
  for (const char* name : {"node-0", "node-1", "node-2"}) {
    builder.change(name, [](Node& node) { node.labels.erase("topology.test/rack"); });
  }
  builder.use("node-5", 8);
  const Cluster cluster = builder.build();
  EXPECT_EQ(nodes(cluster, packed(gang(3, 8), contract::PackMode::kPreferred)), (Nodes{"node-3", "node-4", "node-0"}))
      << "a rack and a node, rather than three nodes";
}

/// Every way to use up to two racks of two nodes of four GPUs, against trying all assignments.
TEST(PlaceGang, FindsRoomExactlyWhenThereIsRoom) {
  for (int used = 0; used < 5 * 5 * 5 * 5; ++used) {
    ClusterBuilder builder;
    builder.racks(2).nodes_per_rack(2).gpus_per_node(4);
    std::vector<int> free;
    for (int node = 0, rest = used; node < 4; ++node, rest /= 5) {
      free.push_back(4 - rest % 5);
      if (rest % 5 > 0) builder.use("node-" + std::to_string(node), rest % 5);
    }
    const Cluster cluster = builder.build();
    for (int gpus = 1; gpus <= 4; ++gpus) {
      const int rack0 = free[0] / gpus + free[1] / gpus, rack1 = free[2] / gpus + free[3] / gpus;
      for (int count = 1; count <= 5; ++count) {
        const Nodes anywhere = nodes(cluster, gang(count, gpus)), one_rack = nodes(cluster, packed(gang(count, gpus)));
        ASSERT_EQ(!anywhere.empty(), rack0 + rack1 >= count) << used << " " << gpus << " " << count;
        ASSERT_EQ(!one_rack.empty(), std::max(rack0, rack1) >= count) << used << " " << gpus << " " << count;
        for (const auto& found : {anywhere, one_rack}) {
          for (int node = 0; node < 4; ++node) {
            const auto on = std::count(found.begin(), found.end(), "node-" + std::to_string(node));
            ASSERT_LE(on * gpus, free[node]) << used << " " << gpus << " " << count;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::decide
