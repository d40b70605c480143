#include "controller/decide/assignments.h"

#include <algorithm>
#include <numeric>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
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

void stop(Assignment& assignment) {
  assignment.checkpointRequest = 1;
  assignment.stopAfter = 1;
}
/// Agents take back no stop (assignment.h), and it may be that this one was told to.
void release(Assignment& assignment) {
  stop(assignment);
  assignment.release = true;
}

/// What agents that have taken the generation are told, where it is anything.
Assignment amendment(const Job& job) {
  Assignment out{.jobUid = job.uid, .job = to_text(job.key), .generation = job.status.generation, .amends = true};
  if (is_stopping(job.status)) stop(out);
  if (is_finished(job.status)) release(out);
  return out;
}

/// What begins the generation.
Assignment whole_assignment(const Job& job, const GangView& gang, const contract::TrainingJobSpec& spec, std::int32_t worker) {
  Assignment out = amendment(job);
  out.amends = false;
  out.worker = worker;
  out.ranks.resize(static_cast<std::size_t>(contract::processes_per_worker(job.spec)));
  std::iota(out.ranks.begin(), out.ranks.end(), worker * static_cast<std::int32_t>(out.ranks.size()));
  out.worldSize = contract::world_size(spec);
  out.rendezvous = {.host = gang.workers.front().pod->worker->ip, .port = contract::kRendezvousPort};
  out.spec = spec;
  return out;
}

/// Whether the ranks of a pod that is being deleted have nothing to write any more: its gang is taken apart, goes on without it, or has
/// lost a worker. Left alone they would wait for lost peers in a collective until their grace is over.
bool is_over(const Pod& pod, const GangView& gang, bool is_whole) {
  if (!pod.deletion_time) return false;
  if (!is_whole) return true;
  const auto fails = [](const Worker& worker) { return worker.failure.has_value(); };
  const auto has_place = [&pod](const Worker& worker) { return worker.pod == &pod; };
  return std::any_of(gang.workers.begin(), gang.workers.end(), fails) ||
         std::none_of(gang.workers.begin(), gang.workers.end(), has_place);
}

/// What an agent is told of which nothing is wanted any more; nothing where it was never given a generation.
std::optional<Assignment> farewell(const Cluster& cluster, const Job& job, const Pod& pod) {
  const auto* agent = cluster.agent(pod.uid);
  if (agent == nullptr || !agent->state || agent->state->generation == 0) return std::nullopt;
  Assignment out{.jobUid = job.uid, .job = to_text(job.key), .generation = agent->state->generation, .amends = true};
  release(out);
  return out;
}

}  // namespace

std::map<std::string, std::optional<Assignment>> assignments(const Cluster& cluster, const Job& job, const GangView& gang) {
  std::map<std::string, std::optional<Assignment>> out;
  const bool is_whole =
      is_true(job.status, condition::kPlaced) && reason_of(job.status, condition::kPlaced) == reason::kGangPlaced;
  const bool is_custom = job.spec.engine == contract::Engine::kCustom;
  for (const auto* pod : cluster.pods_of(job)) {
    if (!is_live(*pod) || pod->worker->ip.empty() || pod->worker->agent_port == 0) continue;
    out[pod->uid] = is_over(*pod, gang, is_whole) && !is_custom ? farewell(cluster, job, *pod) : std::nullopt;
  }
  if (is_custom || !is_whole || !can_start(job, gang)) return out;
  const Assignment news = amendment(job);
  const bool has_news = news.stopAfter || news.release, edited = is_spec_edited(job);
  const auto spec = engine_spec(job.spec, gang_size(job));
  for (const auto& worker : gang.workers) {
    const auto found = out.find(worker.pod->uid);
    if (found == out.end() || found->second) continue;
    const bool has_taken = worker.said != nullptr;
    if (has_taken && has_news) found->second = news;
    if (!has_taken && !edited) found->second = whole_assignment(job, gang, spec, worker.index);
  }
  return out;
}

}  // namespace trainyard::decide
