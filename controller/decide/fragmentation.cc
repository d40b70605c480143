#include "controller/decide/fragmentation.h"

#include <algorithm>
#include <cstdint>

namespace trainyard::decide {

std::vector<double> fragmentation(const Topology& topology, const std::string& resource) {
  const auto& domains = topology.domains();
  std::vector<std::int64_t> free(domains.size()), all(domains.size());
  for (std::size_t i = 0; i < topology.num_nodes(); ++i) {
    const Node& node = topology.node(i);
    if (!node.ready || node.unschedulable) continue;
    free[i] = std::max<std::int64_t>(0, topology.free_on(i)[resource]);
    all[i] = node.allocatable[resource];
  }
  std::vector<std::int64_t> in_whole(static_cast<std::size_t>(topology.num_levels()) + 1);
  for (std::size_t i = 0; i < domains.size(); ++i) {  // children before parents
    if (domains[i].parent >= 0) {
      free[static_cast<std::size_t>(domains[i].parent)] += free[i];
      all[static_cast<std::size_t>(domains[i].parent)] += all[i];
    }
    if (domains[i].level >= 0 && free[i] == all[i]) in_whole[static_cast<std::size_t>(domains[i].level)] += free[i];
  }
  const std::int64_t total = free.back();
  std::vector<double> out;
  for (const auto whole : in_whole) out.push_back(total == 0 ? 0 : 1 - static_cast<double>(whole) / static_cast<double>(total));
  return out;
}

}  // namespace trainyard::decide
