// The quota as it will be when all gangs are gone that vacate: whom it is promised to, and who may be stopped for it.

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "controller/decide/admission.h"
#include "controller/decide/conditions.h"
#include "controller/decide/kept_pods.h"

namespace trainyard::decide {

Resources Admission::WaitedFor::open() const {
  Resources out = amounts;
  out -= promised;
  return out;
}

Queues& Admission::later() const {
  if (later_) return *later_;
  later_ = queues_;
  for (const auto& [key, job] : cluster_.jobs()) {
    const Charge* charge = queues_.charge(job);
    if (charge == nullptr) continue;
    const bool leaves = is_vacating(job.status) || (is_finished(job.status) && !keeps_pods_at_end(job)) || job.deleting;
    if (leaves) later_->remove(later_->find(charge->queue), charge->labels, charge->amounts);
  }
  return *later_;
}

bool Admission::has_room_later(const Demand& demand, const Labels& labels) {
  return !demand.takes_quota() || has_room(later(), demand, labels);
}

void Admission::promise(const Demand& demand, const Labels& labels) {
  if (!demand.takes_quota()) return;
  settled_.insert(demand.job);
  keep(demand, labels, std::nullopt);
  const Resources amounts = uncounted(demand, labels);
  promised_[{demand.queue, labels}] += amounts;
  if (!demand.is_entitled) {
    ahead_.at({demand.queue, labels}).promised += amounts;
  } else if (const auto found = entitlements_.find(demand.job->key); found != entitlements_.end()) {
    entitled_promised_[found->second.first] += found->second.second;
  }
  if (demand.left) move(later(), *demand.left, false);
  later().add(demand.queue, labels, demand.amounts);
}

void Admission::remove(const Charge& charge) { move(later(), charge, false); }
void Admission::put_back(const Charge& charge) { move(later(), charge, true); }

Queues::Claim Admission::claim(const Demand& demand, const Labels& labels, const Charge& charge, const Resources& amounts) {
  const Index other = queues_.find(charge.queue);
  const bool is_of_tree = other >= 0 && other != demand.queue && queues_.root(other) == queues_.root(demand.queue);
  if (!is_of_tree) return {.is_within = true};
  if (demand.left) move(later(), *demand.left, false);
  const Queues::Claim out = later().claim(demand.queue, labels, amounts, other);
  if (demand.left) move(later(), *demand.left, true);
  return out;
}

bool Admission::has_right(const Demand& demand, const Labels& labels) {
  if (!demand.takes_quota()) return false;
  if (demand.left) move(later(), *demand.left, false);
  const bool out = later().may_be_within(demand.queue, labels, with_those_before(demand, labels));
  if (demand.left) move(later(), *demand.left, true);
  return out;
}

bool Admission::may_reclaim(const Demand& demand, const Labels& labels, const Charge* charge) {
  if (!demand.takes_quota() || charge == nullptr || charge->labels != labels) return false;
  const auto found = claim(demand, labels, *charge, with_those_before(demand, labels));
  return found.is_within && found.other_borrows;
}

bool Admission::may_stop(const Demand& demand, const Labels& labels, const Charge* charge, bool is_lower) {
  if (!is_lower) return may_reclaim(demand, labels, charge);
  if (!demand.takes_quota() || charge == nullptr) return true;
  const auto found = claim(demand, labels, *charge, demand.amounts);
  return found.is_within || found.other_borrows;
}

/// What those of the queue may have within its own quota once the gangs are gone that leave: more than now, where one of its own does.
Resources Admission::entitled_later(Queues& ledger, Index queue, const Labels& labels) const {
  constexpr int kLooked = 64;
  Resources now;
  if (const auto* found = find_in(entitled_, queue, labels)) now = *found;
  if (const auto* promised = find_in(entitled_promised_, queue, labels)) now -= *promised;
  const auto& used = queues_.own_usage(queue).entries();
  const bool has_left = std::any_of(used.begin(), used.end(),
                                    [&](const auto& entry) { return ledger.own_usage(queue)[entry.first] < entry.second; });
  if (!has_left || queues_.stopped(queue)) return now;
  Resources out;
  int num_looked = 0;
  for (const auto* candidate : waiting_.at(queue)) {
    if (settled_.contains(candidate->job)) continue;
    if (++num_looked > kLooked) break;
    if (contradicts(labels, candidate->needs->rules)) continue;
    Resources amounts = times(candidate->needs->requests, candidate->waits_for);
    if (!ledger.may_ever_fit(queue, labels, amounts)) continue;
    Resources all = out;
    all += amounts;
    if (ledger.would_borrow(queue, labels, all)) break;
    out = std::move(all);
  }
  for (const auto* claims : {&ahead_, &heads_}) {  // they have it already
    const auto* theirs = find_in(*claims, queue, labels);
    if (theirs == nullptr) continue;
    const Resources all = out, open = theirs->open();
    for (const auto& [name, amount] : all.entries()) out.set(name, std::max<std::int64_t>(0, amount - open[name]));
  }
  out.raise_to(now);
  return out;
}

bool Admission::leaves_others_theirs_later(Queues& ledger, const Demand& demand, const Labels& labels) const {
  const Index root = queues_.root(demand.queue);
  const auto is_of_another = [&](const Place& place) {
    return place.first != demand.queue && place.second == labels && queues_.root(place.first) == root;
  };
  std::map<Index, Resources> entitled;  // whoever it is that has waited for them
  for (const auto& [queue, line] : waiting_) {
    if (queue != demand.queue && queues_.root(queue) == root) entitled[queue] = entitled_later(ledger, queue, labels);
  }
  const auto for_others = [&](auto change) {
    for (const auto& [queue, amounts] : entitled) change(queue, amounts);
    for (const auto& [place, head] : heads_) {
      if (is_of_another(place)) change(place.first, head.amounts);
    }
    for (const auto& [place, claim] : ahead_) {
      if (is_of_another(place)) change(place.first, claim.open());
    }
  };
  for_others([&](Index queue, const Resources& amounts) { ledger.add(queue, labels, amounts); });
  const bool out = ledger.has_room(demand.queue, labels, demand.amounts);
  for_others([&](Index queue, const Resources& amounts) { ledger.remove(queue, labels, amounts); });
  return out;
}

}  // namespace trainyard::decide
