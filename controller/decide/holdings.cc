#include "controller/decide/holdings.h"

#include <algorithm>
#include <chrono>
#include <tuple>
#include <unordered_map>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/expected_end.h"
#include "controller/decide/kept_pods.h"

namespace trainyard::decide {
namespace {

/// Pods of the jobs of another release are there to stay, as far as one can see.
bool runs_jobs_of(const Settings& settings, const std::string& ns) {
  const auto& ours = settings.namespaces;
  return ours.empty() || std::find(ours.begin(), ours.end(), ns) != ours.end();
}

/// When the pod is expected to leave its node though its job may go on: it is being deleted, or its job is over or gone. Nothing where it
/// stays, or was to be gone long ago: something holds it.
std::optional<Time> leaves_at(const Cluster& cluster, const Pod& pod, const Job* job, Time now) {
  if (pod.deletion_time) {
    if (now > *pod.deletion_time + cluster.settings.node_lost) return std::nullopt;
    return std::max(now, *pod.deletion_time);
  }
  const bool is_ours = pod.worker.has_value() && runs_jobs_of(cluster.settings, pod.key.ns);
  if (is_ours && job != nullptr && !job->deleting && keeps_running_pods(*job, now)) return deadline_of(*job);
  if (is_ours && (job == nullptr || job->deleting || is_finished(job->status))) return now;
  return std::nullopt;
}

}  // namespace

double lost_work(const Job& job, Time now) {
  const auto& workers = job.spec.workers;
  const double devices = static_cast<double>(std::max(1, workers.gpusPerWorker)) * gang_size(job);
  Time since = since_of(job.status, condition::kPlaced);
  if (const auto& checkpoint = job.status.checkpoint) {
    since = std::max(since, contract::parse_rfc3339(checkpoint->completedAt).value_or(since));
  }
  return devices * std::max(0.0, std::chrono::duration<double>(now - since).count());
}

bool ends_before(const Holding& a, const Holding& b) {
  const Time end_a = a.ends.value_or(Time::max()), end_b = b.ends.value_or(Time::max());
  if (end_a != end_b) return end_a < end_b;
  if (a.job == nullptr || b.job == nullptr) return a.job == nullptr && b.job != nullptr;
  return std::tie(a.job->created, a.job->key) < std::tie(b.job->created, b.job->key);
}

std::vector<Holding> holdings(const Cluster& cluster, const Topology& topology, Time now) {
  std::vector<Holding> out;
  std::unordered_map<const Job*, std::size_t> of_job;
  const Job* last = nullptr;  // pods of a job come one after the other, as a rule
  const auto job_of = [&](const ObjectKey& key, const WorkerPod& worker) {
    if (last == nullptr || last->key.name != worker.job || last->key.ns != key.ns) last = cluster.job({key.ns, worker.job});
    return last != nullptr && last->uid == worker.job_uid ? last : nullptr;
  };
  for (const auto& [key, pod] : cluster.pods()) {
    const bool is_of_interest = pod.worker || pod.deletion_time;
    const auto node = pod.is_finished() || !is_of_interest ? -1 : topology.find_node(pod.node);
    if (node < 0) continue;
    const Job* job = pod.worker ? job_of(key, *pod.worker) : nullptr;
    const std::pair place(static_cast<std::size_t>(node), &pod.requests);
    if (const auto leaves = leaves_at(cluster, pod, job, now)) {
      out.push_back({.job = job, .ends = leaves, .is_vacating = true, .pods = {place}});
    } else if (job != nullptr && !is_finished(job->status)) {
      const auto [found, is_new] = of_job.try_emplace(job, out.size());
      if (is_new) {
        out.push_back({.job = job,
                       .ends = expected_end(*job, now),
                       .priority = priority_of(cluster, *job),
                       .is_vacating = is_vacating(job->status),
                       .lost_work = lost_work(*job, now)});
      }
      out[found->second].pods.push_back(place);
    }
  }
  std::stable_sort(out.begin(), out.end(), ends_before);
  return out;
}

void release(Topology& topology, const Holding& holding) {
  for (const auto& [node, requests] : holding.pods) topology.give(node, *requests);
}

}  // namespace trainyard::decide
