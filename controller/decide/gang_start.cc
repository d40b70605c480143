#include "controller/decide/gang_start.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "controller/decide/accept.h"
#include "controller/decide/avoided_nodes.h"
#include "controller/decide/creation.h"
#include "controller/decide/elastic.h"
#include "controller/decide/estimate.h"
#include "controller/decide/events.h"
#include "controller/decide/gang_objects.h"
#include "controller/decide/next_generation.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/spare_places.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

/// What a gang asks for of which some pods stay: a smaller one gives the rest of its quota back, once the others' pods are gone.
Resources needed_by(const Candidate& candidate) {
  Resources out = times(candidate.needs->requests, std::ssize(candidate.missing) + candidate.spares);
  const std::set<std::int32_t> missing(candidate.missing.begin(), candidate.missing.end());
  for (const auto& worker : candidate.gang.workers) {
    if (worker.pod != nullptr && !missing.contains(worker.index)) out += worker.pod->requests;
  }
  return out;
}

contract::PlacementStatus placement_status(const Topology& topology, const Candidate& candidate,
                                           const std::vector<std::string>& added) {
  const auto spec = spec_of(candidate);
  std::vector<std::string> by_worker(static_cast<std::size_t>(candidate.size));
  for (const auto& worker : candidate.gang.workers) {
    if (worker.pod != nullptr) by_worker[static_cast<std::size_t>(worker.index)] = worker.pod->node;
  }
  for (std::size_t i = 0; i < added.size(); ++i) by_worker[static_cast<std::size_t>(candidate.missing[i])] = added[i];
  std::set<std::string> nodes(by_worker.begin(), by_worker.end());
  if (nodes.contains("")) nodes.clear();  // kube-scheduler chooses
  const std::int32_t level = spec.placement.pack ? topology.level_of(spec.placement.pack->level) : 0;
  std::set<std::string> domains;
  for (const auto& node : nodes) {
    const auto index = topology.find_node(node);
    if (index < 0 || topology.num_levels() == 0) continue;
    const auto& domain = topology.domains()[static_cast<std::size_t>(topology.ancestor(index, level))];
    if (!domain.name.empty()) domains.insert(domain.name);
  }
  contract::PlacementStatus place{.workers = candidate.size,
                                  .wanted = candidate.job->spec.workers.count,
                                  .domains = {domains.begin(), domains.end()},
                                  .nodes = static_cast<std::int32_t>(nodes.size())};
  if (nodes.empty()) std::fill(by_worker.begin(), by_worker.end(), "");
  tell_place(topology, spec, by_worker, place);
  return place;
}

/// Into the status, before any pod: the place, the quota, and one generation more.
void begin_gang(Review& review, const Room& room, const Candidate& candidate, const Room::Place& place,
                const std::string& why_not_all) {
  const Cluster& cluster = review.cluster;
  const Job& job = review.job;
  const Time now = review.now;
  auto& status = review.status;
  const std::int32_t before = gang_size(job);
  if (candidate.has_others()) {
    lower_admission(status, needed_by(candidate));
  } else {
    status.spares = spares_status(job, place.spares.size(), now);
  }
  status.placement = placement_status(room.topology(), candidate, place.nodes);
  begin_generation(review);
  // What it goes on with if the API server would not have the new ones (creation.h), where the spec does not say so.
  const bool grows = candidate.has_others() && candidate.size > before;
  if (grows && before < gang_sizes(job.spec).back()) {
    set_resize(status, contract::ResizeReason::kGrewFrom, before, now);
  }
  status.templateHash = template_hash(job, cluster.settings);
  status.workers.desired = job.spec.workers.count;
  if (!status.startTime) status.startTime = contract::to_rfc3339(now);
  if (const auto& queue = job.status.queue; queue && queue->firstEstimate) {
    const auto first = contract::parse_rfc3339(*queue->firstEstimate).value_or(now);
    status.queue = contract::QueueStatus{};
    status.queue->startDelaySeconds = std::chrono::round<std::chrono::seconds>(now - first).count();
  }
  status.dryRun.reset();
  if (!place.demand.is_charged && !place.nodes.empty()) admit(review, room.admission().queues(), place.demand, place.flavor);
  review.set(condition::kPlaced, true, place.nodes.empty() ? reason::kGangPlaced : reason::kCreatingWorkers,
             placed_message(job.spec, status));
  if (!why_not_all.empty()) review.events.push_back(placed_smaller_event(job, status, why_not_all));
  if (reason_of(status, condition::kProgressing) != reason::kRestarting) {
    review.set(condition::kRunning, false, reason::kWorkersStarting, "worker pods are being created");
    review.set(condition::kProgressing, false, "Starting", "no step was done yet");
  }
}

}  // namespace

Plan start_gang(const Cluster& cluster, Time now, const Room& room, const Candidate& candidate, const Room::Place& place,
                const std::string& why_not_all) {
  const Job& job = *candidate.job;
  const auto& nodes = place.nodes;
  Review review = review_in_line(cluster, job, now, candidate.gang);
  const auto& status = review.status;
  if (!is_true(status, condition::kPlaced)) begin_gang(review, room, candidate, place, why_not_all);
  Plan plan = review.plan();
  if (nodes.empty()) return plan;
  const bool keeps_some = candidate.num_kept > 0;
  const std::string group = group_of_new_pods(job, candidate.gang, keeps_some, cluster.settings);
  const WorkerPods pods_of(job, cluster.settings);
  std::vector<Action> pods;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    WorkerPlace worker{
        .worker = candidate.missing[i], .generation = status.generation, .node = nodes[i], .num_workers = candidate.size};
    worker.pod_group = group;
    if (nodes[i].empty()) {
      worker.node.reset();
      worker.avoid = avoided_nodes(job, now);
    }
    pods.push_back(
        CreatePod{{job.key.ns, contract::pod_name(job.key.name, worker.worker, worker.generation)}, pods_of.pod(worker)});
  }
  // They are the job's, and of no generation: they need not wait until that is in the status.
  if (plan.phases.empty()) plan.phases.emplace_back();
  for (auto& object : gang_objects(job, cluster.settings, candidate.size, !group.empty() && !keeps_some)) {
    plan.phases.front().push_back(std::move(object));
  }
  plan.phases.push_back(std::move(pods));
  // After them: the last pod of a ResourceQuota is a worker's.
  if (!place.spares.empty()) plan.phases.push_back(spare_pods(job, cluster.settings, status, place.spares, group));
  return plan;
}

Plan shrink_gang(const Cluster& cluster, Time now, const Candidate& candidate, const std::string& why_not_all) {
  Review review = review_in_line(cluster, *candidate.job, now, candidate.gang);
  auto& status = review.status;
  if (!status.placement) status.placement.emplace();
  status.placement->workers = candidate.size;
  review.set(condition::kPlaced, false, reason::kResizing,
             "the gang goes on with " + std::to_string(candidate.size) + " workers instead of " +
                 std::to_string(gang_size(*candidate.job)) + (why_not_all.empty() ? "" : ": " + why_not_all));
  return review.plan();
}

}  // namespace trainyard::decide
