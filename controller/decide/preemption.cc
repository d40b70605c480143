#include "controller/decide/preemption.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"

namespace trainyard::decide {
namespace {

using Indexes = std::vector<std::size_t>;

double devices_of(const Holding& holding) {
  return static_cast<double>(std::max(1, holding.job->spec.workers.gpusPerWorker)) * gang_size(*holding.job);
}

const Charge* charge_of(const Holding& holding, const QuotaNeed* need) {
  return need == nullptr ? nullptr : need->admission.charge(*holding.job);
}

bool may_stop(const Holding& holding, const Priority& priority, const QuotaNeed* need) {
  const bool is_lower = holding.priority.value < priority.value;
  if (need == nullptr) return is_lower;
  return (is_lower || need->by_right) && need->admission.may_stop(need->demand, need->flavor, charge_of(holding, need), is_lower);
}

bool may_reclaim(const Holding& holding, const QuotaNeed* need) {
  return need != nullptr && need->admission.may_reclaim(need->demand, need->flavor, charge_of(holding, need));
}

class Choice {
 public:
  Choice(const Topology& topology, const std::vector<Holding>& held, const Gang& gang, const Priority& priority,
         const QuotaNeed* need)
      : topology_(without_vacating(topology, held)), held_(held), fit_(topology_, gang), priority_(priority), need_(need) {}

  bool has_room() const {
    return fit_.has_room() && (need_ == nullptr || need_->admission.has_room_later(need_->demand, need_->flavor));
  }
  void remove(std::size_t victim) {
    release(topology_, held_[victim]);
    if (const Charge* held = charge(victim)) need_->admission.remove(*held);
    refresh(victim);
  }
  void put_back(std::size_t victim) {
    for (const auto& [node, requests] : held_[victim].pods) topology_.take(node, *requests);
    if (const Charge* held = charge(victim)) need_->admission.put_back(*held);
    refresh(victim);
  }
  /// Removes those of them that may be stopped then; a queue may stop to borrow before all of its gangs are gone.
  void remove_some(const Indexes& those, Indexes& gone) {
    for (const auto i : those) {
      if (!may_stop(held_[i], priority_, need_)) continue;
      remove(i);
      gone.push_back(i);
    }
  }

  /// A set of them that suffices and of which each is needed, found in that order; empty where none is found so. None of them is removed
  /// before and after.
  Indexes least(const Indexes& order) {
    Indexes gone;
    for (auto next = order.begin(); next != order.end() && !has_room(); ++next) remove_some({*next}, gone);
    if (!has_room()) {
      for (const auto i : gone) put_back(i);
      return {};
    }
    std::vector<bool> is_chosen(topology_.num_nodes());
    const Placement found = std::get<Placement>(fit_.place());
    for (const auto& node : found.nodes) is_chosen[static_cast<std::size_t>(topology_.find_node(node))] = true;
    const auto is_elsewhere = [&](std::size_t i) {
      const auto& pods = held_[i].pods;
      return std::none_of(pods.begin(), pods.end(), [&](const auto& pod) { return is_chosen[pod.first]; });
    };
    std::stable_sort(gone.begin(), gone.end(),
                     [this](std::size_t a, std::size_t b) { return held_[a].lost_work > held_[b].lost_work; });
    std::stable_partition(gone.begin(), gone.end(), is_elsewhere);
    Indexes needed;
    for (const auto i : gone) {
      put_back(i);
      if (has_room()) continue;
      remove(i);
      needed.push_back(i);
    }
    for (const auto i : needed) put_back(i);
    return needed;
  }

 private:
  static Topology without_vacating(Topology topology, const std::vector<Holding>& held) {
    for (const auto& holding : held) {
      if (holding.is_vacating) release(topology, holding);
    }
    return topology;
  }
  void refresh(std::size_t victim) {
    for (const auto& [node, requests] : held_[victim].pods) fit_.refresh(node);
  }

  const Charge* charge(std::size_t i) const { return charge_of(held_[i], need_); }

  Topology topology_;
  const std::vector<Holding>& held_;
  GangFit fit_;
  const Priority priority_;
  const QuotaNeed* need_;
};

bool can_be_stopped(const Holding& holding, const Settings& settings, Time now) {
  if (holding.is_vacating || holding.job == nullptr || !holding.priority.is_known) return false;
  const auto& status = holding.job->status;
  if (reason_of(status, condition::kPlaced) != reason::kGangPlaced || holding.job->deleting || is_finished(status)) return false;
  const auto until = protected_until(*holding.job, settings);
  return !until || now >= *until;
}

}  // namespace

std::optional<Time> protected_until(const Job& job, const Settings& settings) {
  if (job.status.preemptions == 0) return std::nullopt;
  return since_of(job.status, condition::kPlaced) + settings.preempted_min_run;
}

std::vector<std::size_t> choose_victims(const Topology& topology, const std::vector<Holding>& held, const Gang& gang,
                                        const Priority& priority, const Settings& settings, Time now, const QuotaNeed* need) {
  if (!priority.preempts) return {};
  const bool may_have_rights = need != nullptr && need->by_right && need->demand.takes_quota();
  Indexes stoppable;
  for (std::size_t i = 0; i < held.size(); ++i) {
    const bool is_of_interest = may_have_rights || held[i].priority.value < priority.value;
    if (is_of_interest && can_be_stopped(held[i], settings, now)) stoppable.push_back(i);
  }
  std::map<std::pair<bool, std::int32_t>, Indexes>
      by_rank;  // first those of queues that borrow, of these first the lowest priority
  for (const auto i : stoppable) {
    if (may_stop(held[i], priority, need)) by_rank[{!may_reclaim(held[i], need), held[i].priority.value}].push_back(i);
  }
  if (by_rank.empty()) return {};
  Choice choice(topology, held, gang, priority, need);
  if (choice.has_room()) return {};
  Indexes those, gone;
  for (const auto& [rank, more] : by_rank) {
    those.insert(those.end(), more.begin(), more.end());
    choice.remove_some(more, gone);
    if (!choice.has_room()) continue;
    for (const auto i : gone) choice.put_back(i);
    const auto sorted_by = [&](auto cost) {
      Indexes order = those;
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return cost(held[a]) < cost(held[b]); });
      return order;
    };
    const Indexes by_work = choice.least(sorted_by([](const Holding& h) { return h.lost_work; }));
    const Indexes by_rate = choice.least(sorted_by([](const Holding& h) { return h.lost_work / devices_of(h); }));
    if (by_work.empty() && by_rate.empty()) return choice.least(gone);  // in the order in which they just made room
    if (by_work.empty() || by_rate.empty()) return by_work.empty() ? by_rate : by_work;
    const auto cost = [&](const Indexes& victims) {
      return std::pair(std::accumulate(victims.begin(), victims.end(), 0.0,
                                       [&](double sum, std::size_t i) { return sum + held[i].lost_work; }),
                       victims.size());
    };
    return cost(by_rate) < cost(by_work) ? by_rate : by_work;
  }
  for (const auto i : gone) choice.put_back(i);
  return {};
}

void preempt(Review& victim, const Job& by, const Priority& priority, const Priority& own, const std::string& reclaims) {
  const bool has_checkpoints = victim.job.spec.engine == contract::Engine::kTrainyard;
  const std::string what =
      std::string(has_checkpoints ? "a checkpoint is written, then " : "") + "the pods make room for job " + to_text(by.key);
  victim.set(condition::kRunning, false, reason::kPreempting,
             reclaims.empty()
                 ? what + " of priority " + std::to_string(priority.value) + "; this one's is " + std::to_string(own.value)
                 : what + ", whose TrainingQueue " + reclaims + " takes back the quota that this one's borrows");
}

}  // namespace trainyard::decide
