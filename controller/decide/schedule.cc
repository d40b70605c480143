#include <algorithm>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "controller/decide/accept.h"
#include "controller/decide/claims.h"
#include "controller/decide/creation.h"
#include "controller/decide/events.h"
#include "controller/decide/next_generation.h"
#include "controller/decide/no_room.h"
#include "controller/decide/placement.h"
#include "controller/decide/plan.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/priority.h"
#include "controller/decide/review.h"
#include "crds/contract/layout.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

/// A job that waits for nodes, and for which workers.
struct Candidate {
  const Job* job = nullptr;
  const PodNeeds* needs = nullptr;  // of each of its pods
  Priority priority;
  GangView gang;
  std::vector<std::int32_t> missing;  // workers without a pod that can be kept
  std::optional<Time> blocked_until;  // their last pods may still run
  bool has_others() const { return missing.size() < gang.workers.size(); }
};

bool is_waiting(const Job& job) {
  const auto& status = job.status;
  if (job.deleting || job.spec.managedBy != contract::kManagedBy || is_finished(status)) return false;
  if (job.spec.suspend || is_true(status, condition::kSuspended) ||
      reason_of(status, condition::kRunning) == reason::kSuspending) {
    return false;
  }
  if (reason_of(status, condition::kPlaced) == reason::kGangPlaced) return false;
  return is_true(status, condition::kAccepted);
}

/// Nothing where there is nothing to do for schedule(), now or later.
std::optional<Candidate> candidate(const Cluster& cluster, const Job& job, Time now) {
  const PodNeeds* needs = is_waiting(job) ? accepted_needs(cluster, job) : nullptr;
  if (needs == nullptr) return std::nullopt;
  Candidate out{.job = &job, .needs = needs, .priority = priority_of(cluster, job), .gang = view_gang(cluster, job, now)};
  const std::string why = reason_of(job.status, condition::kPlaced);
  const bool creating = is_true(job.status, condition::kPlaced);
  const std::string hash = template_hash(job.spec, cluster.settings);
  // Pods of two templates in one gang would be two images that talk to each other; plan_job() removes those of the old one.
  if (creating && hash != job.status.templateHash) return std::nullopt;
  if (const Time until = makes_room_until(cluster, job); now < until) out.blocked_until = until;
  for (const auto& worker : out.gang.workers) {
    const bool keeps = creating ? worker.pod != nullptr
                                : worker.reusable && why != reason::kGangRemoved && worker.pod->worker->template_hash == hash;
    if (keeps) continue;
    // Where nobody has deleted it yet, plan_job() is about to, which brings schedule() back.
    if (worker.pod != nullptr) out.blocked_until = std::max(out.blocked_until, may_run_until(cluster, *worker.pod, now));
    out.missing.push_back(worker.index);
  }
  // What is complete, or has a rejected pod in the place of the one to be made, is for plan_job() to say.
  const bool is_rejected_now = std::any_of(out.gang.rejected.begin(), out.gang.rejected.end(),
                                           [&job](const Pod* pod) { return pod->worker->generation == job.status.generation; });
  if (creating && (out.missing.empty() || is_rejected_now)) return std::nullopt;
  return out;
}

/// Those that others of their gang wait for, then those of the highest priority, then the oldest.
std::vector<Candidate> queue(const Cluster& cluster, Time now) {
  std::vector<Candidate> out;
  for (const auto& [key, job] : cluster.jobs()) {
    if (auto found = candidate(cluster, job, now)) out.push_back(std::move(*found));
  }
  std::stable_sort(out.begin(), out.end(), [](const Candidate& a, const Candidate& b) {
    return std::tuple(!a.has_others(), -std::int64_t{a.priority.value}, a.job->created) <
           std::tuple(!b.has_others(), -std::int64_t{b.priority.value}, b.job->created);
  });
  return out;
}

/// Consecutive workers that talk much: a replica of the model (its pipeline), then a tensor group.
std::vector<std::int32_t> groups_of(const contract::TrainingJobSpec& spec) {
  const auto degrees = contract::degrees(spec);
  const std::int32_t a_worker = contract::processes_per_worker(spec);
  std::vector<std::int32_t> out;
  for (const std::int32_t ranks : {degrees.pp * degrees.cp * degrees.tp, degrees.cp * degrees.tp, degrees.tp}) {
    if (ranks > a_worker && ranks % a_worker == 0) out.push_back(ranks / a_worker);
  }
  return out;
}

Gang gang_of(const Cluster& cluster, const Candidate& candidate, Time now) {
  const Job& job = *candidate.job;
  Gang gang{.count = static_cast<std::int32_t>(candidate.missing.size()),
            .requests = candidate.needs->requests,
            .rules = candidate.needs->rules,
            .pack = job.spec.placement.pack};
  gang.rules.volume_terms = volume_terms(cluster, job, *candidate.needs);
  if (!candidate.has_others()) gang.groups = groups_of(job.spec);
  std::set<std::int32_t> missing(candidate.missing.begin(), candidate.missing.end());
  for (const auto& worker : candidate.gang.workers) {
    if (!missing.contains(worker.index) && !worker.pod->node.empty()) gang.beside.insert(worker.pod->node);
  }
  for (const auto* rejected : candidate.gang.rejected) {
    if (now < rejected->created + cluster.settings.rejecting_node_avoided) gang.avoid.insert(rejected->node);
  }
  return gang;
}

class Scheduling {
 public:
  Scheduling(const Cluster& cluster, Time now) : cluster_(cluster), now_(now), topology_(cluster) {}

  Plan place(const Candidate& candidate) {
    if (candidate.blocked_until) return look_again_at(*candidate.blocked_until);
    if (candidate.missing.empty()) return start(candidate, {});
    if (auto trouble = claim_trouble(cluster_, *candidate.job, *candidate.needs)) {
      return wait(candidate, trouble->reason, trouble->message);
    }
    const Gang gang = gang_of(cluster_, candidate, now_);
    const auto found = place_gang(topology_, gang);
    if (const auto* none = std::get_if<NoRoom>(&found)) {
      if (const auto due = explained_until(candidate)) return look_again_at(*due);
      const Explanation why = explain(cluster_, topology_, gang, *none);
      return wait(candidate, why.never ? reason::kNeverFits : reason::kUnschedulable, why.message);
    }
    const auto& nodes = std::get<Placement>(found).nodes;
    for (const auto& node : nodes) topology_.take(static_cast<std::size_t>(topology_.find_node(node)), gang.requests);
    return start(candidate, nodes);
  }

 private:
  Plan look_again_at(Time at) const {
    Plan plan;
    if (at != Time::max()) plan.look_again = std::chrono::ceil<std::chrono::seconds>(at - now_);
    return plan;
  }

  /// A job that was told why there is no room is told so anew when it is its turn: to find the words takes longer than to find room.
  /// Until when it has to wait; nothing where it is its turn.
  std::optional<Time> explained_until(const Candidate& candidate) const {
    const Job& job = *candidate.job;
    const std::string told = reason_of(job.status, condition::kPlaced);
    if (candidate.has_others() || (told != reason::kUnschedulable && told != reason::kNeverFits)) return std::nullopt;
    const Time due = numbers_due(cluster_, job);
    return now_ < due ? std::optional(due) : std::nullopt;
  }

  Plan start(const Candidate& candidate, const std::vector<std::string>& nodes) const {
    const Job& job = *candidate.job;
    Review review(cluster_, job, now_);
    auto& status = review.status;
    if (!is_true(status, condition::kPlaced)) {
      begin_generation(review);
      status.templateHash = template_hash(job.spec, cluster_.settings);
      status.workers.desired = job.spec.workers.count;
      if (!status.startTime) status.startTime = contract::to_rfc3339(now_);
      status.placement = placement_status(candidate, nodes);
      review.set(condition::kPlaced, true, nodes.empty() ? reason::kGangPlaced : reason::kCreatingWorkers,
                 placed_message(status));
      if (reason_of(status, condition::kProgressing) != reason::kRestarting) {
        review.set(condition::kRunning, false, reason::kWorkersStarting, "worker pods are being created");
        review.set(condition::kProgressing, false, "Starting", "no step was done yet");
      }
    }
    Plan plan = review.plan();
    if (nodes.empty()) return plan;
    std::vector<Action> secret{CreateSecret{key_secret(job, cluster_.settings), job.key.name, job.uid}}, pods;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const WorkerPlace place{.worker = candidate.missing[i], .generation = status.generation, .node = nodes[i]};
      pods.push_back(CreatePod{{job.key.ns, contract::pod_name(job.key.name, place.worker, place.generation)},
                               worker_pod(job, cluster_.settings, place)});
    }
    plan.phases.push_back(std::move(secret));
    plan.phases.push_back(std::move(pods));
    return plan;
  }

  contract::PlacementStatus placement_status(const Candidate& candidate, const std::vector<std::string>& added) const {
    std::set<std::string> nodes(added.begin(), added.end());
    const std::set<std::int32_t> missing(candidate.missing.begin(), candidate.missing.end());
    for (const auto& worker : candidate.gang.workers) {
      if (!missing.contains(worker.index)) nodes.insert(worker.pod->node);
    }
    const auto& pack = candidate.job->spec.placement.pack;
    const std::int32_t level = pack ? topology_.level_of(pack->level) : 0;
    std::set<std::string> domains;
    for (const auto& node : nodes) {
      const auto index = topology_.find_node(node);
      if (index < 0 || topology_.num_levels() == 0) continue;
      const auto& domain = topology_.domains()[static_cast<std::size_t>(topology_.ancestor(index, level))];
      if (!domain.name.empty()) domains.insert(domain.name);
    }
    return {.domains = {domains.begin(), domains.end()}, .nodes = static_cast<std::int32_t>(nodes.size())};
  }

  /// Says why the gang, or what is missing of it, has no place.
  Plan wait(const Candidate& candidate, const char* why, const std::string& message) const {
    const Job& job = *candidate.job;
    Review review(cluster_, job, now_);
    if (!candidate.has_others()) {
      review.set(condition::kPlaced, false, why, message);
      return review.plan();
    }
    const std::string reason = reason_of(job.status, condition::kPlaced);
    // A gang does not hold nodes in vain: two halves could wait for each other for ever.
    const Time patience = since_of(job.status, condition::kPlaced) + std::chrono::seconds(job.spec.lifecycle.startTimeoutSeconds);
    const bool was_running = reason == reason::kWorkerLost || reason == reason::kNoReplacement;
    if (!was_running || now_ >= patience) {
      review.set(condition::kPlaced, false, reason::kGangRemoved, "the gang is not whole, and can't be made so: " + message);
    } else {
      review.set(condition::kPlaced, false, reason::kNoReplacement, "a lost worker can't be replaced: " + message);
      review.look_again(patience);
    }
    return review.plan();
  }

  const Cluster& cluster_;
  const Time now_;
  Topology topology_;
};

}  // namespace

std::map<ObjectKey, Plan> schedule(const Cluster& cluster, Time now) {
  std::map<ObjectKey, Plan> plans;
  const auto waiting = queue(cluster, now);
  if (waiting.empty()) return plans;
  Scheduling scheduling(cluster, now);
  for (const auto& candidate : waiting) {
    Plan plan = scheduling.place(candidate);
    if (!plan.is_empty() || plan.look_again) plans.emplace(candidate.job->key, std::move(plan));
  }
  return plans;
}

bool matters_to_schedule(const Pod& before, const Pod& after) {
  if (!takes_same_room(before, after) || before.uid != after.uid) return true;
  if (!before.worker) return false;
  const auto seen = [](Pod pod) {  // what is left tells whether it can be kept, or when it is out of the way
    if (!pod.is_finished()) pod.phase = PodPhase::kPending;
    auto& worker = *pod.worker;
    worker.ip.clear();
    worker.container_running = false;
    worker.waiting_reason.clear();
    worker.waiting_message.clear();
    worker.unscheduled_message.clear();
    return pod;
  };
  return seen(before) != seen(after);
}

bool matters_to_schedule(const Job& before, const Job& after) {
  return before.uid != after.uid || before.generation != after.generation || before.deleting != after.deleting ||
         differs_in_kind(before.status, after.status);
}

}  // namespace trainyard::decide
