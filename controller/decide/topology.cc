#include "controller/decide/topology.h"

#include <algorithm>
#include <map>

namespace trainyard::decide {
namespace {

std::string label_of(const Node& node, const std::string& label) {
  const auto found = node.labels.find(label);
  return found == node.labels.end() ? "" : found->second;
}

}  // namespace

Topology::Topology(const Cluster& cluster) : tree_(std::make_shared<const Tree>(grow(cluster))) {
  for (const auto* node : tree_->nodes) {
    free_.push_back(node->allocatable);
    free_.back() -= cluster.used_on(node->name);
  }
}

Topology::Tree Topology::grow(const Cluster& cluster) {
  // A domain is known by the names of all levels above it, since two zones may both have a rack-1.
  using Path = std::vector<std::string>;
  Tree tree{.levels = cluster.settings.topology_levels, .nodes = {}, .domains = {}};
  const auto& levels = tree.levels;
  const auto num_levels = static_cast<std::int32_t>(levels.size());
  std::vector<std::map<Path, std::vector<std::int32_t>>> members(levels.size());  // by level: domain -> its children
  for (const auto& [name, node] : cluster.nodes()) {
    const auto index = static_cast<std::int32_t>(tree.nodes.size());
    tree.nodes.push_back(&node);
    tree.domains.push_back({.level = num_levels, .name = name});
    Path path;
    for (const auto& level : levels) path.push_back(label_of(node, level.label));
    if (!levels.empty()) members.back()[path].push_back(index);
  }
  for (std::int32_t level = num_levels - 1; level >= 0; --level) {
    for (auto& [path, children] : members[level]) {
      const auto index = static_cast<std::int32_t>(tree.domains.size());
      for (const auto child : children) tree.domains[child].parent = index;
      tree.domains.push_back({.level = level, .name = path.back(), .parent = -1, .children = std::move(children)});
      if (level > 0) members[level - 1][Path(path.begin(), path.end() - 1)].push_back(index);
    }
  }
  const auto root = static_cast<std::int32_t>(tree.domains.size());
  tree.domains.push_back({});
  for (std::int32_t i = 0; i < root; ++i) {
    if (tree.domains[i].parent >= 0) continue;
    tree.domains[i].parent = root;
    tree.domains[root].children.push_back(i);
  }
  return tree;
}

std::int32_t Topology::level_of(const std::string& name) const {
  const auto found =
      std::find_if(levels().begin(), levels().end(), [&name](const TopologyLevel& level) { return level.name == name; });
  return found == levels().end() ? -1 : static_cast<std::int32_t>(found - levels().begin());
}

std::int32_t Topology::find_node(const std::string& name) const {
  const auto& nodes = tree_->nodes;
  const auto found =
      std::lower_bound(nodes.begin(), nodes.end(), name, [](const Node* node, const std::string& n) { return node->name < n; });
  return found != nodes.end() && (*found)->name == name ? static_cast<std::int32_t>(found - nodes.begin()) : -1;
}

std::int32_t Topology::ancestor(std::int32_t domain, std::int32_t level) const {
  while (domains()[domain].level > level) domain = domains()[domain].parent;
  return domain;
}

}  // namespace trainyard::decide
