// Who of those that wait has a right to quota: that of his own queue, or of one above it.

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controller/decide/admission.h"
#include "controller/decide/conditions.h"

namespace trainyard::decide {
namespace {

/// Its last look found what no quota helps against.
bool waits_for_something_else(const Job& job) {
  static const std::set<std::string> kReasons{reason::kNeverFits, reason::kClaimMissing, reason::kClaimUnbound};
  return kReasons.contains(reason_of(job.status, condition::kPlaced));
}

}  // namespace

bool Admission::keeps_its_quota(const Candidate& candidate) {
  return candidate.has_others() || is_true(candidate.job->status, condition::kPlaced);
}

/// In the order of the line, as long as they stay within their queue's own quota. A queue is done with at the first that does not, but for one
/// that could not have its place if nobody else used anything: it keeps nobody from his. Then likewise the others within what that
/// leaves of the quota of the queues above theirs, of the lowest first.
void Admission::entitle(const std::vector<Candidate>& line) {
  Queues all = later_;
  std::set<Index> done;
  std::map<Index, std::vector<std::pair<const Candidate*, Index>>, std::greater<>> below;  // parents are before children
  for (const auto& candidate : line) {
    if (candidate.needs == nullptr) continue;
    const Index queue = queues_.find(queue_name(cluster_, *candidate.job));
    if (queue < 0 || (queues_.charge(*candidate.job) != nullptr && keeps_its_quota(candidate))) continue;
    if (waits_for_something_else(*candidate.job)) continue;
    waiting_[queue].push_back(&candidate);
    if (queues_.flavors(queue).empty() || queues_.stopped(queue)) continue;
    if (!done.contains(queue)) {
      if (entitle(candidate, queue, queue, all)) continue;
      if (!may_ever_have(candidate, queue)) continue;
      done.insert(queue);
    }
    for (Index above = queues_.parent(queue); above >= 0 && queues_.parent(above) >= 0; above = queues_.parent(above)) {
      below[above].emplace_back(&candidate, queue);
    }
  }
  for (const auto& [within, candidates] : below) {
    done.clear();
    for (const auto& [candidate, queue] : candidates) {
      if (done.contains(queue) || entitlements_.contains(candidate->job->key)) continue;
      if (!entitle(*candidate, queue, within, all) && may_ever_have(*candidate, queue)) done.insert(queue);
    }
  }
}

/// Whether it has a right to its place within the quota of `within`, which is its queue or above it; `all` counts what those before it have.
bool Admission::entitle(const Candidate& candidate, Index queue, Index within, Queues& all) {
  const Resources amounts = times(candidate.needs->requests, candidate.waits_for);
  const Charge* left = queues_.charge(*candidate.job);
  for (const auto& [labels, resources] : queues_.flavors(queue)) {
    if (contradicts(labels, candidate.needs->rules)) continue;
    const Resources before = all.counted(within, labels);
    if (left != nullptr) move(all, *left, false);
    if (!all.has_room_within(within, queue, labels, amounts)) {
      if (left != nullptr) move(all, *left, true);
      continue;
    }
    all.add(queue, labels, amounts);
    const Entitlement right{
        .place = {within, labels}, .is_own = within == queue, .amounts = excess(all.counted(within, labels), before)};
    (right.is_own ? entitled_ : entitled_below_)[right.place] += right.amounts;
    claimed_.count(within, labels, right.amounts, true);
    entitlements_.emplace(candidate.job->key, right);
    return true;
  }
  return false;
}

bool Admission::may_ever_have(const Candidate& candidate, Index queue) const {
  const Resources amounts = times(candidate.needs->requests, candidate.waits_for);
  const auto& flavors = queues_.flavors(queue);
  return std::any_of(flavors.begin(), flavors.end(), [&](const Flavor& flavor) {
    return !contradicts(flavor.labels, candidate.needs->rules) && queues_.may_ever_fit(queue, flavor.labels, amounts);
  });
}

/// Of that flavor: it has it, or others leave it that in another way.
void Admission::give_up_right(const ObjectKey& key, const Labels& labels) {
  const auto found = entitlements_.find(key);
  if (found == entitlements_.end() || found->second.place.second != labels) return;
  const auto& [place, is_own, amounts] = found->second;
  (is_own ? entitled_ : entitled_below_)[place] -= amounts;
  claimed_.count(place.first, place.second, amounts, false);
  entitlements_.erase(found);
}

}  // namespace trainyard::decide
