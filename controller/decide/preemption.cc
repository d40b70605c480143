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
      : base_(topology), held_(held), gang_(gang) {
    for (const auto& holding : held) {
      if (holding.is_vacating) release(base_, holding);
    }
  }

  bool has_room_already() const { return fits({}); }
  bool fits(const Indexes& gone) const { return std::holds_alternative<Placement>(place_without(gone)); }

  /// A set of them that suffices and of which each is needed, found in that order. All of them together must suffice.
  Indexes least(Indexes order) const {
    std::size_t too_few = 0, enough = order.size();
    while (too_few < enough) {
      const std::size_t middle = too_few + (enough - too_few) / 2;
      if (fits(Indexes(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(middle)))) {
        enough = middle;
      } else {
        too_few = middle + 1;
      }
    }
    order.resize(enough);
    leave_out_those_elsewhere(order);
    std::stable_sort(order.begin(), order.end(),
                     [this](std::size_t a, std::size_t b) { return held_[a].lost_work > held_[b].lost_work; });
    for (std::size_t i = 0; i < order.size();) {
      Indexes fewer = order;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (fits(fewer)) {
        order = std::move(fewer);
      } else {
        ++i;
      }
    }
    return order;
  }

 private:
  std::variant<Placement, NoRoom> place_without(const Indexes& gone) const {
    Topology topology = base_;
    for (const auto i : gone) release(topology, held_[i]);
    return place_gang(topology, gang_);
  }

  void leave_out_those_elsewhere(Indexes& gone) const {
    std::vector<bool> is_chosen(base_.num_nodes());
    const Placement found = std::get<Placement>(place_without(gone));
    for (const auto& node : found.nodes) {
      is_chosen[static_cast<std::size_t>(base_.find_node(node))] = true;
    }
    std::erase_if(gone, [&](std::size_t i) {
      const auto& pods = held_[i].pods;
      return std::none_of(pods.begin(), pods.end(), [&](const auto& pod) { return is_chosen[pod.first]; });
    });
  }

  Topology base_;
  const std::vector<Holding>& held_;
  const Gang& gang_;
};

bool may_be_stopped(const Holding& holding, const Priority& priority, const Settings& settings, Time now) {
  const auto& status = holding.job->status;
  if (holding.is_vacating || holding.priority.value >= priority.value) return false;
  if (reason_of(status, condition::kPlaced) != reason::kGangPlaced || holding.job->deleting || is_finished(status)) return false;
  return status.preemptions == 0 || now >= since_of(status, condition::kPlaced) + settings.preempted_min_run;
}

}  // namespace

std::vector<std::size_t> choose_victims(const Topology& topology, const std::vector<Holding>& held, const Gang& gang,
                                        const Priority& priority, const Settings& settings, Time now) {
  if (!priority.preempts) return {};
  std::map<std::int32_t, Indexes> by_priority;
  for (std::size_t i = 0; i < held.size(); ++i) {
    if (may_be_stopped(held[i], priority, settings, now)) by_priority[held[i].priority.value].push_back(i);
  }
  const Choice choice(topology, held, gang);
  if (by_priority.empty() || choice.has_room_already()) return {};
  Indexes those;
  for (const auto& [value, more] : by_priority) {
    those.insert(those.end(), more.begin(), more.end());
    if (!choice.fits(those)) continue;
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
  victim.set(condition::kRunning, false, reason::kPreempting,
             "a checkpoint is written, then the pods make room for job " + to_text(by.key) + " of priority " +
                 std::to_string(priority.value) + "; this one's is " + std::to_string(own.value));
}

}  // namespace trainyard::decide
