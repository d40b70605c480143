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

Topology::Topology(const Cluster& cluster) : levels_(cluster.settings.topology_levels) {
  // A domain is known by the names of all levels above it, since two zones may both have a rack-1.
  using Path = std::vector<std::string>;
  std::vector<std::map<Path, std::vector<std::int32_t>>> members(levels_.size());  // by level: domain -> its children
  std::vector<Path> paths;
  for (const auto& [name, node] : cluster.nodes()) {
    const auto index = static_cast<std::int32_t>(nodes_.size());
    nodes_.push_back(&node);
    free_.push_back(node.allocatable);
    free_.back() -= cluster.used_on(name);
    domains_.push_back({.level = num_levels(), .name = name});
    Path path;
    for (const auto& level : levels_) path.push_back(label_of(node, level.label));
    if (!levels_.empty()) members.back()[path].push_back(index);
  }
  for (std::int32_t level = num_levels() - 1; level >= 0; --level) {
    for (auto& [path, children] : members[level]) {
      const auto index = static_cast<std::int32_t>(domains_.size());
      for (const auto child : children) domains_[child].parent = index;
      domains_.push_back({.level = level, .name = path.back(), .parent = -1, .children = std::move(children)});
      if (level > 0) members[level - 1][Path(path.begin(), path.end() - 1)].push_back(index);
    }
  }
  root_ = static_cast<std::int32_t>(domains_.size());
  domains_.push_back({});
  for (std::int32_t i = 0; i < root_; ++i) {
    if (domains_[i].parent >= 0) continue;
    domains_[i].parent = root_;
    domains_[root_].children.push_back(i);
  }
}

std::int32_t Topology::level_of(const std::string& name) const {
  const auto found =
      std::find_if(levels_.begin(), levels_.end(), [&name](const TopologyLevel& level) { return level.name == name; });
  return found == levels_.end() ? -1 : static_cast<std::int32_t>(found - levels_.begin());
}

std::int32_t Topology::find_node(const std::string& name) const {
  const auto found =
      std::lower_bound(nodes_.begin(), nodes_.end(), name, [](const Node* node, const std::string& n) { return node->name < n; });
  return found != nodes_.end() && (*found)->name == name ? static_cast<std::int32_t>(found - nodes_.begin()) : -1;
}

std::int32_t Topology::ancestor(std::int32_t domain, std::int32_t level) const {
  while (domains_[domain].level > level) domain = domains_[domain].parent;
  return domain;
}

}  // namespace trainyard::decide
