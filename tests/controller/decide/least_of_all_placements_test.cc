// What a step sends over racks and blocks, against the best of all possible placements and against best-fit packing, in all small clusters.

#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "controller/decide/placement.h"
#include "controller/decide/traffic.h"
#include "tests/controller/decide/a_layout.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::Degrees;
using test::job;
using test::kGpu;
using Nodes = std::vector<std::string>;

/// The fewest crossings of any placement. Of domains that are alike, and of which nothing is used yet, one is tried.
class Exhaustive {
 public:
  Exhaustive(const Topology& topology, const std::vector<Link>& links, int workers)
      : topology_(topology), workers_(workers), used_(topology.domains().size()), shape_(topology.domains().size()) {
    from_.resize(static_cast<std::size_t>(workers));
    for (const auto& [a, b, bytes] : links) from_[static_cast<std::size_t>(b)].emplace_back(a, bytes);
    for (std::size_t i = 0; i < topology.num_nodes(); ++i) free_.push_back(topology.free_on(i)[kGpu]);
    std::map<std::vector<std::int64_t>, std::int64_t> shapes;  // a node's room, or the shapes of what is in a domain
    for (std::size_t i = 0; i < shape_.size(); ++i) {          // children come before parents
      std::vector<std::int64_t> parts{topology.domains()[i].level};
      if (i < free_.size()) parts.push_back(free_[i]);
      for (const auto child : topology.domains()[i].children) parts.push_back(shape_[static_cast<std::size_t>(child)]);
      std::sort(parts.begin() + 1, parts.end());
      shape_[i] = shapes.emplace(parts, std::ssize(shapes)).first->second;
    }
  }
  Crossings least(std::int64_t gpus) {
    gpus_ = gpus;
    Crossings none(static_cast<std::size_t>(topology_.num_levels()) + 1);
    extend(none);
    return best_;
  }

 private:
  /// The same for nodes that lie alike to all that is used.
  std::vector<std::int64_t> kind_of(std::size_t node) const {
    std::vector<std::int64_t> out;
    for (auto at = static_cast<std::int32_t>(node); at >= 0; at = topology_.domains()[static_cast<std::size_t>(at)].parent) {
      const auto i = static_cast<std::size_t>(at);
      out.push_back(used_[i] > 0 ? -1 - at : shape_[i]);
    }
    return out;
  }
  void use(std::size_t node, int more) {
    for (auto at = static_cast<std::int32_t>(node); at >= 0; at = topology_.domains()[static_cast<std::size_t>(at)].parent) {
      used_[static_cast<std::size_t>(at)] += more;
    }
    free_[node] -= more * gpus_;
  }
  void extend(const Crossings& so_far) {
    if (!best_.empty() && so_far >= best_) return;
    if (static_cast<int>(places_.size()) == workers_) {
      best_ = so_far;
      return;
    }
    std::set<std::vector<std::int64_t>> tried;
    for (std::size_t node = 0; node < free_.size(); ++node) {
      if (free_[node] < gpus_ || !tried.insert(kind_of(node)).second) continue;
      Crossings next = so_far;
      for (const auto& [other, bytes] : from_[places_.size()]) {
        const auto there = static_cast<std::int32_t>(places_[static_cast<std::size_t>(other)]),
                   here = static_cast<std::int32_t>(node);
        for (std::int32_t level = 0; level <= topology_.num_levels(); ++level) {
          if (topology_.ancestor(here, level) != topology_.ancestor(there, level)) next[static_cast<std::size_t>(level)] += bytes;
        }
      }
      use(node, 1);
      places_.push_back(node);
      extend(next);
      places_.pop_back();
      use(node, -1);
    }
  }

  const Topology& topology_;
  int workers_;
  std::int64_t gpus_ = 0;
  std::vector<std::vector<std::pair<std::int32_t, std::int64_t>>> from_;  // by the later worker: the earlier one, and the bytes
  std::vector<std::int64_t> free_;
  std::vector<int> used_;            // workers, by domain
  std::vector<std::int64_t> shape_;  // by domain; alike where what is in them is
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

/// The free room, in workers, of each node of each rack of each block.
using Rack = std::vector<int>;
using Block = std::vector<Rack>;
using Blocks = std::vector<Block>;

/// The free room of each node of each rack: every multiset of racks, every multiset of nodes.
void for_each_cluster(int racks, int nodes, int room, const std::function<void(const Blocks&)>& visit) {
  std::vector<Rack> shapes;  // of one rack, not rising
  Rack shape;
  const std::function<void(int)> extend = [&](int most) {
    if (static_cast<int>(shape.size()) == nodes) return shapes.push_back(shape);
    for (int i = 0; i <= most; ++i) {
      shape.push_back(i);
      extend(i);
      shape.pop_back();
    }
  };
  extend(room);
  Block cluster;
  const std::function<void(std::size_t)> add = [&](std::size_t first) {
    if (static_cast<int>(cluster.size()) == racks) return visit({cluster});
    for (std::size_t i = first; i < shapes.size(); ++i) {
      cluster.push_back(shapes[i]);
      add(i);
      cluster.pop_back();
    }
  };
  add(0);
}

/// Every way to write `total` as a multiset of what has a size: parts[i] are those of size i + 1.
template <class Part>
std::vector<std::vector<Part>> sums(int total, const std::vector<std::vector<Part>>& parts) {
  std::vector<std::vector<Part>> out;
  std::vector<Part> sum;
  const std::function<void(int, std::size_t, std::size_t)> add = [&](int left, std::size_t size, std::size_t first) {
    if (left == 0) return out.push_back(sum);
    for (std::size_t i = std::min(size, static_cast<std::size_t>(left)); i > 0; --i) {
      for (std::size_t j = i == size ? first : 0; j < parts[i - 1].size(); ++j) {
        sum.push_back(parts[i - 1][j]);
        add(left - static_cast<int>(i), i, j);
        sum.pop_back();
      }
    }
  };
  add(total, static_cast<std::size_t>(total), 0);
  return out;
}

/// Every cluster of so many nodes of `room` workers in racks of any sizes, and these in blocks of any sizes.
std::vector<Blocks> every_tree(int nodes, int room) {
  std::vector<std::vector<Rack>> racks;
  for (int size = 1; size <= nodes; ++size) racks.push_back({Rack(static_cast<std::size_t>(size), room)});
  std::vector<std::vector<Block>> blocks;
  for (int size = 1; size <= nodes; ++size) blocks.push_back(sums(size, racks));
  return sums(nodes, blocks);
}

struct PlacementTally {
  std::int64_t worlds = 0, as_good = 0;
  double ours = 0, least = 0, best_fit = 0;  // bytes over the widest level
  double ours_nodes = 0, least_nodes = 0, best_fit_nodes = 0;
};

/// One block, or as many as there are.
Cluster cluster_of(const Blocks& world, int room) {
  struct Place {
    int free;
    std::size_t rack, block;
  };
  std::vector<Place> places;
  std::size_t racks = 0;
  for (std::size_t block = 0; block < world.size(); ++block) {
    for (const auto& rack : world[block]) {
      for (const int free : rack) places.push_back({free, racks, block});
      ++racks;
    }
  }
  ClusterBuilder builder;
  builder.racks(1).nodes_per_rack(static_cast<int>(places.size())).gpus_per_node(8);
  if (world.size() > 1) builder.racks_per_block(1);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::string name = "node-" + std::to_string(i);
    builder.use(name, 8 - places[i].free * 8 / room);
    builder.change(name, [place = places[i]](Node& node) {
      node.labels["topology.test/rack"] = "rack-" + std::to_string(place.rack);
      node.labels["topology.test/block"] = "block-" + std::to_string(place.block);
    });
  }
  return builder.build();
}

void compare(const Blocks& world, int room, const std::vector<contract::TrainingJobSpec>& jobs, PlacementTally& tally) {
  int total = 0;
  for (const auto& block : world) {
    for (const auto& rack : block) total = std::accumulate(rack.begin(), rack.end(), total);
  }
  const auto cluster = cluster_of(world, room);
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
}

void compare(int racks, int nodes_per_rack, int room, const std::vector<contract::TrainingJobSpec>& jobs, PlacementTally& tally) {
  for_each_cluster(racks, nodes_per_rack, room, [&](const Blocks& world) { compare(world, room, jobs, tally); });
}

/// What these take of whole nodes, and of half nodes.
std::vector<contract::TrainingJobSpec> jobs_of_whole_nodes() {
  std::vector<contract::TrainingJobSpec> jobs;
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
  return jobs;
}
std::vector<contract::TrainingJobSpec> jobs_of_half_nodes() {
  std::vector<contract::TrainingJobSpec> jobs;
  for (const auto& [tensor, pipeline, data] :
       std::vector<Degrees>{{4, 2, 1}, {4, 2, 2}, {8, 2, 1}, {8, 1, 2}, {4, 4, 1}, {4, 1, 4}, {4, 3, 2}, {4, 2, 3}}) {
    jobs.push_back(job(tensor * pipeline * data / 4, 4, {tensor, pipeline, data}));
  }
  return jobs;
}

void expect_almost_the_best(const PlacementTally& tally) {
  std::cout << tally.worlds << " placements, " << tally.as_good << " as good as the best; together " << tally.ours / tally.least
            << " x the least over the widest level and " << tally.ours_nodes / tally.least_nodes << " x over nodes; best fit "
            << tally.best_fit / tally.least << " x\n";
  EXPECT_GE(static_cast<double>(tally.as_good), 0.98 * static_cast<double>(tally.worlds));
  EXPECT_LE(tally.ours, 1.001 * tally.least);
  EXPECT_LE(tally.ours_nodes, 1.01 * tally.least_nodes);
}

TEST(Placement, SendsAlmostAsLittleOverRacksAsTheBestOfAllPlacements) {
  PlacementTally tally;
  const auto jobs = jobs_of_whole_nodes(), halves = jobs_of_half_nodes();
  compare(2, 4, 1, jobs, tally);
  compare(4, 2, 1, jobs, tally);
  compare(2, 4, 2, halves, tally);
  compare(4, 2, 2, halves, tally);
  RecordProperty("worlds", static_cast<int>(tally.worlds));
  RecordProperty("as_good_as_the_best", static_cast<int>(tally.as_good));
  expect_almost_the_best(tally);
  EXPECT_GE(tally.best_fit, 2 * tally.least) << "what knows neither racks nor ranks sends twice as much over racks";
}

/// Racks of any sizes, 5 and 3 or 3, 3 and 2, in blocks of any sizes. What is not free is as if it were not there.
TEST(Placement, SendsAlmostAsLittleAsTheBestInEveryClusterOfUpToEightNodesInRacksAndBlocks) {
  PlacementTally tally;
  std::size_t trees = 0;
  for (int nodes = 1; nodes <= 8; ++nodes) {
    const auto worlds = every_tree(nodes, 1);
    trees += worlds.size();
    for (const auto& world : worlds) compare(world, 1, jobs_of_whole_nodes(), tally);
  }
  EXPECT_EQ(trees, 443u) << "1, 3, 6, 14, 27, 58, 111 and 223 (OEIS A001970)";
  expect_almost_the_best(tally);
}

TEST(Placement, SendsAlmostAsLittleAsTheBestOnHalfNodesOfEveryTreeOfUpToSevenNodes) {
  PlacementTally tally;
  for (int nodes = 1; nodes <= 7; ++nodes) {
    for (auto world : every_tree(nodes, 2)) {
      compare(world, 2, jobs_of_half_nodes(), tally);
      for (auto& block : world) {
        for (auto& rack : block) rack.front() = 1;  // and with one node of each rack half full
      }
      compare(world, 2, jobs_of_half_nodes(), tally);
    }
  }
  expect_almost_the_best(tally);
}

}  // namespace
}  // namespace trainyard::decide
