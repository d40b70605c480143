#include "controller/decide/topology.h"

#include <algorithm>
#include <map>

namespace trainyard::decide {
namespace {

const std::string& label_of(const Node& node, const std::string& label) {
  static const std::string kNone;
  const auto found = node.labels.find(label);
  return found == node.labels.end() ? kNone : found->second;
}

using Path = std::vector<std::string>;

bool is_on(const Node& node, const Path& path, const std::vector<TopologyLevel>& levels) {
  return std::equal(levels.begin(), levels.end(), path.begin(), path.end(),
                    [&](const TopologyLevel& level, const std::string& name) { return label_of(node, level.label) == name; });
}

}  // namespace

Topology::Topology(const Cluster& cluster) : tree_(std::make_shared<const Tree>(grow(cluster))) {
  free_.reserve(tree_->nodes.size());
  for (const auto* node : tree_->nodes) {
    free_.push_back(node->allocatable);
    free_.back() -= cluster.used_on(node->name);
  }
}

Topology::Tree Topology::grow(const Cluster& cluster) {
  // A domain is known by the names of all levels above it, since two zones may both have a rack-1.
  Tree tree{.levels = cluster.settings.topology_levels, .nodes = {}, .index_of = {}, .domains = {}};
  tree.nodes.reserve(cluster.nodes().size());
  tree.index_of.reserve(cluster.nodes().size());
  tree.domains.reserve(cluster.nodes().size());
  const auto& levels = tree.levels;
  const auto num_levels = static_cast<std::int32_t>(levels.size());
  std::vector<std::map<Path, std::vector<std::int32_t>>> members(levels.size());  // by level: domain -> its children
  auto* last = levels.empty() ? nullptr : &*members.back().try_emplace(Path(levels.size())).first;  // of the node before
  for (const auto& [name, node] : cluster.nodes()) {
    const auto index = static_cast<std::int32_t>(tree.nodes.size());
    tree.nodes.push_back(&node);
    tree.index_of.emplace(name, index);
    tree.domains.push_back({.level = num_levels, .name = name});
    if (last == nullptr) continue;
    if (!is_on(node, last->first, levels)) {
      Path path;
      for (const auto& level : levels) path.push_back(label_of(node, level.label));
      last = &*members.back().try_emplace(std::move(path)).first;
    }
    last->second.push_back(index);
  }
  if (!levels.empty()) std::erase_if(members.back(), [](const auto& domain) { return domain.second.empty(); });
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
  const auto found = tree_->index_of.find(name);
  return found == tree_->index_of.end() ? -1 : found->second;
}

std::int32_t Topology::ancestor(std::int32_t domain, std::int32_t level) const {
  while (domains()[domain].level > level) domain = domains()[domain].parent;
  return domain;
}

}  // namespace trainyard::decide
