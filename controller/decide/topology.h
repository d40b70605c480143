#pragma once
// The cluster's nodes as a tree of domains, with what is free on each node: what placement works on.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// A part of the cluster: all of it (level -1), a topology level's domain (level 0 is the widest), or one node (level num_levels()).
struct Domain {
  std::int32_t level = -1;
  std::string name;          // the label's value; empty: nodes without the label
  std::int32_t parent = -1;  // index; -1: none
  std::vector<std::int32_t> children;
};

/// Built from a cluster in O(nodes log nodes); take() and give() then keep it up to date with what is planned and not done yet. Copies share all
/// but what is free, so that "what if" is cheap.
class Topology {
 public:
  explicit Topology(const Cluster& cluster);

  /// Node i is the domain i; its parent chain ends at root().
  std::size_t num_nodes() const { return tree_->nodes.size(); }
  std::int32_t num_levels() const { return static_cast<std::int32_t>(tree_->levels.size()); }
  const std::vector<TopologyLevel>& levels() const { return tree_->levels; }
  /// The index of the level of that name, or -1.
  std::int32_t level_of(const std::string& name) const;
  const Node& node(std::size_t i) const { return *tree_->nodes[i]; }
  /// The index of the node of that name, or -1.
  std::int32_t find_node(const std::string& name) const;
  const Resources& free_on(std::size_t i) const { return free_[i]; }
  void take(std::size_t i, const Resources& requests) { free_[i] -= requests; }
  void give(std::size_t i, const Resources& requests) { free_[i] += requests; }

  const std::vector<Domain>& domains() const { return tree_->domains; }
  std::int32_t root() const { return static_cast<std::int32_t>(tree_->domains.size()) - 1; }
  /// The domain of that level around a domain of a narrower one (or itself).
  std::int32_t ancestor(std::int32_t domain, std::int32_t level) const;

 private:
  friend class Trial;
  struct Tree {
    std::vector<TopologyLevel> levels;
    std::vector<const Node*> nodes;  // by name
    std::unordered_map<std::string_view, std::int32_t> index_of;
    std::vector<Domain> domains;  // first the nodes, then the others, children before parents
  };
  static Tree grow(const Cluster& cluster);

  std::shared_ptr<const Tree> tree_;
  std::vector<Resources> free_;
};

/// What if: changes a topology, and leaves it as it was. Cheaper than a copy where few of many nodes change.
class Trial {
 public:
  explicit Trial(Topology& topology) : topology_(topology) {}
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;
  ~Trial() {
    for (auto at = before_.rbegin(); at != before_.rend(); ++at) topology_.free_[at->first] = std::move(at->second);
  }
  void take(std::size_t i, const Resources& requests) { changing(i) -= requests; }
  void give(std::size_t i, const Resources& requests) { changing(i) += requests; }

 private:
  Resources& changing(std::size_t i) {
    Resources& free = topology_.free_[i];
    before_.emplace_back(i, free);
    return free;
  }

  Topology& topology_;
  std::vector<std::pair<std::size_t, Resources>> before_;  // sums saturate: to add what was taken would not always do
};

/// Amounts by a node's index in the topology.
using NodeAmounts = std::map<std::size_t, Resources>;

}  // namespace trainyard::decide
