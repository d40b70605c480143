#include "controller/decide/room.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/expected_end.h"
#include "controller/decide/memory_fit.h"
#include "controller/decide/preemption.h"

namespace trainyard::decide {
namespace {

/// A gang that has to lie in one domain has its spares there too. It starts without them rather than wait.
std::int32_t wanted_beside(const Candidate& candidate) {
  const auto& spec = candidate.job->spec;
  const bool is_tied = spec.placement.pack && spec.placement.pack->mode == contract::PackMode::kRequired;
  return is_tied && !candidate.has_others() && candidate.size >= spec.workers.count ? spec.workers.spares : 0;
}

/// Nothing sets it apart from others that ask for as much: no workers, no volumes, no nodes of its queue's own.
bool is_plain(const Candidate& candidate, const Labels& flavor) {
  return flavor.empty() && candidate.needs->claims.empty() && candidate.gang.workers.empty();
}

/// With as few workers, which tells more than what is foretold.
bool has_trained(const Candidate& candidate) {
  return candidate.job->status.progress && candidate.size >= gang_size(*candidate.job);
}

}  // namespace

std::string why_not(const Candidate& candidate, const Room::Place& place, const std::set<std::string>& avoided) {
  const std::string all = std::to_string(candidate.size) + " workers";
  if (place.demand.fits.empty()) return "its queue's quota has no room for " + all + " now";
  const std::string missing = std::to_string(candidate.missing.size());
  return "there is room for " + std::to_string(place.fit) + " of the " + missing +
         (candidate.has_others() ? " that are missing of " + all : " workers") + " now" +
         (avoided.empty() ? "" : " beside the nodes that failed it");
}

Gang limited(Gang gang, const std::vector<Reservation*>& binding) {
  for (const auto* reservation : binding) gang.limits.push_back(&reservation->leaves);
  return gang;
}

Gang sparing(Gang gang, const std::set<std::string>& nodes) {
  gang.avoid.insert(nodes.begin(), nodes.end());
  return gang;
}

Room::Room(const Cluster& cluster, const std::vector<Candidate>& line, Time now)
    : cluster_(cluster), now_(now), topology_(cluster), admission_(cluster, line, now) {}

Room::Place Room::find(const Candidate& candidate, const std::vector<Reservation*>& binding,
                       const std::set<std::string>& avoided) {
  Place out{.demand = admission_.demand(candidate, *candidate.needs)};
  if (!cluster_.settings.sees_cluster) {  // kube-scheduler chooses
    out.is_there = !out.demand.fits.empty();
    if (out.is_there) out.flavor = out.demand.fits.front();
    out.nodes.assign(candidate.missing.size(), "");
    return out;
  }
  for (const auto* pod : candidate.in_the_way) give_or_take(*pod, true);
  for (const auto& flavor : out.demand.fits) {
    const bool may_be_known = avoided.empty() && is_plain(candidate, flavor);
    if (const NoRoom* known = may_be_known ? known_failure(candidate, binding) : nullptr) {
      out.fit = std::max(out.fit, known->fit_now);
      continue;
    }
    Gang gang = sparing(gang_of(cluster_, candidate, *candidate.needs, now_, flavor), avoided);
    // Before it is searched for: so those for which there is room on too small GPUs alone cost no more than others that wait.
    if (const auto need = candidate.in_the_way.empty() ? need_of(candidate) : std::nullopt) {
      gang.rules.device = need;
      if (const NoRoom* known = failed_.find(gang, bits_of(binding))) {
        out.fit = std::max(out.fit, known->fit_now);
        continue;
      }
      gang.rules.device.reset();  // by which others than those with the same model would be told apart
    }
    gang.room_beside = wanted_beside(candidate);
    const auto search_once = [&] {
      return candidate.in_the_way.empty() ? search(gang, binding) : place_gang(topology_, limited(gang, binding));
    };
    const auto search_for_it = [&] {
      auto first = search_once();
      if (gang.room_beside == 0 || std::holds_alternative<Placement>(first)) return first;
      gang.room_beside = 0;
      return search_once();
    };
    auto found = search_for_it();
    if (std::holds_alternative<Placement>(found)) {
      if (!out.device) out.device = need_of(candidate);
      gang.rules.device = out.device;
      const auto& nodes = std::get<Placement>(found).nodes;
      const auto is_unfit = [&](const std::string& name) {
        return obstacle_for(gang, topology_.node(static_cast<std::size_t>(topology_.find_node(name)))).has_value();
      };
      if (out.device && std::any_of(nodes.begin(), nodes.end(), is_unfit)) found = search_for_it();
    }
    if (const auto* none = std::get_if<NoRoom>(&found)) {
      out.fit = std::max(out.fit, none->fit_now);
      continue;
    }
    out.is_there = true;
    out.room_beside = gang.room_beside;
    out.flavor = flavor;
    out.nodes = std::get<Placement>(std::move(found)).nodes;
    break;
  }
  for (const auto* pod : candidate.in_the_way) give_or_take(*pod, false);
  return out;
}

std::uint64_t Room::bits_of(const std::vector<Reservation*>& binding) const {
  std::uint64_t bits = 0;
  for (const auto* reservation : binding) bits |= std::uint64_t{1} << (reservation - reservations_.data());
  return bits;
}

std::optional<DeviceNeed> Room::need_of(const Candidate& candidate) {
  const Job& job = *candidate.job;
  const bool is_known = job.spec.engine == contract::Engine::kTrainyard && job.spec.workers.gpusPerWorker > 0;
  if (!is_known || has_trained(candidate)) return std::nullopt;  // and nothing is kept beside the job
  const auto of_layout = [this](const contract::TrainingJobSpec& spec) {
    const auto [found, is_new] = needs_.try_emplace(layout_key(spec));
    if (is_new) found->second = device_need(spec);
    return found->second;
  };
  return job.device_needs.get(candidate.size, [&] {
    return candidate.size == job.spec.workers.count ? of_layout(job.spec) : of_layout(at_size(job.spec, candidate.size));
  });
}

/// Of a job that has no pods, without the making of its gang.
const NoRoom* Room::known_failure(const Candidate& candidate, const std::vector<Reservation*>& binding) {
  const PodNeeds& needs = *candidate.needs;
  const auto find = [&](const DeviceNeed* device) {
    return failed_.find(std::ssize(candidate.missing), needs.requests, needs.rules, device, candidate.job->spec.placement.pack,
                        bits_of(binding));
  };
  if (const NoRoom* known = find(nullptr)) return known;
  const auto need = need_of(candidate);
  return need ? find(&*need) : nullptr;
}

std::variant<Placement, NoRoom> Room::search(const Gang& gang, const std::vector<Reservation*>& binding) {
  const std::uint64_t bits = bits_of(binding);
  if (const NoRoom* known = failed_.find(gang, bits)) return *known;
  auto found = place_gang(topology_, limited(gang, binding));
  if (const auto* none = std::get_if<NoRoom>(&found)) {
    failed_.add(gang, bits, none->fit_now, *none);
    ++num_vain_;
  }
  return found;
}

void Room::take(const Candidate& candidate, const std::vector<std::string>& nodes, const std::vector<Reservation*>& binding) {
  const Resources& requests = candidate.needs->requests;
  Holding holding{.job = candidate.job,
                  .ends = expected_end_if_started(*candidate.job, now_),
                  .priority = candidate.priority,
                  .is_vacating = true};  // for who comes later in this look: it can't be stopped before it was started
  for (const auto& name : nodes) {
    if (name.empty()) continue;
    const auto node = static_cast<std::size_t>(topology_.find_node(name));
    topology_.take(node, requests);
    holding.pods.emplace_back(node, &requests);
    for (auto* reservation : binding) {
      if (const auto left = reservation->leaves.find(node); left != reservation->leaves.end()) left->second -= requests;
    }
  }
  if (held_) held_->insert(std::upper_bound(held_->begin(), held_->end(), holding, ends_before), holding);
  placed_.push_back(std::move(holding));
}

std::vector<Holding>& Room::held() {
  if (!held_) {
    held_ = holdings(cluster_, topology_, now_);
    held_->insert(held_->end(), placed_.begin(), placed_.end());
    for (auto& holding : *held_) {
      if (holding.job != nullptr && victims_.contains(holding.job)) mark_as_leaving(holding);
    }
    std::stable_sort(held_->begin(), held_->end(), ends_before);
  }
  return *held_;
}

void Room::stop(Holding& victim) {
  victims_.insert(victim.job);
  quota_ends_.reset();
  mark_as_leaving(victim);
  if (const Charge* charge = admission_.charge(*victim.job)) admission_.remove(*charge);
}

bool Room::is_leaving(const Holding& holding) const {
  return holding.job != nullptr && (victims_.contains(holding.job) || is_vacating(holding.job->status));
}

std::vector<std::size_t> Room::victims_for(const Candidate& candidate, const Gang& gang, const Admission::Demand& demand,
                                           const Labels& flavor, bool by_right) {
  if (!may_stop_some(candidate, by_right && admission_.has_right(demand, flavor))) return {};
  Trial beside(topology_);
  for (const auto& other : reservations_) {
    for (const auto& [node, amount] : other.takes) beside.take(node, amount);
  }
  QuotaNeed need{.admission = admission_, .demand = demand, .flavor = flavor, .by_right = by_right};
  return choose_victims(topology_, held(), gang, candidate.priority, cluster_.settings, now_, &need);
}

bool Room::may_stop_some(const Candidate& candidate, bool has_right) {
  if (!candidate.priority.preempts) return false;
  if (has_right) return true;
  if (!lowest_priority_) {
    lowest_priority_ = std::numeric_limits<std::int32_t>::max();
    for (const auto& holding : held()) {
      if (holding.job != nullptr && holding.priority.is_known)
        lowest_priority_ = std::min(*lowest_priority_, holding.priority.value);
    }
  }
  return *lowest_priority_ < candidate.priority.value;
}

/// A node that is not ready for a moment keeps its part: else others would have the rest when it is back.
std::optional<Reservation> Room::reserve_for(const Candidate& candidate, const Gang& gang) {
  if (hopeless_.find(gang, 0) != nullptr) return std::nullopt;
  Gang later = gang;
  later.back_since = now_ - cluster_.settings.node_lost;
  auto reservation = reserve(topology_, held(), reservations_, later, *candidate.job);
  if (!reservation) hopeless_.add(gang, 0, gang.count - 1, {});
  return reservation;
}

bool Room::is_hopeless(const Candidate& candidate, const Labels& flavor) {
  if (!is_plain(candidate, flavor)) return false;
  const PodNeeds& needs = *candidate.needs;
  const auto need = need_of(candidate);
  return hopeless_.find(std::ssize(candidate.missing), needs.requests, needs.rules, need ? &*need : nullptr,
                        candidate.job->spec.placement.pack, 0) != nullptr;
}

void Room::keep(Reservation reservation, bool by_right) {
  reservations_.push_back(std::move(reservation));
  num_kept_ += !by_right;
}

std::size_t Room::most_by_right() const {
  constexpr std::size_t kLeast = 8, kMost = 32, kNodesSearched = 100'000;  // all together, FailedSearches has a bit for each
  return std::clamp(kNodesSearched / std::max<std::size_t>(1, topology_.num_nodes()), kLeast, kMost);
}

std::optional<Time> Room::quota_expected(const Admission::Demand& demand, const Labels& flavor) {
  if (!quota_ends_) {
    quota_ends_.emplace();
    std::set<const Job*> gone;  // pods that leave apart from the others count with them
    for (const auto& holding : held()) {
      if (!holding.ends) break;
      const Charge* charge = holding.job == nullptr ? nullptr : admission_.charge(*holding.job);
      if (charge == nullptr || !gone.insert(holding.job).second) continue;
      quota_ends_->push_back({std::max(now_, *holding.ends), admission_.queues().find(charge->queue), charge});
    }
  }
  Queues then = admission_.queues();
  const auto root = then.root(demand.queue);
  for (const auto& end : *quota_ends_) {
    if (then.root(end.queue) != root || end.charge->labels != flavor) continue;
    then.remove(end.queue, flavor, end.charge->amounts);
    if (then.has_room(demand.queue, flavor, demand.amounts)) return end.at;
  }
  return std::nullopt;
}

std::vector<Reservation*> Room::binding_for(const Job& job) {
  std::vector<Reservation*> out;
  for (auto& reservation : reservations_) {
    if (binds(reservation, expected_end_if_started(job, now_))) out.push_back(&reservation);
  }
  return out;
}

void Room::give_or_take(const Pod& pod, bool gives) {
  const auto node = topology_.find_node(pod.node);
  if (node < 0) return;
  if (gives) {
    topology_.give(static_cast<std::size_t>(node), pod.requests);
  } else {
    topology_.take(static_cast<std::size_t>(node), pod.requests);
  }
}

void Room::mark_as_leaving(Holding& holding) const {
  holding.is_vacating = true;
  holding.ends = now_ + std::chrono::seconds(holding.job->spec.lifecycle.checkpointGraceSeconds);
}

}  // namespace trainyard::decide
