// The quota as it will be when all gangs are gone that vacate: whom it is promised to, and who may be stopped for it.

#include <algorithm>
#include <functional>
#include <iterator>
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

void Admission::let_leave() {
  for (const auto& [key, job] : cluster_.jobs()) {
    const Charge* charge = queues_.charge(job);
    if (charge == nullptr) continue;
    const bool leaves = is_vacating(job.status) || (is_finished(job.status) && !keeps_pods_at_end(job)) || job.deleting;
    if (!leaves) continue;
    const Index queue = queues_.find(charge->queue);
    later_.remove(queue, charge->labels, charge->amounts);
    if (queue < 0 || job.deleting || reason_of(job.status, condition::kRunning) != reason::kPreempting) continue;
    stopped_[queue].push_back(charge);
    count_stopped(queue, 1);
  }
}

bool Admission::has_room_later(const Demand& demand, const Labels& labels) {
  return !demand.takes_quota() || has_room(later_, demand, labels);
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
    entitled_promised_[found->second.place] += found->second.amounts;
  }
  if (demand.left) move(later_, *demand.left, false);
  later_.add(demand.queue, labels, demand.amounts);
}

void Admission::remove(const Charge& charge) {
  const Index queue = queues_.find(charge.queue);
  move(later_, charge, false);
  stopped_[queue].push_back(&charge);
  count_stopped(queue, 1);
}

void Admission::put_back(const Charge& charge) {
  const Index queue = queues_.find(charge.queue);
  move(later_, charge, true);
  auto& stopped = stopped_[queue];
  stopped.erase(std::find(stopped.rbegin(), stopped.rend(), &charge).base() - 1);
  count_stopped(queue, -1);
}

void Admission::count_stopped(Index queue, int more) {
  for (; queue >= 0; queue = queues_.parent(queue)) {
    num_stopped_[queue] += more;
    for (auto known = known_later_.begin(); known != known_later_.end();) {
      known = known->first.first == queue ? known_later_.erase(known) : std::next(known);
    }
  }
}

Queues::Claim Admission::claim(const Demand& demand, const Labels& labels, const Charge& charge, const Resources& amounts) {
  const Index other = queues_.find(charge.queue);
  const bool is_of_tree = other >= 0 && other != demand.queue && queues_.root(other) == queues_.root(demand.queue);
  if (!is_of_tree) return {.is_within = true};
  if (demand.left) move(later_, *demand.left, false);
  const Queues::Claim out = later_.claim(demand.queue, labels, amounts, other);
  if (demand.left) move(later_, *demand.left, true);
  return out;
}

bool Admission::has_right(const Demand& demand, const Labels& labels) {
  if (!demand.takes_quota()) return false;
  if (demand.left) move(later_, *demand.left, false);
  const bool out = later_.may_be_within(demand.queue, labels, with_those_before(demand, labels));
  if (demand.left) move(later_, *demand.left, true);
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

/// One by one, what those of the queue wait for, in their order, and what those held who make room: they will wait again. The first of them
/// that finds too little is passed over, since it may yet have its place by making others of its own queue stop.
template <class Takes>
void Admission::offer(Index queue, const Labels& labels, Takes takes) const {
  constexpr int kLooked = 64;
  int num_looked = 0;
  if (const auto line = waiting_.find(queue); line != waiting_.end()) {
    for (const auto* candidate : line->second) {
      if (settled_.contains(candidate->job)) continue;
      if (++num_looked > kLooked) break;
      if (contradicts(labels, candidate->needs->rules)) continue;
      const Resources amounts = times(candidate->needs->requests, candidate->waits_for);
      if (queues_.may_ever_fit(queue, labels, amounts)) takes(amounts);
    }
  }
  if (const auto stopped = stopped_.find(queue); stopped != stopped_.end()) {
    for (const auto* charge : stopped->second) {
      if (charge->labels == labels) takes(charge->amounts);
    }
  }
}

bool Admission::some_are_stopped(Index queue) const {
  const auto found = num_stopped_.find(queue);
  return found != num_stopped_.end() && found->second > 0;
}

/// What those of the queue may have within its own quota: more than entitled_ says, where some of it or of those below it make room.
Resources Admission::entitled_later(const Queues& ledger, Index queue, const Labels& labels) const {
  Resources now;
  if (const auto* found = find_in(entitled_, queue, labels)) now = *found;
  if (const auto* promised = find_in(entitled_promised_, queue, labels)) now -= *promised;
  if (!some_are_stopped(queue) || queues_.stopped(queue)) return now;
  if (const auto* known = find_in(known_later_, queue, labels)) return *known;
  Resources out;
  offer(queue, labels, [&](const Resources& amounts) {
    Resources all = out;
    all += amounts;
    if (!ledger.would_borrow(queue, labels, all)) out = std::move(all);
  });
  for (const auto* claims : {&ahead_, &heads_}) {  // they have it already
    if (const auto* theirs = find_in(*claims, queue, labels)) out = excess(out, theirs->open());
  }
  out.raise_to(now);
  known_later_[{queue, labels}] = out;
  return out;
}

bool Admission::leaves_others_theirs_later(Queues& ledger, const Demand& demand, const Labels& labels) const {
  const Index root = queues_.root(demand.queue);
  std::map<Index, Resources> theirs;            // by queue, whoever it is that has waited for them
  std::map<Index, bool, std::greater<>> above;  // queues above these, the lowest first; whether some in it were stopped
  const auto add_queue = [&](Index queue) {
    if (queue < 0 || queue == demand.queue || queues_.root(queue) != root || theirs.contains(queue)) return;
    theirs[queue] = entitled_later(ledger, queue, labels);
    for (Index at = queues_.parent(queue); at >= 0 && at != root && !above.contains(at); at = queues_.parent(at)) {
      if (!queues_.is_in(demand.queue, at)) above.emplace(at, some_are_stopped(at));
    }
  };
  for (const auto& [queue, line] : waiting_) add_queue(queue);
  for (const auto& [queue, stopped] : stopped_) add_queue(queue);
  for (const auto* claims : {&heads_, &ahead_}) {
    for (const auto& [place, claim] : *claims) {
      const bool is_of_another = place.first != demand.queue && place.second == labels && queues_.root(place.first) == root;
      if (is_of_another) theirs[place.first] += claims == &heads_ ? claim.amounts : claim.open();
    }
  }
  for (const auto& [queue, amounts] : theirs) ledger.add(queue, labels, amounts);
  const auto count_below = [&](Index within, bool adds) {
    if (const auto* rights = find_in(entitled_below_, within, labels)) ledger.count(within, labels, *rights, adds);
  };
  for (const auto& [at, is_more] : above) {
    const Index within = at;
    if (!is_more) {
      count_below(within, true);
      continue;
    }
    for (auto& [queue, counted] : theirs) {
      if (queue == within || !queues_.is_in(queue, within) || queues_.stopped(queue)) continue;
      Resources all, more;
      offer(queue, labels, [&, &known = counted, below = queue](const Resources& amounts) {
        Resources with = all;
        with += amounts;
        const Resources beyond = excess(with, known);
        if (!ledger.has_room_within(within, below, labels, beyond)) return;
        all = std::move(with);
        more = beyond;
      });
      ledger.add(queue, labels, more);
      counted += more;
    }
  }
  const bool out = leaves_others_theirs(ledger, demand, labels);
  for (const auto& [queue, amounts] : theirs) ledger.remove(queue, labels, amounts);
  for (const auto& [within, is_more] : above) {
    if (!is_more) count_below(within, false);
  }
  return out;
}

}  // namespace trainyard::decide
