#include "controller/decide/accept.h"

#include <algorithm>
#include <string>
#include <utility>

#include "controller/decide/claims.h"
#include "controller/decide/elastic.h"
#include "controller/decide/engine_spec.h"
#include "controller/decide/memory_fit.h"
#include "controller/decide/next_generation.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/priority.h"
#include "controller/decide/queues.h"
#include "controller/decide/unseen_nodes.h"
#include "crds/contract/validate.h"
#include "worker/plan/reckonable.h"

namespace trainyard::decide {
namespace {

using contract::Problem;

constexpr const char* kCanRun = "the spec and its template can be run";
// Creation times are in whole seconds, and of the API server's clock.
constexpr std::chrono::seconds kClocksDiffer{2};
/// The answer to a dry run is waited for as long as that; and the turn of a job that was accepted, to be told where in the line it is, where
/// very many were created at once. Each word before that one is a write more of each of them.
constexpr std::chrono::seconds kForDryRun{2}, kForItsTurn{15};

/// A new job's status is first written when it is known how it goes on, which takes milliseconds; where it takes longer, before that.
void hold_first_word(Review& review, std::chrono::seconds longest) {
  const Time over = review.job.created + longest;
  const bool is_new = review.now >= review.job.created - kClocksDiffer && review.now < over;
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

/// What is wrong with the spec, as far as it is not for the API server to say.
std::vector<Problem> problems_of(const Cluster& cluster, const Job& job) {
  std::vector<Problem> problems = job.problems;
  if (cluster.settings.sees_cluster) {
    check_pack(job.spec, cluster.settings, problems);
    if (auto problem = queue_problem(cluster, job)) problems.push_back(std::move(*problem));
  } else {
    for (auto& problem : beyond_namespaces(job.spec)) problems.push_back(std::move(problem));
  }
  if (job.spec.engine == contract::Engine::kTrainyard && contract::validate(job.spec).empty() && !plan::is_reckonable(job.spec)) {
    problems.push_back({"spec",
                        "asks for more in a step than can be reckoned with, many times what the largest models take; make "
                        "training.globalBatchSize, parallelism.microBatchSize, data.sequenceLength or model.size smaller"});
  }
  if (auto problem = unknown_priority_class(cluster, job)) problems.push_back(std::move(*problem));
  for (auto& problem : template_problems(job.spec, cluster.settings)) problems.push_back(std::move(problem));
  return problems;
}

DryRunPod dry_run_of(const Cluster& cluster, const Job& job) {
  const WorkerPlace nowhere{.worker = 0, .generation = next_generation(cluster, job), .node = {}};
  return {job.key, job.uid, template_hash(job, cluster.settings), worker_pod(job, cluster.settings, nowhere)};
}

/// What the API server, or the binding, has against its pods; empty: nothing.
std::string refusal_of(const Job& job, const TemplateCheck& check) {
  if (!check.accepted) return "the API server refuses a pod of spec.workers.template: " + check.message;
  if (job.spec.placement.binding == contract::Binding::kDirect && !check.beyond_direct.empty()) {
    return "an admission webhook adds to a pod of spec.workers.template what placement.binding Direct can't hold:\n" +
           contract::to_text(check.beyond_direct);
  }
  return "";
}

/// True where the API server accepts the pods.
bool check_template(Review& review) {
  const auto& job = review.job;
  const auto& settings = review.cluster.settings;
  const std::string hash = template_hash(job, settings);
  const auto* check = review.cluster.template_check(job.uid, hash);
  const Time retry = check == nullptr ? review.now : check->at + settings.template_retry;
  // A kubelet that found a pod too large may have counted what admission adds by now, and did not when it was asked.
  const bool is_outdated = check != nullptr && reason_of(review.status, condition::kPlaced) == reason::kLostRace &&
                           check->at < since_of(review.status, condition::kPlaced);
  if (check == nullptr || is_outdated || ((!check->accepted || check->over_quota) && review.now >= retry)) {
    review.writes.push_back(dry_run_of(review.cluster, job));
  }
  if (check == nullptr) {
    hold_first_word(review, kForDryRun);
    return false;
  }
  if (!check->accepted || check->over_quota) review.look_again(retry);
  const std::string refusal = refusal_of(job, *check);
  if (!refusal.empty()) refuse(review, "TemplateRefused", refusal);
  return refusal.empty();
}

const PodNeeds* needs_of(const Review& review) {
  const auto* check = review.cluster.template_check(review.job.uid, template_hash(review.job, review.cluster.settings));
  return check == nullptr ? nullptr : &check->needs;
}

/// What would do instead, with what goes before it. Nothing but a word for it before its turn to be looked for.
std::string what_fits(Review& review, const PodNeeds& needs) {
  const LayoutQuestion question(review.cluster, review.job, needs);
  LayoutAnswers& answers = review.cluster.layouts();
  if (const auto* known = answers.find(question.text())) return ". " + *known;
  if (const Time turn = answers.turn(question.text(), review.now); turn > review.now) {
    review.look_again(turn);
    return "; a layout that fits is yet to be looked for";
  }
  std::string words = question.answer();
  answers.put(question.text(), words, review.now);
  return ". " + words;
}

/// True where its ranks have enough memory somewhere, or nobody knows better. `finds_layout`: says what would do instead, which takes a
/// thousand times as long.
bool check_memory(Review& review, bool finds_layout) {
  if (review.status.progress) return true;  // it has trained, which tells more than what is foretold
  const Cluster& cluster = review.cluster;
  const Job& job = review.job;
  const PodNeeds& needs = *needs_of(review);
  const std::string shortage = memory_shortage(cluster, job, needs);
  if (shortage.empty()) return true;
  if (!finds_layout) {
    refuse(review, reason::kDoesNotFit, shortage);
    return false;
  }
  // It was found already if the numbers are the same.
  const auto* told = find_condition(review.status, condition::kAccepted);
  const bool is_told = told != nullptr && told->reason == reason::kDoesNotFit && told->observedGeneration == job.generation &&
                       told->message.starts_with(shortage + ". ");
  refuse(review, reason::kDoesNotFit, is_told ? std::string(told->message) : shortage + what_fits(review, needs));
  return false;
}

/// Why a gang that trains can't be given another number of workers, whatever room there is.
std::string why_not_at_a_checkpoint(const Review& review, bool more, bool other_template) {
  const auto& spec = review.job.spec;
  if (spec.engine == contract::Engine::kCustom) return "nobody knows when a program of the engine Custom has written one";
  if (!can_resize(spec)) return "spec.checkpoint is left out";
  if (more && other_template) return "the new pods would be of another template than the others";
  if (more && !review.cluster.settings.sees_cluster)
    return "the controller sees no nodes, so that it can't tell whether there is room";
  return "";
}

/// Of workers.count, edited while the gang is there.
std::string pending_count(const Review& review, bool other_template) {
  const Job& job = review.job;
  const auto& placement = job.status.placement;
  const std::int32_t count = job.spec.workers.count, size = gang_size(job);
  if (!placement || placement->wanted.value_or(count) == count || count == size) return "";
  const std::string asked =
      "workers.count was changed to " + std::to_string(count) + ", and the gang has " + std::to_string(size);
  if (const std::string why = why_not_at_a_checkpoint(review, count > size, other_template); !why.empty()) {
    return asked + "; it can't be given others at a checkpoint, since " + why +
           ": the change takes effect when the job is suspended and resumed, or its workers are placed anew after a failure";
  }
  if (count > size || !may_resize(job)) return "";  // schedule() says in the condition Placed what more workers wait for
  const std::string problem = second_look(review.cluster, job, review.now).problem;
  return problem.empty() ? "" : asked + "; it is not stopped for that, since it would not be placed again: " + problem;
}

/// What the gang that runs does not have of the spec yet; empty where it has all of it.
std::string pending_edits(const Review& review) {
  std::string out = template_change(review.job, review.cluster.settings);
  const bool other_template = !out.empty();
  if (other_template) out += "; the change takes effect when the job is suspended and resumed";
  const auto add = [&out](const std::string& more) {
    if (!more.empty()) out += (out.empty() ? "" : ". ") + more;
  };
  add(pending_count(review, other_template));
  if (is_spec_edited(review.job)) {
    add("spec.evaluation, spec.checkpoint or spec.metrics was changed; " + std::string(kAtNextRestart) +
        ", or when the job is suspended and resumed");
  }
  return out;
}

/// A line each, and none behind the last: kubectl would show it.
std::string message_of(const std::vector<Problem>& problems) {
  std::string out = contract::to_text(problems);
  out.pop_back();
  return out;
}

std::string can_run(const Review& review) {
  const auto* needs = needs_of(review);
  const std::string doubt = needs == nullptr ? "" : host_memory_doubt(review.job, *needs);
  return doubt.empty() ? kCanRun : std::string(kCanRun) + "; but " + doubt;
}

void accept(Review& review, bool finds_layout) {
  const auto& job = review.job;
  if (is_true(review.status, condition::kAccepted) && reason_of(review.status, condition::kPlaced) == reason::kGangPlaced) {
    const std::string pending = pending_edits(review);
    return review.set(condition::kAccepted, true, "Accepted", pending.empty() ? can_run(review) : pending);
  }
  const std::vector<Problem> problems = problems_of(review.cluster, job);
  if (!problems.empty()) return refuse(review, "InvalidSpec", message_of(problems));
  if (!check_template(review) || !check_memory(review, finds_layout)) return;
  review.set(condition::kAccepted, true, "Accepted", can_run(review));
  // Of one that has a queue schedule() says whether its quota has room.
  if (queue_name(review.cluster, job).empty()) review.set(condition::kAdmitted, true, "NoQueue", "");
  hold_first_word(review, job.spec.dryRun ? kForDryRun : kForItsTurn);
}

}  // namespace

void accept(Review& review) { accept(review, true); }

Review review_in_line(const Cluster& cluster, const Job& job, Time now, GangView gang) {
  Review review(cluster, job, now, std::move(gang));
  if (!is_true(job.status, condition::kAccepted)) accept(review);
  review.holds_status = false;
  return review;
}

bool is_acceptable(const Cluster& cluster, const Job& job, Time now) {
  if (is_true(job.status, condition::kAccepted)) return true;
  Review trial(cluster, job, now);
  accept(trial, false);
  return is_true(trial.status, condition::kAccepted);
}

SecondLook second_look(const Cluster& cluster, const Job& job, Time now) {
  SecondLook out;
  if (const auto problems = problems_of(cluster, job); !problems.empty()) {
    out.problem = message_of(problems);
    return out;
  }
  const auto& settings = cluster.settings;
  const auto* check = cluster.template_check(job);
  const bool says_no = check != nullptr && (!check->accepted || check->over_quota);
  const auto lasts = says_no ? std::max(settings.template_retry, settings.grow_after) : settings.template_retry;
  if (check == nullptr || now >= check->at + lasts) out.ask = dry_run_of(cluster, job);
  if (check == nullptr) return out;
  if (says_no) out.again = check->at + lasts;
  out.problem = refusal_of(job, *check);
  if (out.problem.empty()) {
    if (auto trouble = claim_trouble(cluster, job, check->needs)) out.problem = std::move(trouble->message);
  }
  if (check->over_quota) out.no_more_pods = "a ResourceQuota of namespace " + job.key.ns + " has no room for another pod now";
  return out;
}

}  // namespace trainyard::decide
