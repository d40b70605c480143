#include "controller/decide/moves.h"

#include <algorithm>
#include <set>
#include <utility>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/traffic.h"

namespace trainyard::decide {
namespace {

constexpr std::size_t kMovesNamed = 3;

double devices_moved(const Holding& holding) {
  return static_cast<double>(std::max(1, holding.job->spec.workers.gpusPerWorker)) * static_cast<double>(holding.pods.size());
}

/// What would be placed anew. Nothing of a gang that is not whole, or of which the API server has not said what its pods need.
std::optional<Gang> gang_of(const Cluster& cluster, const Holding& holding) {
  const Job& job = *holding.job;
  const auto* check = cluster.template_check(job);
  const std::int32_t size = gang_size(job);
  const bool is_whole =
      static_cast<std::int32_t>(holding.pods.size()) == size && reason_of(job.status, condition::kPlaced) == reason::kGangPlaced;
  if (check == nullptr || !is_whole) return std::nullopt;
  return Gang{.count = size,
              .requests = check->needs.requests,
              .rules = check->needs.rules,
              .pack = job.spec.placement.pack,
              .groups = groups_of(at_size(job.spec, size))};
}

class WhatIf {
 public:
  WhatIf(const Cluster& cluster, const Topology& topology, const std::vector<Holding>& held, const Gang& gang)
      : cluster_(cluster), before_(topology), held_(held), gang_(gang) {
    for (std::size_t i = 0; i < held.size(); ++i) {
      if (held[i].job != nullptr && !held[i].is_vacating) movable_.push_back(i);
    }
    std::stable_sort(movable_.begin(), movable_.end(),
                     [&](std::size_t a, std::size_t b) { return devices_moved(held[a]) < devices_moved(held[b]); });
  }

  /// Moves of gangs that have pods in that domain alone.
  std::optional<std::vector<Move>> within(std::int32_t domain) const {
    Topology after = before_;
    std::vector<std::size_t> gone;
    {
      GangFit fit(after, gang_);
      const auto change = [&](std::size_t i, bool leaves) {
        for (const auto& [node, requests] : held_[i].pods) {
          leaves ? after.give(node, *requests) : after.take(node, *requests);
          fit.refresh(node);
        }
      };
      for (const auto i : movable_) {
        if (fit.has_room()) break;
        if (!is_in(held_[i], domain)) continue;
        if (gone.size() == kGangsMoved) return std::nullopt;
        change(i, true);
        gone.push_back(i);
      }
      if (!fit.has_room()) return std::nullopt;
      std::reverse(gone.begin(), gone.end());
      std::erase_if(gone, [&](std::size_t i) {  // the largest first
        change(i, false);
        if (fit.has_room()) return true;
        change(i, true);
        return false;
      });
      const auto found = fit.place();
      for (const auto& node : std::get<Placement>(found).nodes) {
        after.take(static_cast<std::size_t>(after.find_node(node)), gang_.requests);
      }
    }
    std::vector<Move> moves;
    for (const auto i : gone) {
      const auto gang = gang_of(cluster_, held_[i]);
      if (!gang) return std::nullopt;
      const auto found = place_gang(after, *gang);
      if (!std::holds_alternative<Placement>(found)) return std::nullopt;
      moves.push_back({.job = held_[i].job, .nodes = std::get<Placement>(found).nodes});
      for (const auto& node : moves.back().nodes) after.take(static_cast<std::size_t>(after.find_node(node)), gang->requests);
    }
    return moves;
  }

  /// Domains of the level that pack requires, those with the most room first; or else all of the cluster.
  std::vector<std::int32_t> domains() const {
    const bool required = gang_.pack && gang_.pack->mode == contract::PackMode::kRequired;
    if (!required) return {before_.root()};
    std::vector<std::pair<std::int64_t, std::int32_t>> by_room;
    std::vector<std::int64_t> fit(before_.domains().size());
    for (std::size_t i = 0; i < fit.size(); ++i) {
      const auto& domain = before_.domains()[i];
      if (i < before_.num_nodes() && !obstacle_for(gang_, before_.node(i))) fit[i] = fit_into(before_.free_on(i), gang_.requests);
      if (domain.parent >= 0) fit[static_cast<std::size_t>(domain.parent)] += fit[i];
      if (domain.level == before_.level_of(gang_.pack->level) && !domain.name.empty()) {
        by_room.emplace_back(-fit[i], static_cast<std::int32_t>(i));
      }
    }
    std::sort(by_room.begin(), by_room.end());
    std::vector<std::int32_t> out;
    for (std::size_t i = 0; i < std::min(by_room.size(), kDomainsTried); ++i) out.push_back(by_room[i].second);
    return out;
  }

 private:
  bool is_in(const Holding& holding, std::int32_t domain) const {
    const std::int32_t level = before_.domains()[static_cast<std::size_t>(domain)].level;
    return std::any_of(holding.pods.begin(), holding.pods.end(),
                       [&](const auto& pod) { return before_.ancestor(static_cast<std::int32_t>(pod.first), level) == domain; });
  }

  const Cluster& cluster_;
  const Topology& before_;
  const std::vector<Holding>& held_;
  const Gang& gang_;
  std::vector<std::size_t> movable_;  // in the order of their devices
};

}  // namespace

std::optional<std::vector<Move>> moves_for(const Cluster& cluster, const Topology& topology, const std::vector<Holding>& held,
                                           const Gang& gang) {
  const WhatIf what_if(cluster, topology, held, gang);
  std::optional<std::vector<Move>> best;
  double least = 0;
  for (const auto domain : what_if.domains()) {
    auto moves = what_if.within(domain);
    if (!moves || moves->empty()) continue;
    double devices = 0;
    for (const auto& move : *moves) {
      devices += static_cast<double>(std::max(1, move.job->spec.workers.gpusPerWorker)) * static_cast<double>(move.nodes.size());
    }
    if (best && devices >= least) continue;
    least = devices;
    best = std::move(moves);
  }
  return best;
}

std::string to_text(const Topology& topology, const std::vector<Move>& moves, std::int32_t level) {
  std::string out = "If ";
  for (std::size_t i = 0; i < std::min(moves.size(), kMovesNamed); ++i) {
    std::set<std::string> places;
    for (const auto& node : moves[i].nodes) {
      const auto index = topology.find_node(node);
      const auto& domain = topology.domains()[static_cast<std::size_t>(topology.ancestor(index, std::max(0, level)))];
      places.insert(domain.name.empty() ? node : domain.name);
    }
    if (i > 0) out += ", ";
    out += to_text(moves[i].job->key) + " (" + std::to_string(moves[i].nodes.size()) +
           (moves[i].nodes.size() == 1 ? " worker)" : " workers)");
    out += " moved to " + *places.begin() + (places.size() > 1 ? " and " + std::to_string(places.size() - 1) + " more" : "");
  }
  if (moves.size() > kMovesNamed) out += " and " + std::to_string(moves.size() - kMovesNamed) + " other jobs moved";
  return out + ", there would be room.";
}

}  // namespace trainyard::decide
