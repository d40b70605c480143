#include "controller/decide/preemption.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "controller/decide/conditions.h"

namespace trainyard::decide {
namespace {

using Indexes = std::vector<std::size_t>;

double devices_of(const Holding& holding) {
  const auto& workers = holding.job->spec.workers;
  return static_cast<double>(std::max(1, workers.gpusPerWorker)) * workers.count;
}

class Choice {
 public:
  Choice(const Topology& topology, const std::vector<Holding>& held, const Gang& gang)
      : topology_(without_vacating(topology, held)), held_(held), fit_(topology_, gang) {}

  bool has_room() const { return fit_.has_room(); }
  void remove(std::size_t victim) {
    release(topology_, held_[victim]);
    refresh(victim);
  }
  void put_back(std::size_t victim) {
    for (const auto& [node, requests] : held_[victim].pods) topology_.take(node, *requests);
    refresh(victim);
  }

  /// A set of them that suffices and of which each is needed, found in that order. All of them together must suffice; none of them is
  /// removed before and after.
  Indexes least(const Indexes& order) {
    Indexes gone;
    for (auto next = order.begin(); !has_room(); ++next) {
      remove(*next);
      gone.push_back(*next);
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

  Topology topology_;
  const std::vector<Holding>& held_;
  GangFit fit_;
};

bool may_be_stopped(const Holding& holding, const Priority& priority, const Settings& settings, Time now) {
  if (holding.is_vacating || holding.job == nullptr || !holding.priority.is_known || holding.priority.value >= priority.value)
    return false;
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
                                        const Priority& priority, const Settings& settings, Time now) {
  if (!priority.preempts) return {};
  std::map<std::int32_t, Indexes> by_priority;
  for (std::size_t i = 0; i < held.size(); ++i) {
    if (may_be_stopped(held[i], priority, settings, now)) by_priority[held[i].priority.value].push_back(i);
  }
  if (by_priority.empty()) return {};
  Choice choice(topology, held, gang);
  if (choice.has_room()) return {};
  Indexes those;
  for (const auto& [value, more] : by_priority) {
    those.insert(those.end(), more.begin(), more.end());
    for (const auto i : more) choice.remove(i);
    if (!choice.has_room()) continue;
    for (const auto i : those) choice.put_back(i);
    const auto sorted_by = [&](auto cost) {
      Indexes order = those;
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return cost(held[a]) < cost(held[b]); });
      return order;
    };
    const Indexes by_work = choice.least(sorted_by([](const Holding& h) { return h.lost_work; }));
    const Indexes by_rate = choice.least(sorted_by([](const Holding& h) { return h.lost_work / devices_of(h); }));
    const auto cost = [&](const Indexes& victims) {
      return std::pair(std::accumulate(victims.begin(), victims.end(), 0.0,
                                       [&](double sum, std::size_t i) { return sum + held[i].lost_work; }),
                       victims.size());
    };
    return cost(by_rate) < cost(by_work) ? by_rate : by_work;
  }
  return {};
}

void preempt(Review& victim, const Job& by, const Priority& priority, const Priority& own) {
  const bool has_checkpoints = victim.job.spec.engine == contract::Engine::kTrainyard;
  victim.set(condition::kRunning, false, reason::kPreempting,
             std::string(has_checkpoints ? "a checkpoint is written, then " : "") + "the pods make room for job " +
                 to_text(by.key) + " of priority " + std::to_string(priority.value) + "; this one's is " +
                 std::to_string(own.value));
}

}  // namespace trainyard::decide
