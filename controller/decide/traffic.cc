#include "controller/decide/traffic.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "crds/contract/layout.h"
#include "crds/contract/validate.h"
#include "worker/plan/reckonable.h"
#include "worker/plan/traffic.h"

namespace trainyard::decide {
namespace {

using Index = std::int32_t;

/// With more workers than that, fewer beginnings and ways are tried.
constexpr std::size_t kSearchedWell = 16;

/// The domains around a node, from the widest level to the node itself.
std::vector<Index> domains_around(const Topology& topology, Index node) {
  std::vector<Index> out;
  for (std::int32_t level = 0; level <= topology.num_levels(); ++level) out.push_back(topology.ancestor(node, level));
  return out;
}

/// The widest level at which two nodes are apart; as many as there are levels where they are the same.
std::size_t apart_at(const std::vector<Index>& a, const std::vector<Index>& b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
}

/// The same nodes, given first to the first worker of each group of that size, then to the second of each.
std::vector<std::string> across(const std::vector<std::string>& nodes, std::size_t group) {
  std::vector<std::string> out(nodes.size());
  const std::size_t groups = nodes.size() / group;
  for (std::size_t i = 0; i < nodes.size(); ++i) out[i % groups * group + i / groups] = nodes[i];
  return out;
}

/// Whether no node of the gang has room for another worker.
bool takes_whole_nodes(const Topology& topology, const Gang& gang, const std::vector<std::string>& nodes) {
  return std::all_of(nodes.begin(), nodes.end(), [&](const std::string& name) {
    return fit_into(room_for(gang, topology, static_cast<std::size_t>(topology.find_node(name))), gang.requests) == 1;
  });
}

/// Without the narrowest ones of which each domain has but one node, as the host.
std::int32_t num_wide_levels(const Topology& topology) {
  std::vector<std::size_t> domains(static_cast<std::size_t>(topology.num_levels()));
  for (const auto& domain : topology.domains()) {
    if (domain.level >= 0 && domain.level < topology.num_levels()) ++domains[static_cast<std::size_t>(domain.level)];
  }
  std::int32_t out = topology.num_levels();
  while (out > 0 && domains[static_cast<std::size_t>(out) - 1] == topology.num_nodes()) --out;
  return out;
}

/// Makes a placement better step by step.
class Refinement {
 public:
  static constexpr std::int32_t kMostLevels = 7;

  Refinement(const Topology& topology, const Gang& gang, const std::vector<Link>& links, const std::vector<std::string>& nodes)
      : topology_(topology), gang_(gang), links_(nodes.size()) {
    for (const auto& [a, b, bytes] : links) {
      links_[static_cast<std::size_t>(a)].emplace_back(b, bytes);
      links_[static_cast<std::size_t>(b)].emplace_back(a, bytes);
    }
    find_bounds(nodes);
  }

  bool is_within_bounds(const std::vector<std::string>& nodes) const {
    return std::all_of(nodes.begin(), nodes.end(),
                       [this](const std::string& name) { return fit_[static_cast<std::size_t>(topology_.find_node(name))] > 0; });
  }

  /// On the fewest nodes: those that take most workers.
  std::vector<std::string> on_fewest_nodes() const {
    std::vector<std::pair<std::int64_t, Index>> nodes;
    for (std::size_t node = 0; node < fit_.size(); ++node) {
      if (fit_[node] > 0) nodes.emplace_back(-fit_[node], static_cast<Index>(node));
    }
    std::sort(nodes.begin(), nodes.end());
    std::vector<std::string> out;
    for (const auto& [fit, node] : nodes) {
      const auto left = static_cast<std::int64_t>(links_.size() - out.size());
      out.insert(out.end(), static_cast<std::size_t>(std::min(left, -fit)), topology_.node(static_cast<std::size_t>(node)).name);
    }
    return out;
  }

  /// From this placement on, which lies within the bounds of the first one. It is changed in place; its crossings are returned.
  ///
  /// `at_once`: of the steps of so many workers the best is taken. All of them, or one: either may end lower.
  Crossings improve(std::vector<std::string>& nodes, std::size_t at_once) {
    places_.clear();
    for (const auto& name : nodes) places_.push_back(place_of(topology_.find_node(name)));
    find_room();
    for (bool better = true; better;) {
      better = false;
      for (std::size_t a = 0; a < places_.size(); a += at_once) better = take_best_step(a, a + at_once) || better;
    }
    Sum all{};
    for (std::size_t a = 0; a < places_.size(); ++a) {
      nodes[a] = topology_.node(static_cast<std::size_t>(places_[a].back())).name;
      for (const auto& [b, bytes] : links_[a]) {
        if (a < static_cast<std::size_t>(b)) add(places_[a], static_cast<std::size_t>(b), bytes, all);
      }
    }
    Crossings out(all.begin(), all.begin() + topology_.num_levels() + 1);
    std::partial_sum(out.begin(), out.end(), out.begin());
    return out;
  }

 private:
  /// The domains around a node, from the widest level to the node itself, and that again to the end.
  using Place = std::array<Index, kMostLevels + 1>;
  /// The bytes whose ends are apart at a level and at none wider, the last ones nowhere. What is less of this is less of Crossings as well, and each
  /// link counts once.
  using Sum = std::array<std::int64_t, kMostLevels + 2>;

  Place place_of(Index node) const {
    Place out{};
    out.fill(node);
    for (std::int32_t level = 0; level < topology_.num_levels(); ++level)
      out[static_cast<std::size_t>(level)] = topology_.ancestor(node, level);
    return out;
  }

  /// Where workers may be: in the domains that pack names in which they are, or else in the narrowest one around all of them.
  void find_bounds(const std::vector<std::string>& nodes) {
    std::vector<std::vector<Index>> around;
    for (const auto& name : nodes) around.push_back(domains_around(topology_, topology_.find_node(name)));
    const std::int32_t pack = gang_.pack ? topology_.level_of(gang_.pack->level) : -1;
    std::size_t common = around.front().size();
    for (const auto& domains : around) common = std::min(common, apart_at(around.front(), domains));
    const auto level = std::max<std::int32_t>(pack, static_cast<std::int32_t>(std::min(common, around.front().size() - 1)) - 1);
    std::set<Index> bounds;
    for (const auto& domains : around) bounds.insert(level < 0 ? topology_.root() : domains[static_cast<std::size_t>(level)]);
    fit_.resize(topology_.num_nodes());
    for (std::size_t node = 0; node < topology_.num_nodes(); ++node) {
      if (!bounds.contains(topology_.ancestor(static_cast<Index>(node), level))) continue;
      if (obstacle_for(gang_, topology_.node(node))) continue;
      fit_[node] = fit_into(room_for(gang_, topology_, node), gang_.requests);
    }
  }

  /// What is left beside the gang, and the nodes that are worth a try: of those of a narrowest domain that it does not use, the fullest.
  void find_room() {
    room_ = fit_;
    std::set<Index> used;
    for (const auto& place : places_) {
      --room_[static_cast<std::size_t>(place.back())];
      used.insert(place.back());
    }
    std::map<Index, Index> fullest;  // by the narrowest domain around the node that has other nodes too
    for (std::size_t i = 0; i < room_.size(); ++i) {
      const auto node = static_cast<Index>(i);
      if (room_[i] < 1 || used.contains(node)) continue;
      const auto [best, is_new] = fullest.try_emplace(neighbourhood(node), node);
      if (!is_new && room_[i] < room_[static_cast<std::size_t>(best->second)]) best->second = node;
    }
    targets_.clear();
    for (const Index node : used) targets_.push_back(place_of(node));
    for (const auto& [domain, node] : fullest) targets_.push_back(place_of(node));
  }

  /// A level such as the host has a domain for each node, which tells nothing.
  Index neighbourhood(Index node) const {
    Index at = topology_.domains()[static_cast<std::size_t>(node)].parent;
    const auto is_alone = [this](Index i) { return topology_.domains()[static_cast<std::size_t>(i)].children.size() == 1; };
    while (at != topology_.root() && is_alone(at)) at = topology_.domains()[static_cast<std::size_t>(at)].parent;
    return at;
  }

  /// Of all exchanges and moves of the workers [first, last), the one that lessens the crossings most. False where none does.
  bool take_best_step(std::size_t first, std::size_t last) {
    struct Step {
      Sum change{};
      std::size_t a = 0, b = 0;       // who change places …
      const Place* target = nullptr;  // … or where `a` goes
    } best;
    for (std::size_t a = first; a < last; ++a) {
      const Sum now = of(a, places_[a]);
      for (const auto& target : targets_) {
        if (target.back() == places_[a].back() || room_[static_cast<std::size_t>(target.back())] < 1) continue;
        if (const Sum change = difference(of(a, target), now); change < best.change) best = {change, a, a, &target};
      }
      for (std::size_t b = 0; b < places_.size(); ++b) {
        if (places_[a].back() == places_[b].back()) continue;
        const Sum before = of_both(a, b);
        std::swap(places_[a], places_[b]);
        const Sum change = difference(of_both(a, b), before);
        std::swap(places_[a], places_[b]);
        if (change < best.change) best = {change, a, b, nullptr};
      }
    }
    if (best.change == Sum{}) return false;
    if (best.target != nullptr) {
      move(best.a, Place(*best.target));
    } else {
      std::swap(places_[best.a], places_[best.b]);
    }
    return true;
  }

  void move(std::size_t a, const Place& target) {
    const Place old = std::exchange(places_[a], target);
    ++room_[static_cast<std::size_t>(old.back())];
    --room_[static_cast<std::size_t>(places_[a].back())];
    // The node that it left may be one that nobody else of the gang uses, and then is as good a target as any.
    const auto is_old = [&old](const Place& known) { return known.back() == old.back(); };
    if (std::none_of(targets_.begin(), targets_.end(), is_old)) targets_.push_back(old);
  }

  void add(const Place& place, std::size_t other, std::int64_t bytes, Sum& sum) const {
    const Place& there = places_[other];
    std::size_t level = 0;
    while (level < place.size() && place[level] == there[level]) ++level;
    sum[level] += bytes;
  }
  /// What a worker's links cross from that place.
  Sum of(std::size_t a, const Place& place) const {
    Sum sum{};
    for (const auto& [other, bytes] : links_[a]) add(place, static_cast<std::size_t>(other), bytes, sum);
    return sum;
  }
  Sum of_both(std::size_t a, std::size_t b) const {
    Sum sum = of(a, places_[a]);
    for (const auto& [other, bytes] : links_[b]) add(places_[b], static_cast<std::size_t>(other), bytes, sum);
    return sum;
  }
  static Sum difference(Sum a, const Sum& b) {
    for (std::size_t level = 0; level < a.size(); ++level) a[level] -= b[level];
    return a;
  }

  const Topology& topology_;
  const Gang& gang_;
  std::vector<std::vector<std::pair<std::int32_t, std::int64_t>>> links_;  // by worker: the other one, and the bytes
  std::vector<std::int64_t> fit_;                                          // by node: how many workers may be there
  std::vector<std::int64_t> room_;                                         // and how many more than are
  std::vector<Place> places_;                                              // by worker
  std::vector<Place> targets_;                                             // the nodes to move to
};

}  // namespace

std::vector<std::int32_t> groups_of(const contract::TrainingJobSpec& spec) {
  const auto degrees = contract::degrees(spec);
  const std::int32_t a_worker = contract::processes_per_worker(spec);
  std::vector<std::int32_t> out;
  for (const std::int32_t ranks : {degrees.pp * degrees.cp * degrees.tp, degrees.cp * degrees.tp, degrees.tp}) {
    if (ranks > a_worker && ranks % a_worker == 0) out.push_back(ranks / a_worker);
  }
  return out;
}

std::vector<Link> links_of(const contract::TrainingJobSpec& spec) {
  // What the API server has let in is valid, but for another version of the resource.
  if (spec.engine != contract::Engine::kTrainyard || !contract::validate(spec).empty() || !plan::is_reckonable(spec)) return {};
  const std::int32_t a_worker = contract::processes_per_worker(spec);
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> sums;
  for (const auto& flow : plan::traffic_per_step(spec)) {
    const std::int32_t from = flow.from / a_worker, to = flow.to / a_worker;
    if (from != to) sums[{std::min(from, to), std::max(from, to)}] += flow.bytes;
  }
  std::vector<Link> out;
  for (const auto& [pair, bytes] : sums) out.push_back({pair.first, pair.second, bytes});
  return out;
}

Crossings crossings(const Topology& topology, const std::vector<Link>& links, const std::vector<std::string>& nodes) {
  std::map<std::string, std::vector<Index>> around;
  for (const auto& name : nodes) {
    const Index node = topology.find_node(name);
    if (node >= 0) around.try_emplace(name, domains_around(topology, node));
  }
  Crossings out(static_cast<std::size_t>(topology.num_levels()) + 1);
  for (const auto& [a, b, bytes] : links) {
    const auto at_a = around.find(nodes[static_cast<std::size_t>(a)]), at_b = around.find(nodes[static_cast<std::size_t>(b)]);
    if (at_a == around.end() || at_b == around.end()) continue;
    for (auto level = apart_at(at_a->second, at_b->second); level < out.size(); ++level) out[level] += bytes;
  }
  return out;
}

std::vector<double> crossing_seconds(const Topology& topology, const std::vector<Link>& links,
                                     const std::vector<std::string>& nodes, double bytes_per_second) {
  const std::size_t levels = static_cast<std::size_t>(topology.num_levels()) + 1;
  std::vector<std::vector<Index>> around;  // nothing around a node that is gone
  for (const auto& name : nodes) {
    const Index node = topology.find_node(name);
    around.push_back(node < 0 ? std::vector<Index>{} : domains_around(topology, node));
  }
  struct Load {
    double bytes = 0;
    double workers = 0;
  };
  std::vector<std::map<Index, Load>> loads(levels);  // of each level's domains
  for (const auto& domains : around) {
    for (std::size_t level = 0; level < domains.size(); ++level) ++loads[level][domains[level]].workers;
  }
  for (const auto& [a, b, bytes] : links) {
    const auto &at_a = around[static_cast<std::size_t>(a)], &at_b = around[static_cast<std::size_t>(b)];
    if (at_a.empty() || at_b.empty()) continue;
    for (auto level = apart_at(at_a, at_b); level < levels; ++level) {
      for (const auto* domains : {&at_a, &at_b}) loads[level][(*domains)[level]].bytes += static_cast<double>(bytes);
    }
  }
  std::vector<double> out;
  for (const auto& level : loads) {
    double most = 0;
    for (const auto& [domain, load] : level) {
      most = std::max(most, load.bytes / 2 / (load.workers * bytes_per_second));  // half goes each way, or more one of them
    }
    out.push_back(most);
  }
  return out;
}

std::vector<std::string> least_traffic(const Topology& topology, const Gang& gang, const std::vector<Link>& links,
                                       std::vector<std::string> found) {
  if (links.empty() || topology.num_levels() > Refinement::kMostLevels) return found;
  const Crossings now = crossings(topology, links, found);
  const auto wide = static_cast<std::ptrdiff_t>(num_wide_levels(topology));
  const bool between_nodes_alone = std::all_of(now.begin(), now.begin() + wide, [](std::int64_t bytes) { return bytes == 0; });
  const bool one_each = std::set<std::string>(found.begin(), found.end()).size() == found.size();
  if (now.back() == 0 || (between_nodes_alone && one_each && takes_whole_nodes(topology, gang, found))) return found;
  const bool is_large = found.size() > kRefinedAtMost;
  Refinement refinement(topology, gang, links, found);
  std::vector<std::string> best = found;
  Crossings least = now;
  const auto try_from = [&](const std::vector<std::string>& start) {
    if (!refinement.is_within_bounds(start)) return;
    if (is_large) {
      if (Crossings crossed = crossings(topology, links, start); crossed < least) {
        least = std::move(crossed);
        best = start;
      }
      return;
    }
    for (const std::size_t at_once : {std::size_t{1}, found.size()}) {
      if (at_once > kSearchedWell) continue;
      std::vector<std::string> nodes = start;
      if (Crossings crossed = refinement.improve(nodes, at_once); crossed < least) {
        least = std::move(crossed);
        best = std::move(nodes);
      }
    }
  };
  /// Worker by worker, and then across the replicas: all their first workers, all their second ones, …
  const auto try_both_from = [&](const std::vector<std::string>& start) {
    try_from(start);
    for (const std::int32_t replica : gang.groups) {
      if (gang.count % replica == 0) try_from(across(start, static_cast<std::size_t>(replica)));
    }
  };
  const auto try_with_groups_of = [&](std::int32_t workers) {
    Gang other = gang;
    other.groups = {workers};
    const auto placed = place_gang(topology, other);  // beside it there may be no room for spares on such nodes
    if (const auto* there = std::get_if<Placement>(&placed)) try_both_from(there->nodes);
  };
  try_both_from(found);
  try_both_from(refinement.on_fewest_nodes());
  for (std::int32_t group = 1; group < gang.count && !is_large; ++group) {
    if (gang.count % group == 0 && (found.size() <= kSearchedWell || group == 1)) try_with_groups_of(group);
  }
  // As many as have the same part of the model, which across() then gives to those.
  for (const std::int32_t replica : gang.groups) {
    if (is_large && gang.count % replica == 0) try_with_groups_of(gang.count / replica);
  }
  return best;
}

std::vector<contract::LevelTraffic> traffic_status(const Topology& topology, const contract::TrainingJobSpec& spec,
                                                   const std::vector<Link>& links, const std::vector<std::string>& nodes) {
  std::vector<contract::LevelTraffic> out;
  if (spec.engine != contract::Engine::kTrainyard || (links.empty() && spec.workers.count > 1)) return out;
  const Crossings bytes = crossings(topology, links, nodes);
  for (std::size_t level = 0; level < bytes.size(); ++level) {
    const bool is_node = level == topology.levels().size();
    out.push_back(
        {.level = is_node ? "node" : topology.levels()[level].name, .bytesPerStep = bytes[level], .seconds = std::nullopt});
  }
  return out;
}

}  // namespace trainyard::decide
