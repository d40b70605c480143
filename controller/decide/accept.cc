#include "controller/decide/accept.h"

#include <algorithm>
#include <string>

#include "controller/decide/engine_spec.h"
#include "controller/decide/next_generation.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/priority.h"
#include "controller/decide/queues.h"
#include "controller/decide/unseen_nodes.h"

namespace trainyard::decide {
namespace {

using contract::Problem;

constexpr const char* kCanRun = "the spec and its template can be run";
// Creation times are in whole seconds, and of the API server's clock.
constexpr std::chrono::seconds kNew{2};

/// A new job's status is first written when it is known how it goes on, which takes milliseconds; where it takes longer, before that.
void hold_first_word(Review& review) {
  const Time over = review.job.created + kNew;
  const bool is_new = review.now >= review.job.created - kNew && review.now < over;
  if (review.job.status.observedGeneration != 0 || !is_new) return;
  review.holds_status = true;
  review.look_again(over);
}

void check_pack(const contract::TrainingJobSpec& spec, const Settings& settings, std::vector<Problem>& problems) {
  if (!spec.placement.pack) return;
  std::string known;
  for (const auto& level : settings.topology_levels) {
    if (level.name == spec.placement.pack->level) return;
    known += (known.empty() ? "" : ", ") + level.name;
  }
  problems.push_back({"spec.placement.pack.level",
                      "names no topology level: " + spec.placement.pack->level +
                          (known.empty() ? "; the chart's value topologyLevels is empty"
                                         : "; the levels are those of the chart's value topologyLevels: " + known)});
}

void refuse(Review& review, const char* reason, const std::string& message) {
  review.set(condition::kAccepted, false, reason, message);
}

/// True where the API server accepts the pods.
bool check_template(Review& review) {
  const auto& job = review.job;
  const auto& settings = review.cluster.settings;
  const std::string hash = template_hash(job.spec, settings);
  const auto* check = review.cluster.template_check(job.uid, hash);
  const Time retry = check == nullptr ? review.now : check->at + settings.template_retry;
  // A kubelet that found a pod too large may have counted what admission adds by now, and did not when it was asked.
  const bool is_outdated = check != nullptr && reason_of(review.status, condition::kPlaced) == reason::kLostRace &&
                           check->at < since_of(review.status, condition::kPlaced);
  if (check == nullptr || is_outdated || ((!check->accepted || check->over_quota) && review.now >= retry)) {
    const WorkerPlace nowhere{.worker = 0, .generation = next_generation(review.cluster, job), .node = {}};
    review.writes.push_back(DryRunPod{job.key, job.uid, hash, worker_pod(job, settings, nowhere)});
  }
  if (check == nullptr) {
    hold_first_word(review);
    return false;
  }
  if (!check->accepted || check->over_quota) review.look_again(retry);
  if (!check->accepted) {
    refuse(review, "TemplateRefused", "the API server refuses a pod of spec.workers.template: " + check->message);
    return false;
  }
  if (job.spec.placement.binding == contract::Binding::kDirect && !check->beyond_direct.empty()) {
    refuse(review, "TemplateRefused",
           "an admission webhook adds to a pod of spec.workers.template what placement.binding Direct can't hold:\n" +
               contract::to_text(check->beyond_direct));
    return false;
  }
  return true;
}

/// What the gang that runs does not have of the spec yet; empty where it has all of it.
std::string pending_edits(const Review& review) {
  std::string out = template_change(review.job, review.cluster.settings);
  if (!out.empty()) out += "; the change takes effect when the job is suspended and resumed";
  if (!is_spec_edited(review.job)) return out;
  return out + (out.empty() ? "" : ". ") +
         "spec.evaluation or spec.checkpoint was changed; the change takes effect at the next restart, or when the job is "
         "suspended and resumed";
}

}  // namespace

void accept(Review& review) {
  const auto& job = review.job;
  if (is_true(review.status, condition::kAccepted) && reason_of(review.status, condition::kPlaced) == reason::kGangPlaced) {
    const std::string pending = pending_edits(review);
    return review.set(condition::kAccepted, true, "Accepted", pending.empty() ? kCanRun : pending);
  }
  std::vector<Problem> problems = job.problems;
  if (review.cluster.settings.sees_cluster) {
    check_pack(job.spec, review.cluster.settings, problems);
    if (auto problem = queue_problem(review.cluster, job)) problems.push_back(std::move(*problem));
  } else {
    for (auto& problem : beyond_namespaces(job.spec)) problems.push_back(std::move(problem));
  }
  if (auto problem = unknown_priority_class(review.cluster, job)) problems.push_back(std::move(*problem));
  for (auto& problem : template_problems(job.spec, review.cluster.settings)) problems.push_back(std::move(problem));
  if (!problems.empty()) return refuse(review, "InvalidSpec", contract::to_text(problems));
  if (!check_template(review)) return;
  review.set(condition::kAccepted, true, "Accepted", kCanRun);
  // Of one that has a queue schedule() says whether its quota has room.
  if (queue_name(review.cluster, job).empty()) review.set(condition::kAdmitted, true, "NoQueue", "");
  hold_first_word(review);
}

bool is_acceptable(const Cluster& cluster, const Job& job, Time now) {
  if (is_true(job.status, condition::kAccepted)) return true;
  Review trial(cluster, job, now);
  accept(trial);
  return is_true(trial.status, condition::kAccepted);
}

}  // namespace trainyard::decide
