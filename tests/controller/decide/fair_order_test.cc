#include "controller/decide/fair_order.h"

#include <algorithm>
#include <random>
#include <tuple>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

/// The definition: of all that wait, that whose queues' shares, from the root down, come first; then the first in the line.
struct PlainOrder {
  const Cluster& cluster;
  const std::vector<Candidate>& line;
  std::vector<Resources> used;  // by jobs of the queue itself; the last: of jobs without one
  std::vector<bool> is_done;

  static int queue_of(const Candidate& candidate) {
    return candidate.job->spec.queue ? std::stoi(*candidate.job->spec.queue) : -1;
  }
  int parent(int queue) const {
    const auto& name = cluster.queue(std::to_string(queue))->parent;
    return name.empty() ? -1 : std::stoi(name);
  }
  bool is_below(int queue, int above) const {
    while (queue >= 0 && queue != above) queue = parent(queue);
    return queue == above;
  }
  double share(const Resources& amounts) const {
    std::int64_t all = 0;
    for (const auto& [name, node] : cluster.nodes()) all += node.allocatable[test::kGpu];
    return static_cast<double>(amounts[test::kGpu]) / static_cast<double>(all);
  }
  std::vector<double> shares(int queue) const {
    if (queue < 0) return {share(used.back()), share(used.back())};
    std::vector<double> out{share(used[static_cast<std::size_t>(queue)])};
    for (int at = queue; at >= 0; at = parent(at)) {
      Resources all;
      for (int i = 0; i + 1 < static_cast<int>(used.size()); ++i) {
        if (is_below(i, at)) all += used[static_cast<std::size_t>(i)];
      }
      out.insert(out.begin(), share(all) / cluster.queue(std::to_string(at))->weight);
    }
    return out;
  }
  const Candidate* next() {
    std::size_t best = line.size();
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (is_done[i]) continue;
      const auto rank = [&](std::size_t j) {
        return std::tuple(!line[j].has_others(), -line[j].priority.value, shares(queue_of(line[j])), j);
      };
      if (best == line.size() || rank(i) < rank(best)) best = i;
    }
    if (best == line.size()) return nullptr;
    is_done[best] = true;
    return &line[best];
  }
  void count(int queue, const Resources& amounts) {
    used[queue < 0 ? used.size() - 1 : static_cast<std::size_t>(queue)] += amounts;
  }
};

TEST(TheFairOrder, IsThatOfTheDefinitionInRandomTreesWhileJobsStart) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto draw = [&random](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    Cluster cluster = test::ClusterBuilder{}.racks(1).nodes_per_rack(8).gpus_per_node(8).build();
    const int num_queues = draw(1, 9);  // of one digit, so that parents come before children by name, too
    for (int i = 0; i < num_queues; ++i) {
      Queue queue{.name = std::to_string(i), .uid = "q" + std::to_string(i)};
      if (i > 0 && draw(0, 2) > 0) queue.parent = std::to_string(draw(0, i - 1));
      queue.weight = draw(1, 3);
      cluster.put(std::move(queue));
    }
    std::vector<Job> jobs;
    for (int i = 0; i < 40; ++i) {
      Job job = test::make_job("job-" + std::to_string(i), 1, draw(1, 8));
      if (const int queue = draw(-1, num_queues - 1); queue >= 0) job.spec.queue = std::to_string(queue);
      jobs.push_back(std::move(job));
    }
    std::vector<Candidate> line;
    for (const auto& job : jobs) {
      Candidate candidate{.job = &job};
      candidate.priority.value = draw(0, 1);
      candidate.num_kept = draw(0, 9) == 0;
      line.push_back(std::move(candidate));
    }
    std::stable_sort(line.begin(), line.end(), [](const Candidate& a, const Candidate& b) {
      return std::pair(!a.has_others(), -a.priority.value) < std::pair(!b.has_others(), -b.priority.value);
    });
    const Queues queues(cluster);
    FairOrder order(cluster, line, queues);
    PlainOrder plainly{cluster, line, std::vector<Resources>(static_cast<std::size_t>(num_queues) + 1),
                       std::vector<bool>(line.size())};
    for (;;) {
      const Candidate* wanted = plainly.next();
      const Candidate* found = order.next();
      ASSERT_EQ(found, wanted) << "seed " << seed << ": " << (found == nullptr ? "none" : found->job->key.name) << " instead of "
                               << (wanted == nullptr ? "none" : wanted->job->key.name);
      if (found == nullptr) break;
      if (draw(0, 1) == 0) continue;
      const Resources amounts{{test::kGpu, found->job->spec.workers.gpusPerWorker}};
      const int queue = PlainOrder::queue_of(*found);
      order.count(queue < 0 ? -1 : queues.find(std::to_string(queue)), amounts);
      plainly.count(queue, amounts);
    }
  }
}

}  // namespace
}  // namespace trainyard::decide
