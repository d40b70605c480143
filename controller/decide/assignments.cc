#include "controller/decide/assignments.h"

#include <algorithm>
#include <numeric>

#include "controller/decide/conditions.h"
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

/// The engine's part of the spec.
contract::TrainingJobSpec engine_spec(const contract::TrainingJobSpec& spec) {
  contract::TrainingJobSpec out = spec;
  out.workers.templ = contract::Json::object();
  out.suspend = false;
  out.lifecycle = {};
  return out;
}

Assignment common_part(const Job& job, const GangView& gang) {
  Assignment out{.jobUid = job.uid, .job = to_text(job.key), .generation = job.status.generation};
  out.worldSize = contract::world_size(job.spec);
  out.rendezvous = {.host = gang.workers.front().pod->worker->ip, .port = contract::kRendezvousPort};
  out.spec = engine_spec(job.spec);
  if (reason_of(job.status, condition::kRunning) == reason::kSuspending) {
    out.checkpointRequest = 1;
    out.stopAfter = 1;
  }
  out.release = is_finished(job.status);
  return out;
}

/// Whether the spec is the one that this generation was made from, as far as can be told.
bool is_spec_unchanged(const Job& job) {
  const auto* placed = find_condition(job.status, condition::kPlaced);
  return placed != nullptr && placed->observedGeneration == job.generation;
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
  const Assignment common = common_part(job, gang);
  const bool has_news = common.stopAfter || common.release;
  const std::int32_t ranks = contract::processes_per_worker(job.spec);
  for (const auto& worker : gang.workers) {
    const auto found = out.find(worker.pod->uid);
    if (found == out.end()) continue;
    const bool has_taken = worker.said != nullptr;
    if (has_taken && !has_news && !is_spec_unchanged(job)) continue;
    Assignment& assignment = found->second.emplace(common);
    assignment.worker = worker.index;
    assignment.ranks.resize(static_cast<std::size_t>(ranks));
    std::iota(assignment.ranks.begin(), assignment.ranks.end(), worker.index * ranks);
  }
  return out;
}

}  // namespace trainyard::decide
