#include "controller/decide/traffic.h"

#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "controller/decide/placement.h"
#include "tests/controller/decide/a_layout.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::job;
using test::kGpu;
using Nodes = std::vector<std::string>;

TEST(LinksOf, JoinTheWorkersOfAPipelineAndThoseOfARing) {
  // Ranks 0 1 | 2 3 and 4 5 | 6 7: tensor pairs in a worker, two stages, two replicas.
  const auto links = links_of(job(4, 2, {2, 2, 2}));
  std::map<std::pair<int, int>, std::int64_t> bytes;
  for (const auto& link : links) bytes[{link.a, link.b}] = link.bytes;
  ASSERT_EQ(bytes.size(), 4u);
  EXPECT_EQ((bytes[{0, 1}]), (bytes[{2, 3}])) << "stages of the two replicas";
  EXPECT_GT((bytes[{0, 2}]), 0) << "first stages, over the replicas";
  EXPECT_GT((bytes[{1, 3}]), 0) << "second stages";
}

TEST(LinksOf, AreNotKnownOfAnotherEngine) { EXPECT_TRUE(links_of(test::make_custom_job("a", 4).spec).empty()); }

TEST(Crossings, CountALinkAtTheWidestLevelAtWhichItsEndsAreApartAndBelow) {
  const auto cluster = ClusterBuilder{}.racks(4).nodes_per_rack(2).racks_per_block(2).build();
  const Topology topology(cluster);
  const std::vector<Link> links{{0, 1, 1}, {0, 2, 10}, {0, 3, 100}, {0, 4, 1000}};
  // One node, one rack, one block, two blocks.
  EXPECT_EQ(crossings(topology, links, {"node-0", "node-0", "node-1", "node-2", "node-4"}), (Crossings{1000, 1100, 1110}));
}

TEST(LeastTraffic, ExchangesWorkersSoThatPairsThatTalkMuchShareARack) {
  const auto cluster = ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build();
  const Topology topology(cluster);
  const std::vector<Link> links{{0, 1, 10}, {2, 3, 10}, {0, 2, 1}, {1, 3, 1}};
  const Gang gang{.count = 4, .requests = {{kGpu, 8}}};
  Nodes nodes{"node-0", "node-2", "node-1", "node-3"};
  EXPECT_EQ(crossings(topology, links, nodes).front(), 20);
  nodes = least_traffic(topology, gang, links, nodes);
  EXPECT_EQ(crossings(topology, links, nodes), (Crossings{2, 22}));
}

TEST(LeastTraffic, StaysInTheRacksThatPackAsksFor) {
  // Two racks with room for three half nodes each; a third, empty rack could hold all but one worker.
  const auto cluster = ClusterBuilder{}.racks(3).nodes_per_rack(2).gpus_per_node(8).use("node-1", 4).use("node-3", 4).build();
  const Topology topology(cluster);
  Gang gang{.count = 4, .requests = {{kGpu, 4}}};
  gang.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kPreferred};
  const std::vector<Link> links{{0, 1, 10}, {1, 2, 10}, {2, 3, 10}};
  const Nodes nodes = least_traffic(topology, gang, links, {"node-0", "node-0", "node-1", "node-2"});
  for (const auto& node : nodes) EXPECT_NE(cluster.node(node)->labels.at("topology.test/rack"), "rack-2") << node;
  EXPECT_EQ(crossings(topology, links, nodes), (Crossings{10, 10})) << "two workers on one node of each rack";
}

TEST(LeastTraffic, IsSoughtWhereSparesHaveNoRoomBesideTheGang) {
  const auto cluster = ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build();
  const Topology topology(cluster);
  const std::vector<Link> links{{0, 1, 10}, {2, 3, 10}, {0, 2, 1}, {1, 3, 1}};
  const Gang gang{.count = 4, .requests = {{kGpu, 8}}, .room_beside = 1};
  EXPECT_TRUE(std::holds_alternative<NoRoom>(place_gang(topology, gang)));
  EXPECT_EQ(crossings(topology, links, least_traffic(topology, gang, links, {"node-0", "node-2", "node-1", "node-3"})),
            (Crossings{2, 22}));
}

TEST(LeastTraffic, TakesALevelWithADomainForEachNodeForTheNodes) {
  // As the chart's default: zone and host. 64 free nodes that are all alike are one to try.
  auto builder = ClusterBuilder{}.racks(64).nodes_per_rack(1).racks_per_block(32).gpus_per_node(8);
  const auto cluster = builder.build();
  const Topology topology(cluster);
  const std::vector<Link> links{{0, 1, 10}, {1, 2, 10}};
  const Gang gang{.count = 3, .requests = {{kGpu, 8}}};
  const Nodes nodes{"node-0", "node-1", "node-2"};
  EXPECT_EQ(least_traffic(topology, gang, links, nodes), nodes);
  const auto moved = least_traffic(topology, gang, links, {"node-0", "node-1", "node-40"});
  EXPECT_EQ(cluster.node(moved.back())->labels.at("topology.test/block"), "block-0") << "the block is a level";
}

/// Replicas of 4 stages, a worker of 8 GPUs each, on racks of 8 nodes: how many pairs of a stage and its rack there are. Gradients are more
/// than the few micro-batches' activations.
std::size_t stages_on_racks(int racks) {
  const int workers = 8 * racks;
  const auto cluster = ClusterBuilder{}.racks(racks).nodes_per_rack(8).gpus_per_node(8).build();
  const Topology topology(cluster);
  auto spec = job(workers, 8, {8, 4, workers / 4});
  spec.training.globalBatchSize = workers;
  const auto links = links_of(spec);
  Gang gang{.count = workers, .requests = {{kGpu, 8}, {"pods", 1}}};
  gang.groups = groups_of(spec);
  const auto found = std::get<Placement>(place_gang(topology, gang)).nodes;
  const auto nodes = least_traffic(topology, gang, links, found);
  EXPECT_LT(crossings(topology, links, nodes).front(), crossings(topology, links, found).front());
  std::set<std::pair<std::size_t, std::string>> out;
  for (std::size_t worker = 0; worker < nodes.size(); ++worker) {
    out.emplace(worker % 4, cluster.node(nodes[worker])->labels.at("topology.test/rack"));
  }
  return out.size();
}

TEST(Placement, Of256GpusKeepsTheRingsInsideTheRacksWhereTheyCarryMost) {
  EXPECT_EQ(stages_on_racks(4), 4u) << "each stage has a rack to itself";
}

TEST(Placement, Of1024GpusKeepsTheRingsInsideTheRacksToo) { EXPECT_EQ(stages_on_racks(16), 16u) << "each rack has one stage"; }

TEST(Placement, OfLargeGangsIsNeverWorseThanAsFoundAndFits) {
  std::mt19937 random(7);
  int better = 0;
  for (int round = 0; round < 60; ++round) {
    const int racks = 6 + static_cast<int>(random() % 20), per_rack = 2 + static_cast<int>(random() % 7);
    auto builder = ClusterBuilder{}.racks(racks).nodes_per_rack(per_rack).racks_per_block(3).gpus_per_node(8);
    for (int node = 0; node < racks * per_rack; ++node) {
      if (random() % 4 == 0) builder.use("node-" + std::to_string(node), 2 * static_cast<int>(1 + random() % 4));
    }
    const auto cluster = builder.build();
    const Topology topology(cluster);
    const int pipeline = 1 << (random() % 3), replicas = (66 + static_cast<int>(random() % 40)) / pipeline;
    auto spec = job(pipeline * replicas, 2, {2, pipeline, replicas});
    spec.training.globalBatchSize = replicas * (1 + static_cast<int>(random() % 16));
    Gang gang{.count = pipeline * replicas, .requests = {{kGpu, 2}, {"pods", 1}}};
    gang.groups = groups_of(spec);
    if (random() % 2 == 0) gang.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kPreferred};
    const auto placed = place_gang(topology, gang);
    const auto* found = std::get_if<Placement>(&placed);
    if (found == nullptr) continue;
    const auto links = links_of(spec);
    ASSERT_FALSE(links.empty());
    const auto nodes = least_traffic(topology, gang, links, found->nodes);
    const auto before = crossings(topology, links, found->nodes), after = crossings(topology, links, nodes);
    EXPECT_LE(after, before) << "round " << round;
    better += after < before ? 1 : 0;
    std::map<std::string, int> on;
    for (const auto& node : nodes) ++on[node];
    for (const auto& [node, workers] : on) {
      const auto room = room_for(gang, topology, static_cast<std::size_t>(topology.find_node(node)));
      EXPECT_LE(workers, fit_into(room, gang.requests)) << node << " in round " << round;
    }
  }
  EXPECT_GT(better, 5);
}

TEST(Placement, OfManyMicroBatchesKeepsThePipelinesInsideTheRacks) {
  const auto cluster = ClusterBuilder{}.racks(4).nodes_per_rack(8).gpus_per_node(8).build();
  const Topology topology(cluster);
  auto spec = job(32, 8, {8, 4, 8});
  spec.training.globalBatchSize *= 64;
  const auto links = links_of(spec);
  Gang gang{.count = 32, .requests = {{kGpu, 8}, {"pods", 1}}};
  gang.groups = groups_of(spec);
  const auto nodes = least_traffic(topology, gang, links, std::get<Placement>(place_gang(topology, gang)).nodes);
  for (int worker = 0; worker < 32; worker += 4) {
    for (int stage = 1; stage < 4; ++stage) {
      EXPECT_EQ(cluster.node(nodes[static_cast<std::size_t>(worker) + static_cast<std::size_t>(stage)])
                    ->labels.at("topology.test/rack"),
                cluster.node(nodes[static_cast<std::size_t>(worker)])->labels.at("topology.test/rack"));
    }
  }
}

}  // namespace
}  // namespace trainyard::decide
