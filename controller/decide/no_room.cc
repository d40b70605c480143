#include "controller/decide/no_room.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "controller/decide/memory_fit.h"
#include "controller/decide/quantity.h"
#include "controller/decide/words.h"

namespace trainyard::decide {
namespace {

constexpr std::size_t kHoldersNamed = 3;

struct Words {
  const char *one, *many;
};
constexpr std::array<Words, 9> kObstacles{{
    // in the order of Obstacle
    {" does not match the template's nodeSelector or affinity", " do not match the template's nodeSelector or affinity"},
    {" cannot mount a volume of the template's claims", " cannot mount a volume of the template's claims"},
    {" has GPUs with too little memory for a rank", " have GPUs with too little memory for a rank"},
    {" has a taint that the template does not tolerate", " have taints that the template does not tolerate"},
    {" has a taint for a condition of its own, as pressure", " have taints for conditions of their own, as pressure"},
    {" is unhealthy by one of its conditions", " are unhealthy by their conditions"},
    {" is cordoned", " are cordoned"},
    {" is not ready", " are not ready"},
    {" rejected a pod a moment ago", " rejected pods a moment ago"},
}};

/// "2 workers of 8 nvidia.com/gpu and 16 cpu".
std::string wanted(const Gang& gang) {
  std::vector<std::string> amounts;
  for (const auto& [name, amount] : gang.requests.entries()) {
    if (name != kPods && amount > 0) amounts.push_back(quantity_text(name, amount) + " " + name);
  }
  return counted(gang.count, "worker") + (amounts.empty() ? "" : " of " + listed(amounts));
}

/// What the nodes say, one reason a node.
struct Census {
  std::array<std::int64_t, kObstacles.size()> by_obstacle{};
  std::vector<std::size_t> full;                // nodes without an obstacle, and without room for one more pod
  std::map<std::string, std::int64_t> lacking;  // resource -> of how many full nodes it is what lacks
};

Census take_census(const Topology& topology, const Gang& gang) {
  Census census;
  for (std::size_t i = 0; i < topology.num_nodes(); ++i) {
    if (const auto found = obstacle_for(gang, topology.node(i))) {
      ++census.by_obstacle[static_cast<std::size_t>(*found)];
    } else if (fit_into(topology.free_on(i), gang.requests) == 0) {
      census.full.push_back(i);
      for (const auto& [name, amount] : gang.requests.entries()) {
        if (topology.free_on(i)[name] < amount) ++census.lacking[name];
      }
    }
  }
  return census;
}

/// "nvidia.com/gpu is held by job default/a (128) and other pods (40)": the resource that lacks on most nodes.
std::string holders(const Cluster& cluster, const Topology& topology, const Census& census) {
  const auto most = std::max_element(census.lacking.begin(), census.lacking.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == census.lacking.end()) return "";
  const std::string& resource = most->first;
  std::map<std::string, std::int64_t> by_job;
  std::int64_t others = 0;
  for (const auto i : census.full) {
    for (const auto* pod : cluster.pods_on(topology.node(i).name)) {
      (pod->worker ? by_job["job " + pod->key.ns + "/" + pod->worker->job] : others) += pod->requests[resource];
    }
  }
  std::vector<std::pair<std::string, std::int64_t>> sorted(by_job.begin(), by_job.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string> words;
  std::int64_t more = 0;
  for (const auto& [name, amount] : sorted) {
    if (amount == 0) continue;
    if (words.size() < kHoldersNamed) {
      words.push_back(name + " (" + quantity_text(resource, amount) + ")");
    } else {
      more += amount;
    }
  }
  if (more > 0) words.push_back("other jobs (" + quantity_text(resource, more) + ")");
  if (others > 0) words.push_back("other pods (" + quantity_text(resource, others) + ")");
  return words.empty() ? "" : ": " + resource + " is held by " + listed(words);
}

std::string where(const Cluster& cluster, const Topology& topology, const Gang& gang) {
  if (topology.num_nodes() == 0) return "The cluster has no nodes.";
  const Census census = take_census(topology, gang);
  std::vector<std::string> words;
  for (std::size_t i = 0; i < kObstacles.size(); ++i) {
    const auto nodes = census.by_obstacle[i];
    if (nodes > 0) words.push_back(std::to_string(nodes) + (nodes == 1 ? kObstacles[i].one : kObstacles[i].many));
  }
  if (!census.full.empty()) {
    words.push_back(std::to_string(census.full.size()) + (census.full.size() == 1 ? " is" : " are") + " too full" +
                    holders(cluster, topology, census));
  }
  if (words.empty()) return "";
  return "Of " + counted(static_cast<std::int64_t>(topology.num_nodes()), "node") + ", " + listed(words) + ".";
}

/// How many nodes' GPUs are too small; with a space before it. Empty where none's are.
std::string small_devices(const Topology& topology, const Gang& gang) {
  std::int64_t number = 0;
  for (std::size_t i = 0; i < topology.num_nodes(); ++i) number += obstacle_for(gang, topology.node(i)) == Obstacle::kDevice;
  if (number == 0) return "";
  return " " + counted(number, "node") + (number == 1 ? " has" : " have") + " GPUs with less than the " +
         bytes_text(gang.rules.device->bytes) + " that a rank needs.";
}

/// Empty where single pods have their place; else what is too much for every node.
std::string too_large(const Topology& topology, const Gang& gang, bool& any_node) {
  bool fits = false;
  std::map<std::string, std::pair<std::int64_t, std::string>> largest;
  any_node = false;
  for (std::size_t i = 0; i < topology.num_nodes(); ++i) {
    const Node& node = topology.node(i);
    const auto found = obstacle(node, gang.rules);
    if (found && is_lasting(*found)) continue;
    any_node = true;
    fits = fits || fit_into(node.allocatable, gang.requests) > 0;
    for (const auto& [name, amount] : gang.requests.entries()) {
      auto& most = largest[name];
      if (most.second.empty() || node.allocatable[name] > most.first) most = {node.allocatable[name], node.name};
    }
  }
  if (fits || !any_node) return "";
  std::vector<std::string> words;
  for (const auto& [name, amount] : gang.requests.entries()) {
    const auto& [most, node] = largest[name];
    if (most >= amount) continue;
    std::string word = quantity_text(name, amount);
    word += " " + name + ", of which the largest node, ";
    word += node + ", has " + quantity_text(name, most);
    words.push_back(std::move(word));
  }
  return words.empty() ? "amounts that no single node has together" : listed(words);
}

/// How many pods the nodes would hold if they were empty and healthy; with pack Required those of the best domain.
std::int64_t fit_when_empty(const Topology& topology, const Gang& gang) {
  const bool required = gang.pack && gang.pack->mode == contract::PackMode::kRequired;
  const std::int32_t level = required ? topology.level_of(gang.pack->level) : -1;
  std::map<std::int32_t, std::int64_t> by_domain;
  for (std::size_t i = 0; i < topology.num_nodes(); ++i) {
    const auto found = obstacle(topology.node(i), gang.rules);
    if (found && is_lasting(*found)) continue;
    const auto domain = topology.ancestor(static_cast<std::int32_t>(i), level);
    if (level >= 0 && topology.domains()[domain].name.empty()) continue;
    by_domain[domain] += fit_into(topology.node(i).allocatable, gang.requests);
  }
  std::int64_t best = 0;
  for (const auto& [domain, fit] : by_domain) best = std::max(best, fit);
  return best;
}

}  // namespace

Explanation explain(const Cluster& cluster, const Topology& topology, const Gang& gang, const NoRoom& no_room) {
  bool any_node = false;
  const std::string too_much = too_large(topology, gang, any_node);
  if (!too_much.empty())
    return {true, "no node can ever hold a worker: it asks for " + too_much + ". Ask for less, or add larger nodes."};
  std::string message = "needs " + wanted(gang);
  if (!any_node) return {true, message + "; no node can take one. " + where(cluster, topology, gang)};
  const bool required = gang.pack && gang.pack->mode == contract::PackMode::kRequired;
  const std::string together = required ? " in one " + gang.pack->level : "";
  if (const auto empty = fit_when_empty(topology, gang); empty < gang.count) {
    return {true, message + together + "; " + (required ? "the largest " + gang.pack->level : "the whole cluster") +
                      " would hold " + std::to_string(empty) + " if it were empty." + small_devices(topology, gang) +
                      " Use fewer or smaller workers, or add nodes."};
  }
  message += together + "; " + std::to_string(no_room.fit_now) + (no_room.fit_now == 1 ? " fits" : " fit") + " now";
  if (!no_room.best_domain.empty()) message += ", in " + no_room.best_domain;
  if (!gang.beside.empty()) message += ", near the workers that are there";
  const std::string reasons = where(cluster, topology, gang);
  return {false, message + "." + (reasons.empty() ? "" : " " + reasons)};
}

}  // namespace trainyard::decide
