#include "controller/decide/dry_run.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controller/decide/accept.h"
#include "controller/decide/conditions.h"
#include "controller/decide/memory_fit.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/review.h"

namespace trainyard::decide {
namespace {

constexpr std::chrono::seconds kForEachDryRun{5};  // so long apart are the answers to several

bool asks(const Cluster& cluster, const Job& job) {
  const auto& status = job.status;
  if (!job.spec.dryRun || !cluster.settings.sees_cluster || job.deleting || job.spec.managedBy != contract::kManagedBy)
    return false;
  if (job.spec.suspend || is_true(status, condition::kSuspended) || is_finished(status)) return false;
  const auto* check = cluster.template_check(job);
  return check != nullptr && check->accepted;
}

const contract::TrainingJobStatus* written_status(const Plan& plan) {
  for (const auto& phase : plan.phases) {
    for (const auto& action : phase) {
      if (const auto* write = std::get_if<WriteStatus>(&action)) return &write->status;
    }
  }
  return nullptr;
}

/// "4 workers on 4 nodes of rack-3, with 1 of 2 spares".
std::string place_text(const Job& job, const contract::PlacementStatus& place,
                       const contract::Rare<contract::SparesStatus>& spares) {
  const auto count = place.workers.value_or(job.spec.workers.count);
  std::string out = std::to_string(count) + (count == 1 ? " worker on " : " workers on ") + std::to_string(place.nodes) +
                    (place.nodes == 1 ? " node" : " nodes");
  for (std::size_t i = 0; i < place.domains.size(); ++i) out += (i == 0 ? " of " : ", ") + place.domains[i];
  if (!spares) return out;
  return out + ", with " + std::to_string(spares->placed) + " of " + std::to_string(spares->desired) +
         (spares->desired == 1 ? " spare" : " spares");
}

std::optional<contract::TrainingJobStatus> status_in(const std::map<ObjectKey, Plan>& plans, const Job& job) {
  const auto found = plans.find(job.key);
  const auto* status = found == plans.end() ? nullptr : written_status(found->second);
  return status == nullptr ? std::nullopt : std::optional(*status);
}

/// The cluster in which it is none.
Cluster with_real(const Cluster& cluster, const Job& job) {
  Cluster what_if = cluster;
  Job real = job;
  real.spec.dryRun = false;
  real.status.dryRun.reset();
  real.status.conditions = {};
  what_if.put(std::move(real));
  return what_if;
}

/// Once those have stopped that would stop for it, and those that do already: their pods and quota are gone, and they stand behind it in
/// the line. Nothing where it would still wait, as for others that come before it.
std::optional<contract::TrainingJobStatus> once_they_are_gone(const Cluster& cluster, const Job& job, Time now,
                                                              PlaceAll place_all, const std::vector<std::string>& stopping) {
  Cluster then = with_real(cluster, job);
  for (const auto& [key, other] : cluster.jobs()) {
    const bool stops = std::find(stopping.begin(), stopping.end(), to_text(key)) != stopping.end();
    if (key == job.key || (!stops && !is_vacating(other.status))) continue;
    for (const auto* pod : cluster.pods_of(other)) then.erase_pod(pod->key);
    then.erase_job(key);
  }
  auto status = status_in(place_all(then, now), job);
  return status && is_true(*status, condition::kPlaced) ? status : std::nullopt;
}

/// What schedule() would make of it, were it none; who would stop for it is added to `told`.
std::optional<contract::TrainingJobStatus> what_would_be(const Cluster& cluster, const Job& job, Time now, PlaceAll place_all,
                                                         contract::DryRunStatus& told) {
  const auto plans = place_all(with_real(cluster, job), now);
  for (const auto& [key, plan] : plans) {
    const auto* status = written_status(plan);
    const Job* other = cluster.job(key);
    const bool stops = status != nullptr && reason_of(*status, condition::kRunning) == reason::kPreempting;
    if (stops && reason_of(other->status, condition::kRunning) != reason::kPreempting) told.preempts.push_back(to_text(key));
  }
  return status_in(plans, job);
}

std::string waiting_text(const contract::TrainingJobStatus& status) {
  const bool has_position = status.queue && status.queue->position;
  const auto* placed = find_condition(status, condition::kPlaced);
  return "wait" + (has_position ? ", number " + std::to_string(*status.queue->position) + " in the line" : "") +
         (placed == nullptr ? "" : ": " + placed->message);
}

/// Where it would be placed; the words for it, after "be placed: ".
std::string tell_of_place(const Job& job, const contract::TrainingJobStatus& status, contract::DryRunStatus& told) {
  told.placement = status.placement;
  told.memoryPerRank = told.placement->memoryPerRank;
  const auto& unknown = told.placement->unknown;
  return place_text(job, *told.placement, status.spares) + (unknown ? "; it is not known " + *unknown : "");
}

/// Tells what would be; the words for it, after "it would ".
std::string tell(Review& review, PlaceAll place_all, contract::DryRunStatus& told) {
  const Job& job = review.job;
  told.memoryPerRank = memory_status(job.spec);
  if (is_false(review.status, condition::kAccepted)) {
    told.admitted = false;
    return "not be accepted: " + find_condition(review.status, condition::kAccepted)->message;
  }
  const auto status = what_would_be(review.cluster, job, review.now, place_all, told);
  if (!status) return "not be looked at yet";
  told.admitted = is_true(*status, condition::kAdmitted);
  if (const auto* admitted = find_condition(*status, condition::kAdmitted)) {
    review.set(condition::kAdmitted, *told.admitted, admitted->reason, admitted->message);
  }
  if (!is_true(*status, condition::kPlaced)) {
    if (status->queue) told.estimatedStartTime = status->queue->estimatedStartTime;
    if (told.preempts.empty()) return waiting_text(*status);
    const auto then = once_they_are_gone(review.cluster, job, review.now, place_all, told.preempts);
    return waiting_text(*status) + (then ? "; then it would be placed: " + tell_of_place(job, *then, told) : "");
  }
  return "be placed: " + tell_of_place(job, *status, told);
}

Plan answer(const Cluster& cluster, const Job& job, Time now, PlaceAll place_all) {
  Review review(cluster, job, now);
  accept(review);
  review.holds_status = false;
  review.look_again(now + kDryRunAnswered);
  contract::DryRunStatus told;
  std::string message = "At " + contract::to_rfc3339(now) + " it would " + tell(review, place_all, told);
  review.status.dryRun = std::move(told);
  review.set(condition::kPlaced, false, reason::kDryRun, std::move(message));
  return review.plan();
}

}  // namespace

void answer_dry_runs(const Cluster& cluster, Time now, PlaceAll place_all, std::map<ObjectKey, Plan>& plans) {
  const auto is_told = [](const Job& job) { return reason_of(job.status, condition::kPlaced) == reason::kDryRun; };
  const Job* next = nullptr;
  std::int64_t number = 0;
  for (const auto& [key, job] : cluster.jobs()) {
    if (!asks(cluster, job)) continue;
    ++number;
    const auto turn = [&](const Job& one) { return std::pair(is_told(one), one.status_written); };
    if (next == nullptr || turn(job) < turn(*next)) next = &job;
  }
  if (next == nullptr) return;
  // Each answer tells its time, so it is written, and the next one's turn comes.
  const auto interval = std::max(kDryRunAnswered, kForEachDryRun * number);
  const Time due = is_told(*next) ? std::max(numbers_due(cluster, *next), next->status_written + interval) : now;
  if (now < due) {
    plans[next->key].look_again = std::chrono::ceil<std::chrono::seconds>(due - now);
    return;
  }
  Plan plan = answer(cluster, *next, now, place_all);
  plan.look_again = std::min<std::chrono::milliseconds>(plan.look_again.value_or(kDryRunAnswered), kForEachDryRun);
  plans[next->key] = std::move(plan);
}

}  // namespace trainyard::decide
