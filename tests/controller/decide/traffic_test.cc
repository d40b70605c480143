#include "controller/decide/traffic.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "controller/decide/placement.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::kGpu;
using Nodes = std::vector<std::string>;

struct Degrees {
  int tensor, pipeline, data;
};

/// One GPU a rank.
contract::TrainingJobSpec job(int workers, int gpus, Degrees degrees) {
  auto spec = test::make_job("a", workers, gpus).spec;
  spec.parallelism.tensor = degrees.tensor;
  spec.parallelism.pipeline = degrees.pipeline;
  spec.parallelism.data = degrees.data;
  spec.model.size = contract::ModelSize{
      .layers = 24, .hiddenSize = 512, .heads = 16, .keyValueHeads = 16, .feedForwardSize = 1536, .vocabularySize = 4096};
  spec.data.sequenceLength = 1024;
  spec.parallelism.microBatchSize = 1;
  spec.training.globalBatchSize = 16 * degrees.data;
  return spec;
}

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

// ---- Against every possible placement, and against best-fit packing, in all small clusters.

/// The fewest crossings of any placement. Nodes that are alike (in one rack, with as much room, and unused) are tried once.
class Exhaustive {
 public:
  Exhaustive(const Topology& topology, const std::vector<Link>& links, int workers) : topology_(topology), workers_(workers) {
    from_.resize(static_cast<std::size_t>(workers));
    for (const auto& [a, b, bytes] : links) from_[static_cast<std::size_t>(b)].emplace_back(a, bytes);
    for (std::size_t i = 0; i < topology.num_nodes(); ++i) free_.push_back(topology.free_on(i)[kGpu]);
  }
  Crossings least(std::int64_t gpus) {
    gpus_ = gpus;
    Crossings none(static_cast<std::size_t>(topology_.num_levels()) + 1);
    extend(none);
    return best_;
  }

 private:
  void extend(const Crossings& so_far) {
    if (!best_.empty() && so_far >= best_) return;
    if (static_cast<int>(places_.size()) == workers_) {
      best_ = so_far;
      return;
    }
    std::set<std::pair<std::int32_t, std::int64_t>> tried;
    for (std::size_t node = 0; node < free_.size(); ++node) {
      const bool unused = std::find(places_.begin(), places_.end(), node) == places_.end();
      if (free_[node] < gpus_ || (unused && !tried.insert({topology_.domains()[node].parent, free_[node]}).second)) continue;
      Crossings next = so_far;
      for (const auto& [other, bytes] : from_[places_.size()]) {
        const auto there = static_cast<std::int32_t>(places_[static_cast<std::size_t>(other)]),
                   here = static_cast<std::int32_t>(node);
        for (std::int32_t level = 0; level <= topology_.num_levels(); ++level) {
          if (topology_.ancestor(here, level) != topology_.ancestor(there, level)) next[static_cast<std::size_t>(level)] += bytes;
        }
      }
      free_[node] -= gpus_;
      places_.push_back(node);
      extend(next);
      places_.pop_back();
      free_[node] += gpus_;
    }
  }

  const Topology& topology_;
  int workers_;
  std::int64_t gpus_ = 0;
  std::vector<std::vector<std::pair<std::int32_t, std::int64_t>>> from_;  // by the later worker: the earlier one, and the bytes
  std::vector<std::int64_t> free_;
  std::vector<std::size_t> places_;
  Crossings best_;
};

/// What a packer does that knows neither racks nor ranks: each worker goes to the node with the least room that is enough.
Nodes best_fit(const Topology& topology, int workers, std::int64_t gpus) {
  std::vector<std::int64_t> free;
  for (std::size_t i = 0; i < topology.num_nodes(); ++i) free.push_back(topology.free_on(i)[kGpu]);
  Nodes out;
  for (int i = 0; i < workers; ++i) {
    std::size_t chosen = free.size();
    for (std::size_t node = 0; node < free.size(); ++node) {
      if (free[node] >= gpus && (chosen == free.size() || free[node] < free[chosen])) chosen = node;
    }
    free[chosen] -= gpus;
    out.push_back(topology.node(chosen).name);
  }
  return out;
}

/// The free room, in workers, of each node of each rack: every multiset of racks, every multiset of nodes, up to `most` nodes.
void for_each_cluster(int racks, int nodes, int room, const std::function<void(const std::vector<std::vector<int>>&)>& visit) {
  std::vector<std::vector<int>> shapes;  // of one rack, not rising
  std::vector<int> shape;
  const std::function<void(int)> extend = [&](int most) {
    if (static_cast<int>(shape.size()) == nodes) return shapes.push_back(shape);
    for (int i = 0; i <= most; ++i) {
      shape.push_back(i);
      extend(i);
      shape.pop_back();
    }
  };
  extend(room);
  std::vector<std::vector<int>> cluster;
  const std::function<void(std::size_t)> add = [&](std::size_t first) {
    if (static_cast<int>(cluster.size()) == racks) return visit(cluster);
    for (std::size_t i = first; i < shapes.size(); ++i) {
      cluster.push_back(shapes[i]);
      add(i);
      cluster.pop_back();
    }
  };
  add(0);
}

struct Tally {
  std::int64_t worlds = 0, as_good = 0;
  double ours = 0, least = 0, best_fit = 0;  // bytes between racks
  double ours_nodes = 0, least_nodes = 0, best_fit_nodes = 0;
};

void compare(int racks, int nodes_per_rack, int room, const std::vector<contract::TrainingJobSpec>& jobs, Tally& tally) {
  for_each_cluster(racks, nodes_per_rack, room, [&](const std::vector<std::vector<int>>& free) {
    auto builder = ClusterBuilder{}.racks(racks).nodes_per_rack(nodes_per_rack).gpus_per_node(8);
    int total = 0;
    for (int i = 0; i < racks * nodes_per_rack; ++i) {
      const int here = free[static_cast<std::size_t>(i / nodes_per_rack)][static_cast<std::size_t>(i % nodes_per_rack)];
      total += here;
      builder.use("node-" + std::to_string(i), 8 - here * 8 / room);
    }
    const auto cluster = builder.build();
    const Topology topology(cluster);
    for (const auto& spec : jobs) {
      if (spec.workers.count > total) continue;
      const std::int64_t gpus = spec.workers.gpusPerWorker;
      const auto links = links_of(spec);
      Gang gang{.count = spec.workers.count, .requests = {{kGpu, gpus}, {"pods", 1}}};
      gang.groups = groups_of(spec);
      const auto nodes = least_traffic(topology, gang, links, std::get<Placement>(place_gang(topology, gang)).nodes);
      const auto ours = crossings(topology, links, nodes);
      const auto least = Exhaustive(topology, links, spec.workers.count).least(gpus);
      const auto fit = crossings(topology, links, best_fit(topology, spec.workers.count, gpus));
      ASSERT_GE(ours, least);
      ++tally.worlds;
      tally.as_good += ours == least;
      tally.ours += static_cast<double>(ours.front());
      tally.least += static_cast<double>(least.front());
      tally.best_fit += static_cast<double>(fit.front());
      tally.ours_nodes += static_cast<double>(ours.back());
      tally.least_nodes += static_cast<double>(least.back());
      tally.best_fit_nodes += static_cast<double>(fit.back());
    }
  });
}

TEST(Placement, SendsAlmostAsLittleOverRacksAsTheBestOfAllPlacements) {
  Tally tally;
  std::vector<contract::TrainingJobSpec> jobs, halves;
  for (const auto& [tensor, pipeline, data] : std::vector<Degrees>{{8, 2, 1},
                                                                   {8, 1, 2},
                                                                   {8, 3, 1},
                                                                   {8, 1, 3},
                                                                   {8, 2, 2},
                                                                   {8, 4, 1},
                                                                   {8, 1, 4},
                                                                   {8, 2, 3},
                                                                   {8, 3, 2},
                                                                   {4, 2, 3},
                                                                   {4, 6, 1},
                                                                   {2, 8, 1},
                                                                   {2, 4, 2}}) {
    jobs.push_back(job(tensor * pipeline * data / 8, 8, {tensor, pipeline, data}));
  }
  for (const auto& [tensor, pipeline, data] :
       std::vector<Degrees>{{4, 2, 1}, {4, 2, 2}, {8, 2, 1}, {8, 1, 2}, {4, 4, 1}, {4, 1, 4}, {4, 3, 2}, {4, 2, 3}}) {
    halves.push_back(job(tensor * pipeline * data / 4, 4, {tensor, pipeline, data}));
  }
  compare(2, 4, 1, jobs, tally);
  compare(4, 2, 1, jobs, tally);
  compare(2, 4, 2, halves, tally);
  compare(4, 2, 2, halves, tally);
  RecordProperty("worlds", static_cast<int>(tally.worlds));
  RecordProperty("as_good_as_the_best", static_cast<int>(tally.as_good));
  EXPECT_GE(static_cast<double>(tally.as_good), 0.98 * static_cast<double>(tally.worlds));
  EXPECT_LE(tally.ours, 1.001 * tally.least);
  EXPECT_LE(tally.ours_nodes, 1.01 * tally.least_nodes);
  EXPECT_GE(tally.best_fit, 2 * tally.least) << "what knows neither racks nor ranks sends twice as much over racks";
}

TEST(Placement, Of256GpusKeepsTheRingsInsideTheRacksWhereTheyCarryMost) {
  // 32 nodes in four racks; 8 replicas of 4 stages. Gradients are more than the few micro-batches' activations.
  const auto cluster = ClusterBuilder{}.racks(4).nodes_per_rack(8).gpus_per_node(8).build();
  const Topology topology(cluster);
  auto spec = job(32, 8, {8, 4, 8});
  spec.training.globalBatchSize = 32;
  const auto links = links_of(spec);
  Gang gang{.count = 32, .requests = {{kGpu, 8}, {"pods", 1}}};
  gang.groups = groups_of(spec);
  const auto found = std::get<Placement>(place_gang(topology, gang)).nodes;
  const auto nodes = least_traffic(topology, gang, links, found);
  std::map<std::pair<int, std::string>, int> rack_of_stage;
  for (int worker = 0; worker < 32; ++worker) {
    ++rack_of_stage[{worker % 4, cluster.node(nodes[static_cast<std::size_t>(worker)])->labels.at("topology.test/rack")}];
  }
  EXPECT_EQ(rack_of_stage.size(), 4u) << "each stage has a rack to itself";
  EXPECT_LT(crossings(topology, links, nodes).front(), crossings(topology, links, found).front());
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
