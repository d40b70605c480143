// spec.placement.pack at every level that a cluster may have, in words and in all small worlds.

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "controller/decide/placement.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using contract::PackMode;
using test::kGpu;
using Nodes = std::vector<std::string>;

const std::vector<std::string> kLevels{"zone", "block", "rack", "host"};
constexpr int kWorkersANode = 2;  // of 4 GPUs each

/// The labels of a node, from the widest level to the narrowest. Empty: it has no such label.
using Labelled = std::vector<std::string>;

Cluster cluster_of(const std::vector<Labelled>& nodes, const std::vector<int>& free = {}) {
  test::ClusterBuilder builder;
  builder.racks(1).nodes_per_rack(static_cast<int>(nodes.size())).gpus_per_node(8);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::string name = "node-" + std::to_string(i);
    builder.change(name, [labels = nodes[i]](Node& node) {
      node.labels.clear();
      for (std::size_t level = 0; level < kLevels.size(); ++level) {
        if (!labels[level].empty()) node.labels["test/" + kLevels[level]] = labels[level];
      }
    });
    if (!free.empty() && free[i] < kWorkersANode) builder.use(name, 4 * (kWorkersANode - free[i]));
  }
  Cluster cluster = builder.build();
  cluster.settings.topology_levels.clear();
  for (const auto& level : kLevels) cluster.settings.topology_levels.push_back({.name = level, .label = "test/" + level});
  return cluster;
}

/// Two zones of two blocks of two racks of two hosts.
std::vector<Labelled> even_nodes() {
  std::vector<Labelled> out;
  for (int i = 0; i < 16; ++i) {
    out.push_back(
        {"z" + std::to_string(i / 8), "b" + std::to_string(i / 4), "r" + std::to_string(i / 2), "h" + std::to_string(i)});
  }
  return out;
}

Gang packed(int workers, const std::string& level, PackMode mode) {
  Gang gang{.count = workers, .requests = {{kGpu, 4}, {"pods", 1}}};
  gang.pack = contract::Pack{.level = level, .mode = mode};
  return gang;
}

Nodes place(const Cluster& cluster, const Gang& gang) {
  const auto found = place_gang(Topology(cluster), gang);
  return std::holds_alternative<Placement>(found) ? std::get<Placement>(found).nodes : Nodes{};
}

/// A node without the label is a domain by itself.
std::set<std::string> domains(const Cluster& cluster, const Nodes& nodes, const std::string& level) {
  std::set<std::string> out;
  for (const auto& name : nodes) {
    const auto& labels = cluster.node(name)->labels;
    const auto found = labels.find("test/" + level);
    out.insert(found == labels.end() ? name : found->second);
  }
  return out;
}

TEST(Pack, RequiredKeepsAGangInOneDomainOfItsLevelOrLetsItWait) {
  const Cluster cluster = cluster_of(even_nodes());
  for (std::size_t i = 0; i < kLevels.size(); ++i) {
    const auto& level = kLevels[i];
    const int most = 16 >> i;  // workers a domain holds
    const Nodes found = place(cluster, packed(most, level, PackMode::kRequired));
    ASSERT_EQ(std::ssize(found), most) << level;
    EXPECT_EQ(domains(cluster, found, level).size(), 1u) << level;
    const auto none = place_gang(Topology(cluster), packed(most + 1, level, PackMode::kRequired));
    ASSERT_TRUE(std::holds_alternative<NoRoom>(none)) << level;
    EXPECT_EQ(std::get<NoRoom>(none).fit_now, most) << level;
    EXPECT_FALSE(std::get<NoRoom>(none).best_domain.empty()) << level;
  }
}

TEST(Pack, RequiredDoesNotJoinWhatIsFreeOfTwoDomains) {
  // One worker's room is taken on the first host of each of them.
  for (std::size_t i = 0; i < kLevels.size(); ++i) {
    const int most = 16 >> i;
    std::vector<int> free(16, kWorkersANode);
    for (int node = 0; node < 16; node += most / kWorkersANode) free[static_cast<std::size_t>(node)] = 1;
    const Cluster cluster = cluster_of(even_nodes(), free);
    EXPECT_TRUE(place(cluster, packed(most, kLevels[i], PackMode::kRequired)).empty()) << kLevels[i];
    EXPECT_EQ(std::ssize(place(cluster, packed(most - 1, kLevels[i], PackMode::kRequired))), most - 1) << kLevels[i];
  }
}

TEST(Pack, PreferredTakesOneDomainMoreRatherThanWait) {
  const Cluster cluster = cluster_of(even_nodes());
  for (std::size_t i = 0; i < kLevels.size(); ++i) {
    const int most = 16 >> i;
    EXPECT_EQ(domains(cluster, place(cluster, packed(most, kLevels[i], PackMode::kPreferred)), kLevels[i]).size(), 1u)
        << kLevels[i];
    const Nodes found = place(cluster, packed(most + 1, kLevels[i], PackMode::kPreferred));
    ASSERT_EQ(std::ssize(found), most + 1) << kLevels[i];
    EXPECT_EQ(domains(cluster, found, kLevels[i]).size(), 2u) << kLevels[i];
  }
}

/// Six nodes in domains of unequal sizes, with room for none, one or two workers on each: every such world, every level, every gang.
TEST(Pack, IsKeptInEverySmallWorldAtEveryLevel) {
  const std::vector<Labelled> nodes{{"z0", "b0", "r0", "h0"}, {"z0", "b0", "r0", "h1"}, {"z0", "b0", "r1", "h2"},
                                    {"z0", "b1", "r2", "h3"}, {"z1", "b2", "r3", "h4"}, {"z1", "b2", "r4", "h5"}};
  for (int world = 0; world < 3 * 3 * 3 * 3 * 3 * 3; ++world) {
    std::vector<int> free;
    for (int node = 0, rest = world; node < 6; ++node, rest /= 3) free.push_back(rest % 3);
    const Cluster cluster = cluster_of(nodes, free);
    const int total = std::accumulate(free.begin(), free.end(), 0);
    for (std::size_t level = 0; level < kLevels.size(); ++level) {
      std::map<std::string, int> room;
      for (std::size_t i = 0; i < nodes.size(); ++i) room[nodes[i][level]] += free[i];
      std::vector<int> by_room;
      for (const auto& [name, workers] : room) by_room.push_back(workers);
      std::sort(by_room.rbegin(), by_room.rend());
      for (int count = 1; count <= 9; ++count) {
        const std::string where = kLevels[level] + ", " + std::to_string(count) + " workers in world " + std::to_string(world);
        const Nodes required = place(cluster, packed(count, kLevels[level], PackMode::kRequired));
        ASSERT_EQ(!required.empty(), by_room.front() >= count) << where;
        if (!required.empty()) {
          ASSERT_EQ(domains(cluster, required, kLevels[level]).size(), 1u) << where;
        }
        const Nodes preferred = place(cluster, packed(count, kLevels[level], PackMode::kPreferred));
        ASSERT_EQ(!preferred.empty(), total >= count) << where;
        std::size_t fewest = 0;
        for (int sum = 0; fewest < by_room.size() && sum < count; ++fewest) sum += by_room[fewest];
        if (!preferred.empty()) {
          ASSERT_EQ(domains(cluster, preferred, kLevels[level]).size(), fewest) << where;
        }
        for (const auto& found : {required, preferred}) {
          if (!found.empty()) {
            ASSERT_EQ(std::ssize(found), count) << where;
          }
          for (std::size_t i = 0; i < nodes.size(); ++i) {
            ASSERT_LE(std::count(found.begin(), found.end(), "node-" + std::to_string(i)), free[i]) << where;
          }
        }
      }
    }
  }
}

// ---- What people complain of in other systems' topology-aware placement; all other complaints are in
// tests/simulate/complaint_story_test.cc. The numbers are issues of their trackers.

// volcano 5189: the level that a job names is ignored
TEST(Complaint, TheLevelThatAJobNamesIsIgnored) {
  const Cluster cluster = cluster_of(even_nodes());
  const Topology topology(cluster);
  for (std::size_t i = 0; i < kLevels.size(); ++i) EXPECT_EQ(topology.level_of(kLevels[i]), static_cast<int>(i));
  // Each rack is half full; a block has room for four, a rack for two.
  std::vector<int> free(16, 1);
  const Cluster half = cluster_of(even_nodes(), free);
  EXPECT_TRUE(place(half, packed(4, "rack", PackMode::kRequired)).empty());
  EXPECT_EQ(domains(half, place(half, packed(4, "block", PackMode::kRequired)), "block").size(), 1u);
}

// volcano 4343: what is only preferred is scattered
TEST(Complaint, AGangWhosePackIsPreferredIsScattered) {
  // A worker's room on each host of seven racks, the eighth is free: four workers fit there, and six in two racks at least.
  std::vector<int> free(16, 1);
  free[14] = free[15] = 2;
  const Cluster cluster = cluster_of(even_nodes(), free);
  EXPECT_EQ(domains(cluster, place(cluster, packed(4, "rack", PackMode::kPreferred)), "rack"), std::set<std::string>{"r7"});
  EXPECT_EQ(domains(cluster, place(cluster, packed(6, "rack", PackMode::kPreferred)), "rack").size(), 2u);
}

// volcano 5877: trees that are not equally deep everywhere
TEST(Complaint, ATreeOfUnequalDepthIsNotUnderstood) {
  // A zone without blocks, a block without racks, and a node that says nothing of itself.
  const std::vector<Labelled> nodes{{"z0", "", "r0", "h0"}, {"z0", "", "r0", "h1"}, {"z1", "b0", "", "h2"},
                                    {"z1", "b0", "", "h3"}, {"", "", "", ""},       {"z1", "b0", "r1", "h4"}};
  const Cluster cluster = cluster_of(nodes);
  EXPECT_EQ(domains(cluster, place(cluster, packed(4, "rack", PackMode::kRequired)), "rack"), std::set<std::string>{"r0"});
  EXPECT_EQ(domains(cluster, place(cluster, packed(6, "block", PackMode::kRequired)), "block"), std::set<std::string>{"b0"});
  EXPECT_EQ(domains(cluster, place(cluster, packed(6, "zone", PackMode::kRequired)), "zone"), std::set<std::string>{"z1"});
  EXPECT_TRUE(place(cluster, packed(5, "rack", PackMode::kRequired)).empty());
  EXPECT_EQ(std::ssize(place(cluster, packed(12, "rack", PackMode::kPreferred))), 12) << "all of them together";
}

// KAI 1217: a rack that was full once is refused when it is idle again, until the scheduler is restarted
TEST(Complaint, ARackThatIsIdleAgainIsRefused) {
  Cluster cluster = cluster_of(even_nodes(), std::vector<int>(16, 0));
  EXPECT_TRUE(place(cluster, packed(4, "rack", PackMode::kRequired)).empty());
  std::vector<ObjectKey> gone;
  for (const auto& [key, pod] : cluster.pods()) {
    if (pod.node == "node-6" || pod.node == "node-7") gone.push_back(key);
  }
  ASSERT_EQ(gone.size(), 2u);
  for (const auto& key : gone) cluster.erase_pod(key);
  EXPECT_EQ(domains(cluster, place(cluster, packed(4, "rack", PackMode::kRequired)), "rack"), std::set<std::string>{"r3"});
}

}  // namespace
}  // namespace trainyard::decide
