#include "controller/decide/placement.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace trainyard::decide {
namespace {

std::int64_t whole_groups(std::int64_t fit, std::int64_t group) { return fit - fit % group; }

}  // namespace

GangFit::GangFit(const Topology& topology, const Gang& gang)
    : topology_(topology), gang_(gang), allowed_(topology.num_nodes(), Allowed::kUnknown), fit_(topology.domains().size(), 0) {
  if (!gang.limits.empty()) is_limited_.resize(topology.num_nodes());
  for (const auto* limits : gang.limits) {
    for (const auto& [node, amounts] : *limits) is_limited_[node] = true;
  }
  for (std::size_t i = 0; i < topology.num_nodes(); ++i) fit_[i] = pods_on(i);
  for (std::size_t i = 0; i + 1 < fit_.size(); ++i) {
    if (fit_[i] != 0) fit_[domain(i).parent] += fit_[i];
  }
  if (gang.pack) {
    (gang.pack->mode == contract::PackMode::kRequired ? widest_ : preferred_) = topology.level_of(gang.pack->level);
  }
  for (const auto& name : gang.beside) {
    for (Index at = topology.find_node(name); at >= 0; at = domain(at).parent) beside_.insert(at);
  }
  if (widest_ < 0) {
    if (is_allowed(topology.root())) widest_allowed_.push_back(topology.root());
    return;
  }
  for (Index i = static_cast<Index>(topology.num_nodes()); i < static_cast<Index>(fit_.size()); ++i) {
    if (domain(i).level == widest_ && is_allowed(i)) widest_allowed_.push_back(i);
  }
}

std::int64_t GangFit::pods_on(std::size_t node) const {
  const bool is_limited = !is_limited_.empty() && is_limited_[node];
  const std::int64_t fit =
      is_limited ? fit_into(room_for(gang_, topology_, node), gang_.requests) : fit_into(topology_.free_on(node), gang_.requests);
  if (fit == 0) return 0;
  Allowed& allowed = allowed_[node];
  if (allowed == Allowed::kUnknown) allowed = obstacle_for(gang_, topology_.node(node)) ? Allowed::kNo : Allowed::kYes;
  return allowed == Allowed::kYes ? fit : 0;
}

void GangFit::refresh(std::size_t node) {
  const std::int64_t change = pods_on(node) - fit_[node];
  if (change == 0) return;
  for (auto at = static_cast<Index>(node); at >= 0; at = domain(at).parent) fit_[at] += change;
}

bool GangFit::has_room() const {
  return std::any_of(widest_allowed_.begin(), widest_allowed_.end(), [this](Index i) { return fit_[i] >= needed(); });
}

std::variant<Placement, NoRoom> GangFit::place() const {
  const Index chosen = has_room() ? best_with_room() : -1;
  if (chosen < 0) return no_room();
  Placement placement;
  fill(chosen, gang_.count, placement.nodes);
  return placement;
}

/// Whether the gang may lie in this domain: near its other workers, and inside what pack asks for.
bool GangFit::is_allowed(Index i) const {
  if (!beside_.empty() && !beside_.contains(i)) return false;
  if (widest_ < 0) return true;
  return domain(i).level >= widest_ && !domain(topology_.ancestor(i, widest_)).name.empty();
}

/// The narrowest; a wider one only where the gang then lies in fewer of the domains that pack prefers.
GangFit::Index GangFit::best_with_room() const {
  Index best = -1;
  for (Index level = topology_.num_levels(); level >= -1; --level) {
    for (Index i = 0; i < static_cast<Index>(fit_.size()); ++i) {
      if (domain(i).level != level || fit_[i] < needed() || !is_allowed(i)) continue;
      if (best < 0 || is_better(i, best)) best = i;
    }
    if (best >= 0 && packs_needed(best) == 1) break;
  }
  return best;
}

/// Fewer packs; then the narrower; then fewer cuts; then less room left here, then around it; then by name, which is the order of the
/// indexes.
bool GangFit::is_better(Index a, Index b) const {
  const auto packs_a = packs_needed(a), packs_b = packs_needed(b);
  if (packs_a != packs_b) return packs_a < packs_b;
  if (domain(a).level != domain(b).level) return domain(a).level > domain(b).level;
  const auto cuts_a = parts_needed(a), cuts_b = parts_needed(b);
  if (cuts_a != cuts_b) return cuts_a < cuts_b;
  for (; a >= 0 && b >= 0 && a != b; a = domain(a).parent, b = domain(b).parent) {
    if (fit_[a] != fit_[b]) return fit_[a] < fit_[b];
  }
  return false;
}

/// Whether the domain is one of the level that pack prefers, or lies inside one. Nodes without its label are each for themselves.
bool GangFit::is_in_pack(Index i) const {
  return preferred_ < 0 || domain(i).level > preferred_ || (domain(i).level == preferred_ && !domain(i).name.empty());
}

/// Over how many of the domains that pack prefers the gang would be spread.
std::size_t GangFit::packs_needed(Index i) const { return is_in_pack(i) ? 1 : parts_needed(i); }

/// What a domain is filled by: its packs, or, inside one, its children.
std::vector<GangFit::Index> GangFit::parts_of(Index i) const {
  if (is_in_pack(i)) return domain(i).children;
  std::vector<Index> packs;
  for (const Index child : domain(i).children) {
    if (is_in_pack(child)) {
      packs.push_back(child);
    } else {
      const auto more = parts_of(child);
      packs.insert(packs.end(), more.begin(), more.end());
    }
  }
  return packs;
}

/// Over how many parts the gang would be spread.
std::size_t GangFit::parts_needed(Index i) const {
  std::vector<std::int64_t> fits;
  for (const auto part : parts_of(i)) fits.push_back(fit_[part]);
  std::sort(fits.begin(), fits.end(), std::greater<>());
  std::size_t parts = 0;
  for (std::int64_t left = gang_.count; parts < fits.size() && left > 0; ++parts) left -= fits[parts];
  return parts;
}

/// Puts `count` pods into a domain that has room for them.
void GangFit::fill(Index i, std::int64_t count, std::vector<std::string>& nodes) const {
  if (domain(i).level == topology_.num_levels()) {
    nodes.insert(nodes.end(), static_cast<std::size_t>(count), domain(i).name);
    return;
  }
  auto parts = parts_of(i);
  const std::int64_t group = group_for(parts, count);
  while (count > 0) {
    const auto chosen = best_part(parts, count, group);
    const std::int64_t share = std::min(count, whole_groups(fit_[*chosen], group));
    fill(*chosen, share, nodes);
    count -= share;
    parts.erase(chosen);
  }
}

/// The largest group that can be kept together when `count` pods are spread over the parts.
std::int64_t GangFit::group_for(const std::vector<Index>& parts, std::int64_t count) const {
  for (const auto group : gang_.groups) {
    if (group < 1 || count % group != 0) continue;
    std::int64_t room = 0;
    for (const auto part : parts) room += whole_groups(fit_[part], group);
    if (room >= count) return group;
  }
  return 1;
}

/// The fullest part that still takes all that is left; where none does, the one that takes most.
std::vector<GangFit::Index>::iterator GangFit::best_part(std::vector<Index>& parts, std::int64_t count,
                                                         std::int64_t group) const {
  return std::min_element(parts.begin(), parts.end(), [&](Index a, Index b) {
    const auto fit_a = whole_groups(fit_[a], group), fit_b = whole_groups(fit_[b], group);
    const bool whole_a = fit_a >= count, whole_b = fit_b >= count;
    if (whole_a != whole_b) return whole_a;
    return whole_a ? fit_[a] < fit_[b] : fit_a > fit_b;
  });
}

NoRoom GangFit::no_room() const {
  if (widest_ < 0) return {.fit_now = fit_[topology_.root()], .best_domain = ""};
  NoRoom out;
  for (Index i = 0; i < static_cast<Index>(fit_.size()); ++i) {
    if (domain(i).level != widest_ || !is_allowed(i)) continue;
    if (out.best_domain.empty() || fit_[i] > out.fit_now) out = {.fit_now = fit_[i], .best_domain = domain(i).name};
  }
  return out;
}

Resources room_for(const Gang& gang, const Topology& topology, std::size_t node) {
  Resources room = topology.free_on(node);
  for (const auto* limits : gang.limits) {
    if (const auto found = limits->find(node); found != limits->end()) room.lower_to(found->second);
  }
  return room;
}

std::int64_t fit_into(const Resources& room, const Resources& requests) {
  std::int64_t fit = std::numeric_limits<std::int32_t>::max();
  auto at = room.entries().begin();
  const auto end = room.entries().end();
  for (const auto& [name, amount] : requests.entries()) {  // both are sorted by name
    if (amount <= 0) continue;
    while (at != end && at->first < name) ++at;
    const std::int64_t free = at != end && at->first == name ? at->second : 0;
    if (free < amount) return 0;
    fit = std::min(fit, free / amount);
  }
  return fit;
}

std::optional<Obstacle> obstacle_for(const Gang& gang, const Node& node) {
  const auto found = obstacle(node, gang.rules);
  const bool is_soon_back = found == Obstacle::kNotReady && gang.back_since && node.ready_since > *gang.back_since;
  if (found && !is_soon_back) return found;
  if (gang.avoid.contains(node.name)) return Obstacle::kRejected;
  return std::nullopt;
}

std::variant<Placement, NoRoom> place_gang(const Topology& topology, const Gang& gang) { return GangFit(topology, gang).place(); }

}  // namespace trainyard::decide
