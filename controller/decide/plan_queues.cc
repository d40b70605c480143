// The statuses of TrainingQueues.

#include <algorithm>
#include <map>
#include <utility>

#include "controller/decide/conditions.h"
#include "controller/decide/fair_order.h"
#include "controller/decide/plan.h"
#include "controller/decide/progress.h"
#include "controller/decide/quantity.h"
#include "controller/decide/queues.h"

namespace trainyard::decide {
namespace {

using contract::TrainingQueueStatus;

struct Jobs {
  std::int32_t pending = 0, running = 0;
  std::map<std::string, std::int32_t> reasons;
};

std::string why_it_waits(const contract::TrainingJobStatus& status) {
  const char* type = is_false(status, condition::kAccepted) ? condition::kAccepted : condition::kPlaced;
  const std::string reason = reason_of(status, type);
  return reason.empty() ? "New" : reason;
}

std::map<std::string, Jobs> count_jobs(const Cluster& cluster, const Queues& queues) {
  std::map<std::string, Jobs> out;
  for (const auto& [key, job] : cluster.jobs()) {
    if (const Charge* charge = queues.charge(job)) {
      ++out[charge->queue].running;
      continue;
    }
    const bool waits = job.spec.managedBy == contract::kManagedBy && !job.deleting && !is_finished(job.status) &&
                       !job.spec.suspend && !job.spec.dryRun;
    if (!waits) continue;
    Jobs& jobs = out[queue_name(cluster, job)];
    ++jobs.pending;
    ++jobs.reasons[why_it_waits(job.status)];
  }
  return out;
}

void tell_usage(const Queues& queues, Queues::Index index, TrainingQueueStatus& status) {
  const auto& flavors = queues.queue(index).flavors;
  status.usage.clear();
  status.summary.clear();
  for (const auto& flavor : flavors) {
    contract::FlavorUsage usage{.nodeLabels = flavor.labels, .resources = {}};
    if (flavors.size() > 1) status.summary += (status.summary.empty() ? "" : "; ") + to_text(flavor.labels) + ": ";
    for (const auto& [resource, limits] : flavor.resources) {
      const auto& quota = *queues.quota(index, flavor.labels, resource);
      const auto text = [resource = resource](std::int64_t amount) { return quantity_text(resource, amount); };
      if (!usage.resources.empty()) status.summary += ", ";
      status.summary += resource + " " + text(quota.usage(index)) + "/" + text(limits.nominal);
      usage.resources.push_back({.name = resource,
                                 .nominal = {text(limits.nominal)},
                                 .used = {text(quota.usage(index))},
                                 .borrowed = {text(quota.borrowed(index))}});
    }
    status.usage.push_back(std::move(usage));
  }
}

/// What people wait for; the rest are numbers.
bool differs_in_kind(const TrainingQueueStatus& a, const TrainingQueueStatus& b) {
  const auto in_kind = [](const TrainingQueueStatus& status) {
    std::vector<std::pair<contract::ConditionStatus, std::string>> conditions;
    for (const auto& item : status.conditions) conditions.emplace_back(item.status, item.reason);
    return std::pair(status.observedGeneration, conditions);
  };
  return in_kind(a) != in_kind(b);
}

TrainingQueueStatus status_of(const Queues& queues, Queues::Index index, const Jobs& jobs, Time now) {
  const Queue& queue = queues.queue(index);
  TrainingQueueStatus status = queue.status;
  status.observedGeneration = queue.generation;
  const auto stopped = queues.stopped(index);
  set_condition(status.conditions,
                {"Active", !stopped, stopped ? stopped->reason : "Active", stopped ? stopped->message : "jobs start from it"},
                queue.generation, now);
  status.pending = jobs.pending;
  status.running = jobs.running;
  status.pendingReasons.clear();
  for (const auto& [reason, count] : jobs.reasons) status.pendingReasons.push_back({reason, count});
  tell_usage(queues, index, status);
  status.weightedShare = rounded(queues.dominant_share(queues.usage(index)) / queue.weight);
  return status;
}

}  // namespace

Plan plan_queues(const Cluster& cluster, Time now) {
  Plan plan;
  if (cluster.queues().empty()) return plan;
  const Queues queues(cluster);
  const auto jobs = count_jobs(cluster, queues);
  const auto& settings = cluster.settings;
  const double all = static_cast<double>(queues.size()) / settings.status_writes_per_second;
  const auto interval = std::max<std::chrono::microseconds>(settings.status_interval,
                                                            std::chrono::microseconds(static_cast<std::int64_t>(all * 1e6)));
  std::vector<Action> writes;
  std::optional<Time> again;
  for (std::size_t i = 0; i < queues.size(); ++i) {
    const auto index = static_cast<Queues::Index>(i);
    const Queue& queue = queues.queue(index);
    const auto found = jobs.find(queue.name);
    auto status = status_of(queues, index, found == jobs.end() ? Jobs{} : found->second, now);
    if (status == queue.status) continue;
    const Time due = queue.status_written + interval;
    if (now >= due || differs_in_kind(status, queue.status)) {
      writes.push_back(WriteQueueStatus{queue.name, queue.uid, queue.resource_version, std::move(status)});
    } else {
      again = std::min(again.value_or(Time::max()), due);
    }
  }
  if (!writes.empty()) plan.phases.push_back(std::move(writes));
  if (again) plan.look_again = std::chrono::ceil<std::chrono::seconds>(*again - now);
  return plan;
}

}  // namespace trainyard::decide
