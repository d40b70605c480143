// Whom choose_victims() stops, in every world of two nodes of two GPUs with up to three gangs, against all possible choices.

#include <algorithm>
#include <array>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "controller/decide/preemption.h"
#include "tests/controller/decide/a_world_of_queues.h"

namespace trainyard::decide {
namespace {

using test::kGpu;

constexpr double kNow = 1'000;
constexpr std::int32_t kLow = 0, kMiddle = 5, kHigh = 10;
/// GPUs of a gang's workers on the two nodes, one worker on each where they are not 0.
using Spot = std::array<int, 2>;

/// A gang that runs. Of several the first began last, so that sums of what they lose differ.
struct Runs {
  Spot gpus{};
  std::int32_t priority = kLow;
  bool is_protected = false;  // it was stopped a moment ago
  std::string queue{};
  int total() const { return gpus[0] + gpus[1]; }
};
using Gangs = std::vector<Runs>;

/// Every sequence of up to three of them for whose GPUs there is room.
void for_each_world(const std::vector<Runs>& kinds, const std::function<void(const Gangs&)>& visit) {
  Gangs gangs;
  const std::function<void()> extend = [&] {
    visit(gangs);
    if (gangs.size() == 3) return;
    for (const auto& kind : kinds) {
      Spot used = kind.gpus;
      for (const auto& other : gangs) used[0] += other.gpus[0], used[1] += other.gpus[1];
      if (used[0] > 2 || used[1] > 2) continue;
      gangs.push_back(kind);
      extend();
      gangs.pop_back();
    }
  };
  extend();
}

class SmallWorld {
 public:
  /// Each node is a rack.
  SmallWorld(const Gangs& gangs, const std::vector<Queue>& queues)
      : gangs_(gangs), cluster_(test::ClusterBuilder{}.racks(2).nodes_per_rack(1).gpus_per_node(2).build()) {
    for (const auto& queue : queues) cluster_.put(queue);
    cluster_.put(PriorityClass{.name = "p5", .value = kMiddle});
    cluster_.put(PriorityClass{.name = "p10", .value = kHigh});
    for (std::size_t i = 0; i < gangs.size(); ++i) add(i);
    topology_.emplace(cluster_);
    held_ = holdings(cluster_, *topology_, test::at(kNow));
  }

  const Cluster& cluster() const { return cluster_; }
  const Topology& topology() const { return *topology_; }
  const std::vector<Holding>& held() const { return held_; }
  const Runs& runs(std::size_t held) const { return gangs_[static_cast<std::size_t>(held_[held].job->key.name.back() - '0')]; }
  bool fits_without(const std::vector<std::size_t>& gone, const Gang& gang) const {
    Topology after = *topology_;
    for (const auto i : gone) release(after, held_[i]);
    return std::holds_alternative<Placement>(place_gang(after, gang));
  }
  double work_of(const std::vector<std::size_t>& gone) const {
    double sum = 0;
    for (const auto i : gone) sum += held_[i].lost_work;
    return sum;
  }
  std::vector<std::vector<std::size_t>> all_choices() const {
    std::vector<std::vector<std::size_t>> out;
    for (unsigned subset = 1; subset < (1u << held_.size()); ++subset) {
      out.emplace_back();
      for (std::size_t i = 0; i < held_.size(); ++i) {
        if ((subset >> i & 1) != 0) out.back().push_back(i);
      }
    }
    return out;
  }

 private:
  void add(std::size_t i) {
    const Runs& runs = gangs_[i];
    std::vector<std::size_t> nodes;
    for (const std::size_t node : {0, 1}) {
      if (runs.gpus[node] > 0) nodes.push_back(node);
    }
    const int each = runs.total() / static_cast<int>(nodes.size());
    Job job = test::make_job("g" + std::to_string(i), static_cast<int>(nodes.size()), each);
    if (runs.priority != kLow) job.spec.priorityClassName = "p" + std::to_string(runs.priority);
    set_condition(job.status, {condition::kPlaced, true, reason::kGangPlaced, ""}, 1, test::at(kNow - 100 * (1 << i)));
    job.status.preemptions = runs.is_protected ? 1 : 0;
    if (!runs.queue.empty()) {
      job.spec.queue = runs.queue;
      job.status.admission =
          contract::AdmissionStatus{.queue = runs.queue, .nodeLabels = {}, .resources = {{kGpu, {std::to_string(runs.total())}}}};
    }
    for (const auto node : nodes) {
      const std::string name = job.key.name + "-" + std::to_string(node);
      Pod pod{.key = {"default", name}, .uid = name, .node = "node-" + std::to_string(node), .phase = PodPhase::kRunning};
      pod.requests = {{kGpu, each}, {"pods", 1}};
      pod.worker = WorkerPod{.job = job.key.name, .job_uid = job.uid};
      cluster_.put(std::move(pod));
    }
    cluster_.put(std::move(job));
  }

  const Gangs gangs_;
  Cluster cluster_;
  std::optional<Topology> topology_;
  std::vector<Holding> held_;
};

Gang gang_of(int workers, int gpus, bool in_a_rack = false) {
  Gang gang{.count = workers, .requests = {{kGpu, gpus}, {"pods", 1}}};
  if (in_a_rack) gang.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
  return gang;
}

struct VictimTally {
  int choices = 0, none = 0, least = 0;
  double work = 0, least_work = 0;
  void print() const {
    std::cout << choices << " choices and " << none << " worlds without one; " << least << " are the least possible; together "
              << work / least_work << " x the least work\n";
  }
};

/// `rank_of` tells who comes before whom, `may_stop` whether such a choice may be made at all, `makes_room` whether it helps.
void check(const SmallWorld& world, const std::vector<std::size_t>& victims, VictimTally& tally,
           const std::function<std::pair<bool, std::int32_t>(std::size_t)>& rank_of,
           const std::function<bool(const std::vector<std::size_t>&)>& may_stop,
           const std::function<bool(const std::vector<std::size_t>&)>& makes_room, const std::string& where) {
  const auto rank = [&](const std::vector<std::size_t>& choice) {
    std::pair<bool, std::int32_t> out{false, kLow};
    for (const auto i : choice) out = std::max(out, rank_of(i));
    return out;
  };
  std::optional<std::pair<std::pair<bool, std::int32_t>, double>> best;
  for (const auto& choice : world.all_choices()) {
    if (!may_stop(choice) || !makes_room(choice)) continue;
    const std::pair cost(rank(choice), world.work_of(choice));
    if (!best || cost < *best) best = cost;
  }
  ASSERT_EQ(victims.empty(), !best) << where;
  if (!best) {
    ++tally.none;
    return;
  }
  ASSERT_TRUE(makes_room(victims)) << where;
  ASSERT_TRUE(may_stop(victims)) << where << ": one is stopped that may not be";
  ASSERT_EQ(rank(victims), best->first) << where;
  for (std::size_t i = 0; i < victims.size(); ++i) {
    auto fewer = victims;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    ASSERT_FALSE(makes_room(fewer)) << where << ": one is stopped without need";
  }
  ++tally.choices;
  tally.least += world.work_of(victims) <= best->second * 1.000001;
  tally.work += world.work_of(victims);
  tally.least_work += best->second;
}

std::string describe(const Gangs& gangs, const Gang& gang) {
  std::string out =
      "for " + std::to_string(gang.count) + " x " + std::to_string(gang.requests[kGpu]) + (gang.pack ? " in a rack" : "");
  for (const auto& runs : gangs) {
    out += "; " + std::to_string(runs.gpus[0]) + "+" + std::to_string(runs.gpus[1]) + " of priority " +
           std::to_string(runs.priority) + " " + runs.queue + (runs.is_protected ? ", stopped before" : "");
  }
  return out;
}

TEST(ChooseVictims, InEverySmallWorldStopsAsFewOfAsLowPriorityAsPossibleAndNobodyThatWasStoppedAMomentAgo) {
  std::vector<Runs> kinds;
  for (const Spot& spot : {Spot{1, 0}, Spot{0, 1}, Spot{2, 0}, Spot{0, 2}, Spot{1, 1}}) {
    for (const std::int32_t priority : {kLow, kMiddle, kHigh}) kinds.push_back({.gpus = spot, .priority = priority});
    kinds.push_back({.gpus = spot, .is_protected = true});
  }
  const std::vector<Gang> newcomers{gang_of(1, 1), gang_of(1, 2), gang_of(2, 1), gang_of(2, 2), gang_of(2, 1, true)};
  VictimTally tally;
  for_each_world(kinds, [&](const Gangs& gangs) {
    const SmallWorld world(gangs, {});
    for (const auto& gang : newcomers) {
      if (world.fits_without({}, gang)) continue;
      const auto victims =
          choose_victims(world.topology(), world.held(), gang, {.value = kHigh}, world.cluster().settings, test::at(kNow));
      check(
          world, victims, tally, [&](std::size_t i) { return std::pair(false, world.runs(i).priority); },
          [&](const auto& choice) {
            return std::all_of(choice.begin(), choice.end(),
                               [&](std::size_t i) { return world.runs(i).priority < kHigh && !world.runs(i).is_protected; });
          },
          [&](const auto& choice) { return world.fits_without(choice, gang); }, describe(gangs, gang));
    }
  });
  tally.print();
  EXPECT_GE(tally.choices, 3'000);
  EXPECT_GE(tally.least, tally.choices * 99 / 100) << "of so few it is nearly always found";
  EXPECT_LE(tally.work, 1.01 * tally.least_work);
}

}  // namespace
}  // namespace trainyard::decide
