#include "controller/decide/making_room.h"

#include <algorithm>
#include <set>

#include "controller/decide/pod_template.h"
#include "controller/decide/preemption.h"
#include "controller/decide/review.h"

namespace trainyard::decide {
namespace {

/// Nobody is stopped for room that there will be so soon, or before he would have made any.
constexpr std::chrono::seconds kSoon{60};
/// Estimates of when there will be room are made anew at least so often.
constexpr std::chrono::seconds kEstimatesLast{30};

}  // namespace

bool MakingRoom::may_preempt(const Job& job) const {
  const auto* check = cluster_.template_check(job);
  return check != nullptr && !check->over_quota && cluster_.refusal(job) == nullptr;
}

std::optional<Reservation> MakingRoom::reserve_or_preempt(const Candidate& candidate, const Gang& gang,
                                                          const Admission::Demand& demand, const Labels& flavor) {
  auto reservation = room_.reserve_for(candidate, gang);
  if (!reservation || !may_preempt(*candidate.job)) return reservation;
  const auto victims = room_.victims_for(candidate, gang, demand, flavor, false);
  if (victims.empty()) return reservation;
  Time room_at = now_ + kSoon;
  for (const auto i : victims) {
    room_at = std::max(room_at, now_ + std::chrono::seconds(room_.held()[i].job->spec.lifecycle.checkpointGraceSeconds));
  }
  if (reservation->start && *reservation->start > now_ && *reservation->start <= room_at) return reservation;
  stop(victims, candidate, demand);
  return room_.reserve_for(candidate, gang);
}

std::optional<Reservation> MakingRoom::reclaim(const Candidate& candidate, const Gang& gang, const Admission::Demand& demand,
                                               const Labels& flavor) {
  const auto victims = room_.victims_for(candidate, gang, demand, flavor, true);
  if (victims.empty()) return std::nullopt;
  stop(victims, candidate, demand);
  return room_.reserve_for(candidate, gang);
}

void MakingRoom::stop(const std::vector<std::size_t>& victims, const Candidate& candidate, const Admission::Demand& demand) {
  for (const auto i : victims) {
    Holding& victim = room_.held()[i];
    Review review(cluster_, *victim.job, now_);
    const bool is_lower = victim.priority.value < candidate.priority.value;
    preempt(review, *candidate.job, candidate.priority, victim.priority,
            is_lower ? "" : room_.admission().queues().queue(demand.queue).name);
    plans_.emplace(victim.job->key, review.plan());
    room_.stop(victim);
  }
  std::stable_sort(room_.held().begin(), room_.held().end(), ends_before);
}

std::vector<std::string> MakingRoom::makers_of_room(const Reservation& reservation) {
  std::set<std::string> out;
  for (const auto& holding : room_.held()) {
    if (!room_.is_leaving(holding)) continue;
    const bool is_there = std::any_of(holding.pods.begin(), holding.pods.end(),
                                      [&](const auto& pod) { return reservation.takes.contains(pod.first); });
    if (is_there) out.insert(to_text(holding.job->key));
  }
  return {out.begin(), out.end()};
}

std::vector<std::string> MakingRoom::makers_of_room(const Labels& flavor) {
  std::set<std::string> out;
  for (const auto& holding : room_.held()) {
    if (!room_.is_leaving(holding)) continue;
    const Charge* charge = room_.admission().charge(*holding.job);
    if (charge != nullptr && charge->labels == flavor) out.insert(to_text(holding.job->key));
  }
  return {out.begin(), out.end()};
}

Time MakingRoom::changes_at(const Candidate& candidate, const Reservation& reservation) {
  Time at = now_ + kEstimatesLast;
  if (reservation.start && *reservation.start > now_) at = std::min(at, *reservation.start + std::chrono::seconds(1));
  return candidate.priority.preempts ? std::min(at, protection_ends()) : at;
}

Time MakingRoom::protection_ends() {
  if (protection_ends_) return *protection_ends_;
  Time at = Time::max();
  for (const auto& holding : room_.held()) {
    const auto until = holding.job == nullptr ? std::nullopt : protected_until(*holding.job, cluster_.settings);
    if (until && *until > now_) at = std::min(at, *until);
  }
  protection_ends_ = at;
  return at;
}

}  // namespace trainyard::decide
