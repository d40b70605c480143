#include "controller/decide/line.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "controller/decide/accept.h"
#include "controller/decide/claims.h"
#include "controller/decide/conditions.h"
#include "controller/decide/creation.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/queues.h"
#include "controller/decide/traffic.h"

namespace trainyard::decide {
namespace {

bool is_waiting(const Job& job) {
  const auto& status = job.status;
  if (job.deleting || job.spec.managedBy != contract::kManagedBy || is_finished(status)) return false;
  if (job.spec.suspend || job.spec.dryRun || is_true(status, condition::kSuspended) || is_vacating(status)) return false;
  return reason_of(status, condition::kPlaced) != reason::kGangPlaced;
}

/// Nothing where there is nothing to do for schedule(), now or later.
std::optional<Candidate> candidate(const Cluster& cluster, const Job& job, Time now) {
  if (!is_waiting(job) || queue_problem(cluster, job)) return std::nullopt;
  const std::string hash = template_hash(job.spec, cluster.settings);
  const auto* check = cluster.template_check(job.uid, hash);
  // Of one that was accepted the answer is only missing here: its place in the line stays.
  const bool is_in_line =
      check == nullptr ? is_true(job.status, condition::kAccepted) : check->accepted && is_acceptable(cluster, job, now);
  if (!is_in_line) return std::nullopt;
  Candidate out{.job = &job,
                .needs = check == nullptr ? nullptr : &check->needs,
                .priority = priority_of(cluster, job),
                .gang = view_gang(cluster, job, now)};
  const std::string why = reason_of(job.status, condition::kPlaced);
  const bool creating = is_true(job.status, condition::kPlaced);
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
  if (creating && (out.missing.empty() || is_rejected_now || programs_have_ended(job, out.gang))) return std::nullopt;
  return out;
}

}  // namespace

std::vector<Candidate> line(const Cluster& cluster, Time now) {
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

Gang gang_of(const Cluster& cluster, const Candidate& candidate, const PodNeeds& needs, Time now, const Labels& flavor) {
  const Job& job = *candidate.job;
  Gang gang{.count = static_cast<std::int32_t>(candidate.missing.size()),
            .requests = needs.requests,
            .rules = needs.rules,
            .pack = job.spec.placement.pack};
  gang.rules.selector.insert(flavor.begin(), flavor.end());
  gang.rules.volume_terms = volume_terms(cluster, job, needs);
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

}  // namespace trainyard::decide
