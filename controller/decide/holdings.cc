#include "controller/decide/holdings.h"

#include <algorithm>
#include <chrono>
#include <tuple>

#include "controller/decide/conditions.h"
#include "controller/decide/expected_end.h"

namespace trainyard::decide {
namespace {

double lost_work(const Job& job, Time now) {
  const auto& workers = job.spec.workers;
  const double devices = static_cast<double>(std::max(1, workers.gpusPerWorker)) * workers.count;
  Time since = since_of(job.status, condition::kPlaced);
  if (const auto& checkpoint = job.status.checkpoint) {
    since = std::max(since, contract::parse_rfc3339(checkpoint->completedAt).value_or(since));
  }
  return devices * std::max(0.0, std::chrono::duration<double>(now - since).count());
}

bool has_job(const Cluster& cluster, const Pod& pod) {
  if (!pod.worker) return false;
  const Job* job = cluster.job({pod.key.ns, pod.worker->job});
  return job != nullptr && job->uid == pod.worker->job_uid;
}

}  // namespace

bool ends_before(const Holding& a, const Holding& b) {
  const Time end_a = a.ends.value_or(Time::max()), end_b = b.ends.value_or(Time::max());
  if (end_a != end_b) return end_a < end_b;
  if (a.job == nullptr || b.job == nullptr) return a.job == nullptr && b.job != nullptr;
  return std::tie(a.job->created, a.job->key) < std::tie(b.job->created, b.job->key);
}

std::vector<Holding> holdings(const Cluster& cluster, const Topology& topology, Time now) {
  std::vector<Holding> out;
  for (const auto& [key, job] : cluster.jobs()) {
    Holding holding{.job = &job};
    for (const auto* pod : cluster.pods_of(job)) {
      const auto node = pod->is_finished() ? -1 : topology.find_node(pod->node);
      if (node >= 0) holding.pods.emplace_back(static_cast<std::size_t>(node), &pod->requests);
    }
    if (holding.pods.empty()) continue;
    holding.ends = expected_end(job, now);
    holding.priority = priority_of(cluster, job);
    holding.is_vacating = is_vacating(job.status);
    holding.lost_work = lost_work(job, now);
    out.push_back(std::move(holding));
  }
  for (const auto& [key, pod] : cluster.pods()) {
    if (pod.is_finished() || has_job(cluster, pod) || !(pod.worker || pod.deletion_time)) continue;
    const auto node = topology.find_node(pod.node);
    if (node < 0) continue;
    Holding leaving{.ends = std::max(now, pod.deletion_time.value_or(now)), .is_vacating = true};
    leaving.pods.emplace_back(static_cast<std::size_t>(node), &pod.requests);
    out.push_back(std::move(leaving));
  }
  std::stable_sort(out.begin(), out.end(), ends_before);
  return out;
}

void release(Topology& topology, const Holding& holding) {
  for (const auto& [node, requests] : holding.pods) topology.give(node, *requests);
}

}  // namespace trainyard::decide
