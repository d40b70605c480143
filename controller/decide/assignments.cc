#include "controller/decide/assignments.h"

#include <algorithm>
#include <numeric>

#include "controller/decide/conditions.h"
#include "controller/decide/engine_spec.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

using contract::Assignment;

/// Every worker has an address, and its agent answered once; or some agent was given this generation already.
bool can_start(const Job& job, const GangView& gang) {
  const auto is_there = [](const Worker& worker) { return worker.pod != nullptr && !worker.pod->worker->ip.empty(); };
  if (!std::all_of(gang.workers.begin(), gang.workers.end(), is_there)) return false;
  const auto has = [&job](const Worker& worker) {
    return worker.agent != nullptr && worker.agent->state && worker.agent->state->generation == job.status.generation;
  };
  if (std::any_of(gang.workers.begin(), gang.workers.end(), has)) return true;
  return std::all_of(gang.workers.begin(), gang.workers.end(), [](const Worker& worker) {
    return worker.agent != nullptr && worker.agent->state && worker.state != WorkerState::kMissing &&
           worker.state != WorkerState::kLost;
  });
}

/// What agents that have taken the generation are told, where it is anything.
Assignment amendment(const Job& job) {
  Assignment out{.jobUid = job.uid, .job = to_text(job.key), .generation = job.status.generation, .amends = true};
  if (reason_of(job.status, condition::kRunning) == reason::kSuspending) {
    out.checkpointRequest = 1;
    out.stopAfter = 1;
  }
  out.release = is_finished(job.status);
  return out;
}

/// What begins the generation.
Assignment whole_assignment(const Job& job, const GangView& gang, const contract::TrainingJobSpec& spec, std::int32_t worker) {
  Assignment out = amendment(job);
  out.amends = false;
  out.worker = worker;
  out.ranks.resize(static_cast<std::size_t>(contract::processes_per_worker(job.spec)));
  std::iota(out.ranks.begin(), out.ranks.end(), worker * static_cast<std::int32_t>(out.ranks.size()));
  out.worldSize = contract::world_size(job.spec);
  out.rendezvous = {.host = gang.workers.front().pod->worker->ip, .port = contract::kRendezvousPort};
  out.spec = spec;
  return out;
}

}  // namespace

std::map<std::string, std::optional<Assignment>> assignments(const Cluster& cluster, const Job& job, const GangView& gang) {
  std::map<std::string, std::optional<Assignment>> out;
  for (const auto* pod : cluster.pods_of(job)) {
    if (is_live(*pod) && !pod->worker->ip.empty()) out[pod->uid] = std::nullopt;
  }
  const bool is_whole =
      is_true(job.status, condition::kPlaced) && reason_of(job.status, condition::kPlaced) == reason::kGangPlaced;
  if (!is_whole || !can_start(job, gang)) return out;
  const Assignment news = amendment(job);
  const bool has_news = news.stopAfter || news.release, edited = is_spec_edited(job);
  const auto spec = engine_spec(job.spec);
  for (const auto& worker : gang.workers) {
    const auto found = out.find(worker.pod->uid);
    if (found == out.end()) continue;
    const bool has_taken = worker.said != nullptr;
    if (has_taken && has_news) found->second = news;
    if (!has_taken && !edited) found->second = whole_assignment(job, gang, spec, worker.index);
  }
  return out;
}

}  // namespace trainyard::decide
