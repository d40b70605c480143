#include "controller/decide/admission.h"

#include <algorithm>
#include <numeric>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/expected_end.h"
#include "controller/decide/quantity.h"
#include "controller/decide/review.h"

namespace trainyard::decide {
namespace {

bool is_at_least(const Resources& amounts, const Resources& other) {
  return std::all_of(other.entries().begin(), other.entries().end(),
                     [&](const auto& entry) { return amounts[entry.first] >= entry.second; });
}

/// Its gang is there, and is to have more workers than it has quota for.
bool grows_beyond(const Candidate& candidate, const PodNeeds& needs, const Charge& charge) {
  return candidate.has_others() && candidate.size > gang_size(*candidate.job) &&
         !is_at_least(charge.amounts, times(needs.requests, std::int64_t{candidate.size} + candidate.spares));
}

/// Of what `amounts` asks for alone.
Resources sum(const Resources& amounts, const Resources& more) {
  Resources out = amounts;
  for (const auto& [name, amount] : more.entries()) {
    if (amounts[name] > 0) out += Resources{{name, amount}};
  }
  return out;
}

}  // namespace

bool contradicts(const Labels& labels, const NodeRules& rules) {
  return std::any_of(labels.begin(), labels.end(), [&](const auto& label) {
    const auto found = rules.selector.find(label.first);
    return found != rules.selector.end() && found->second != label.second;
  });
}

void lower_admission(contract::TrainingJobStatus& status, const Resources& needed) {
  if (!status.admission) return;
  for (auto& [resource, amount] : status.admission->resources) {
    const auto had = parse_quantity(resource, amount.text);
    if (had && needed[resource] < *had) amount = {quantity_text(resource, needed[resource])};
  }
}

void raise_admission(contract::TrainingJobStatus& status, const Resources& more) {
  if (!status.admission) return;
  for (const auto& [resource, amount] : more.entries()) {
    if (amount <= 0) continue;
    auto& held = status.admission->resources[resource];
    held = {quantity_text(resource, parse_quantity(resource, held.text).value_or(0) + amount)};
  }
}

Admission::Admission(const Cluster& cluster, const std::vector<Candidate>& line, Time now)
    : cluster_(cluster), now_(now), queues_(cluster), later_(queues_), claimed_(queues_) {
  if (queues_.is_empty()) return;
  let_leave();
  claimed_ = later_;
  entitle(line);
}

bool Admission::holds_rightly(const Job& job, const Charge& charge) {
  const auto pods = cluster_.pods_of(job);
  if (std::any_of(pods.begin(), pods.end(), [](const Pod* pod) { return !pod->is_finished(); })) return true;
  const Index queue = queues_.find(charge.queue);
  move(queues_, charge, false);
  if (queue < 0 || queues_.has_room(queue, charge.labels, charge.amounts)) {
    move(queues_, charge, true);
    return true;
  }
  move(later_, charge, false);
  known_later_.clear();
  return false;
}

Admission::Demand Admission::demand(const Candidate& candidate, const PodNeeds& needs) {
  const Job& job = *candidate.job;
  Demand out{.job = &job};
  if (queues_.is_empty()) {
    out.fits.emplace_back();
    return out;
  }
  out.ends = expected_end_if_started(job, now_);
  const auto right = entitlements_.find(job.key);
  out.is_entitled = right != entitlements_.end() && right->second.is_own;
  const Charge* charge = queues_.charge(job);
  if (charge != nullptr && grows_beyond(candidate, needs, *charge)) {
    out.left = *charge;
    out.queue = queues_.find(charge->queue);
    out.amounts = times(needs.requests, std::int64_t{candidate.size} + candidate.spares);
    const bool exists = out.queue >= 0;  // else the gang keeps what it has, and gets no more
    if (exists && !queues_.stopped(out.queue) && has_room(queues_, out, charge->labels)) out.fits.push_back(charge->labels);
    return out;
  }
  if (charge != nullptr && keeps_its_quota(candidate)) {
    out.queue = queues_.find(charge->queue);
    out.amounts = charge->amounts;
    out.is_charged = holds_rightly(job, *charge);
    (out.is_charged ? out.fits : out.later).push_back(charge->labels);
    if (!out.is_charged) queues_.forget(job);
    return out;
  }
  if (charge != nullptr) out.left = *charge;
  out.queue = queues_.find(queue_name(cluster_, job));
  out.amounts = times(needs.requests, candidate.size);
  if (out.queue >= 0 && queues_.stopped(out.queue)) return out;
  const auto& flavors = queues_.flavors(out.queue);
  if (flavors.empty()) out.fits.emplace_back();
  for (const auto& flavor : flavors) {
    if (contradicts(flavor.labels, needs.rules) || !queues_.may_ever_fit(out.queue, flavor.labels, out.amounts)) continue;
    (has_room(queues_, out, flavor.labels) ? out.fits : out.later).push_back(flavor.labels);
  }
  return out;
}

Resources Admission::uncounted(Index queue, const Labels& labels, const Resources& amounts, const Charge* left) const {
  Resources out = amounts;
  if (left == nullptr || left->labels != labels || queues_.find(left->queue) != queue) return out;
  for (const auto& [name, amount] : amounts.entries()) out.set(name, std::max<std::int64_t>(0, amount - left->amounts[name]));
  return out;
}

Resources Admission::uncounted(const Demand& demand, const Labels& labels) const {
  return uncounted(demand.queue, labels, demand.amounts, demand.left ? &*demand.left : nullptr);
}

void Admission::change(Queues& ledger, Index queue, const Labels& labels, const Resources& amounts, bool adds) const {
  const auto change_one = [&](Queues& one) { adds ? one.add(queue, labels, amounts) : one.remove(queue, labels, amounts); };
  change_one(ledger);
  if (&ledger == &queues_) change_one(claimed_);
}

void Admission::move(Queues& ledger, const Charge& charge, bool adds) const {
  change(ledger, queues_.find(charge.queue), charge.labels, charge.amounts, adds);
}

/// What others of its queue are to have before it.
Resources Admission::kept_from(const Demand& demand, const Labels& labels, bool later) const {
  Resources out;
  const auto add = [&](const WaitedFor& before, bool may_be_over_by_then) {
    const bool is_over_by_then = may_be_over_by_then && demand.ends && before.expected && *demand.ends <= *before.expected;
    if (!is_over_by_then) out += before.amounts;
  };
  if (const auto* kept = find_in(kept_, demand.queue, labels)) {
    for (const auto& before : *kept) add(before, !later);  // who starts later is over later
  }
  if (const auto* promised = later ? find_in(promised_, demand.queue, labels) : nullptr) out -= *promised;
  if (const auto* waited_for = find_in(waited_for_, demand.queue, labels)) add(*waited_for, true);
  return out;
}

/// What its queue would use of what is left later.
Resources Admission::with_those_before(const Demand& demand, const Labels& labels) const {
  return sum(demand.amounts, kept_from(demand, labels, true));
}

bool Admission::has_room(Queues& ledger, const Demand& demand, const Labels& labels) const {
  if (demand.left) {
    Demand alone = demand;
    alone.left.reset();
    known_later_.clear();
    move(ledger, *demand.left, false);
    const bool out = has_room(ledger, alone, labels);
    move(ledger, *demand.left, true);
    known_later_.clear();
    return out;
  }
  if (!ledger.has_room(demand.queue, labels, demand.amounts)) return false;  // as of most that wait, whoever is before them
  const bool is_now = &ledger == &queues_;
  const Resources kept = kept_from(demand, labels, !is_now);
  if (!kept.entries().empty() && !ledger.has_room(demand.queue, labels, sum(demand.amounts, kept))) return false;
  if (is_now && entitled_.empty() && entitled_below_.empty() && heads_.empty() && ahead_.empty()) return true;
  if (!ledger.would_borrow(demand.queue, labels, demand.amounts)) return true;
  return is_now ? leaves_others_theirs_now(demand, labels) : leaves_others_theirs_later(ledger, demand, labels);
}

/// `claimed` counts what others are to have. Of a queue above its own that has room for it only those below that queue are to have any.
bool Admission::leaves_others_theirs(const Queues& claimed, const Demand& demand, const Labels& labels) const {
  for (Index above = queues_.parent(demand.queue); above >= 0 && queues_.parent(above) >= 0; above = queues_.parent(above)) {
    if (claimed.has_room_within(above, demand.queue, labels, demand.amounts)) return true;
  }
  return claimed.has_room(demand.queue, labels, demand.amounts);
}

bool Admission::leaves_others_theirs_now(const Demand& demand, const Labels& labels) const {
  auto& known = too_much_[{demand.queue, labels}];  // in the course of a look there is only ever less of it
  const auto is_known = [&](const auto& amounts) { return is_at_least(demand.amounts, amounts); };
  if (!demand.ends && std::any_of(known.begin(), known.end(), is_known)) return false;
  const auto each_that_is_not_left = [&](auto change) {  // its own queue's, and that of others for whom it will be over in time
    for (const auto* claims : {&heads_, &ahead_}) {
      for (const auto& [place, claim] : *claims) {
        const bool is_own = place.first == demand.queue;
        const bool is_over_by_then = demand.ends && claim.expected && *demand.ends <= *claim.expected;
        if (place.second == labels && (is_own || is_over_by_then)) change(place.first, claim.amounts);
      }
    }
  };
  const auto change_rights =
      [&](bool adds) {  // those of its own queue; and against it those below a queue above it have none by that
        if (const auto* own = find_in(entitled_, demand.queue, labels)) claimed_.count(demand.queue, labels, *own, adds);
        for (Index within = demand.queue; within >= 0; within = queues_.parent(within)) {
          if (const auto* rights = find_in(entitled_below_, within, labels)) claimed_.count(within, labels, *rights, adds);
        }
      };
  each_that_is_not_left([&](Index queue, const Resources& amounts) { claimed_.remove(queue, labels, amounts); });
  change_rights(false);
  const bool out = leaves_others_theirs(claimed_, demand, labels);
  change_rights(true);
  each_that_is_not_left([&](Index queue, const Resources& amounts) { claimed_.add(queue, labels, amounts); });
  if (!out && !demand.ends) known.push_back(demand.amounts);
  return out;
}

std::string Admission::others_before(const Demand& demand, const Labels& labels) const {
  for (const auto* claims : {&heads_, &ahead_}) {
    for (const auto& [place, claim] : *claims) {
      const bool is_before =
          place.second == labels && place.first != demand.queue && queues_.root(place.first) == queues_.root(demand.queue);
      if (is_before) return "TrainingQueue " + queues_.queue(place.first).name + ", whose turn to borrow comes before";
    }
  }
  return "queues that are within their own quota, or within that of a queue above them";
}

Admission::Refusal Admission::why_not(const Job& job, const PodNeeds& needs, const Demand& demand) const {
  const std::string name = queue_name(cluster_, job);
  if (const auto stopped = queues_.stopped(demand.queue)) return {reason::kQueueStopped, stopped->message};
  std::string words;
  bool may_fit = false;
  for (const auto& flavor : queues_.flavors(demand.queue)) {
    const std::string on = (words.empty() ? "" : "; ") + ("on " + to_text(flavor.labels)) + ": ";
    if (contradicts(flavor.labels, needs.rules)) {
      words += on + "the template's nodeSelector asks for other nodes";
      continue;
    }
    const bool fits = queues_.may_ever_fit(demand.queue, flavor.labels, demand.amounts);
    may_fit = may_fit || fits;
    const Resources kept = kept_from(demand, flavor.labels, false);
    std::string lacking;
    for (const auto& [resource, amount] : demand.amounts.entries()) {
      const auto* quota = amount > 0 ? queues_.quota(demand.queue, flavor.labels, resource) : nullptr;
      if (quota == nullptr) continue;
      const auto text = [resource = resource](std::int64_t number) {
        return quantity_text(resource, std::max<std::int64_t>(0, number));
      };
      const std::int64_t most = quota->most(demand.queue), free = quota->available(demand.queue);
      const std::int64_t nominal = quota->subtree(demand.queue);
      const std::string needed = (lacking.empty() ? "" : ", ") + resource + " needs " + text(amount);
      if (!fits) {
        if (amount > most) lacking += needed + ", and the queue may use " + text(most) + " at most";
      } else if (free < amount + kept[resource] || quota->usage(demand.queue) + amount > nominal) {
        lacking += needed + ", " + text(free) + " free (nominal " + text(nominal) + ", used " + text(quota->usage(demand.queue)) +
                   (most > nominal ? ", may borrow " + text(most - nominal) : "") +
                   (kept[resource] > 0 && free >= amount ? "; " + text(kept[resource]) + " kept for jobs before it" : "") +
                   (kept[resource] == 0 && free >= amount ? "; kept for " + others_before(demand, flavor.labels) : "") + ")";
      }
    }
    words += on + lacking;
  }
  if (may_fit) return {reason::kQuotaExceeded, "TrainingQueue " + name + ": " + words};
  return {reason::kQuotaTooSmall, "TrainingQueue " + name + " can never hold it: " + words +
                                      ". Use fewer or smaller workers, another queue, or have its owner raise the quota"};
}

void Admission::start(const Job& job, const Demand& demand, const Labels& labels) {
  settled_.insert(&job);
  known_later_.clear();
  if (demand.left) {
    move(queues_, *demand.left, false);
    move(later_, *demand.left, false);
    queues_.forget(job);
  }
  if (!demand.takes_quota() && !queues_.is_empty() && !demand.is_charged) queues_.add(-1, labels, demand.amounts);
  if (!demand.takes_quota()) return;
  if (const auto right = entitlements_.find(job.key); right != entitlements_.end()) {
    give_up_right(job.key, Labels(right->second.place.second));
  }
  change(queues_, demand.queue, labels, demand.amounts, true);
  later_.add(demand.queue, labels, demand.amounts);
}

std::int32_t Admission::room_for_more(Index queue, const Labels& labels, const Resources& requests, std::int32_t most) const {
  if (queue >= 0 && queues_.stopped(queue)) return 0;
  Demand more{.queue = queue, .amounts = {}, .fits = {}, .later = {}};
  std::int32_t fits = 0, too_many = most + 1;
  while (too_many - fits > 1) {
    const std::int32_t number = std::midpoint(fits, too_many);
    more.amounts = times(requests, number);
    (has_room(queues_, more, labels) ? fits : too_many) = number;
  }
  return fits;
}

void Admission::add_more(Index queue, const Labels& labels, const Resources& amounts) {
  if (queues_.is_empty()) return;
  change(queues_, queue, labels, amounts, true);
  later_.add(queue, labels, amounts);
  known_later_.clear();
}

void Admission::keep(const Demand& demand, const Labels& labels, std::optional<Time> expected) {
  if (!demand.takes_quota()) return;
  known_later_.clear();
  const Resources amounts = uncounted(demand, labels);
  kept_[{demand.queue, labels}].push_back({.amounts = amounts, .expected = expected});
  if (demand.is_entitled) return;  // nobody may borrow that
  give_up_right(demand.job->key, labels);
  const auto [found, is_first] = ahead_.try_emplace(Place(demand.queue, labels), WaitedFor{.amounts = {}, .expected = expected});
  WaitedFor& claim = found->second;
  claim.amounts += amounts;
  if (!is_first && !expected) claim.expected.reset();
  if (!is_first && expected && claim.expected) claim.expected = std::min(*claim.expected, *expected);
  claimed_.add(demand.queue, labels, amounts);
}

void Admission::wait(const Demand& demand, const Labels& labels) {
  if (!demand.takes_quota()) return;
  const Resources amounts = uncounted(demand, labels);
  waited_for_[{demand.queue, labels}].amounts += amounts;
  const Place tree(queues_.root(demand.queue), labels);
  if (trees_with_a_head_.contains(tree) || !queues_.would_borrow(demand.queue, labels, amounts)) return;
  const auto right = entitlements_.find(demand.job->key);
  const auto change_right = [&](bool adds) {
    if (right == entitlements_.end()) return;
    claimed_.count(right->second.place.first, right->second.place.second, right->second.amounts, adds);
  };
  change_right(false);
  const bool is_first = claimed_.has_room_without_borrowers(demand.queue, labels, demand.amounts);
  change_right(true);
  if (!is_first) return;
  give_up_right(demand.job->key, labels);
  known_later_.clear();
  trees_with_a_head_.insert(tree);
  heads_.emplace(Place(demand.queue, labels), WaitedFor{.amounts = amounts, .expected = {}});
  claimed_.add(demand.queue, labels, amounts);
}

void Admission::expect(const Demand& demand, const Labels& labels, Time at) {
  const std::pair<Index, const Labels&> place(demand.queue, labels);
  if (const auto found = waited_for_.find(place); found != waited_for_.end()) found->second.expected = at;
  if (const auto found = heads_.find(place); found != heads_.end()) found->second.expected = at;
}

void admit(Review& review, const Queues& queues, const Admission::Demand& demand, const Labels& flavor) {
  review.status.admission.reset();
  if (!demand.takes_quota()) return;
  const std::string& queue = queues.queue(demand.queue).name;
  contract::AdmissionStatus admission{.queue = queue, .nodeLabels = flavor, .resources = {}};
  for (const auto& [resource, amount] : demand.amounts.entries()) {
    if (amount > 0) admission.resources[resource] = {quantity_text(resource, amount)};
  }
  review.status.admission = std::move(admission);
  review.set(condition::kAdmitted, true, "Admitted", "by TrainingQueue " + queue + ", on " + to_text(flavor));
}

}  // namespace trainyard::decide
