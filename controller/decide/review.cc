#include "controller/decide/review.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "controller/decide/events.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

using contract::TrainingJobStatus;

/// The status without what may wait for its turn.
TrainingJobStatus in_kind(TrainingJobStatus status) {
  for (auto& condition : status.conditions) condition.message.clear();
  status.progress.reset();
  status.checkpoint.reset();
  status.workers.ready = 0;
  if (status.spares) status.spares->ready = status.spares->attempts = 0;
  status.queue.reset();
  // That a gang has begun to wait for its growth, or has ceased to, is no number: from then on the time counts.
  if (status.resize) status.resize = contract::ResizeStatus{.reason = status.resize->reason};
  return status;
}

void leave_line(contract::Rare<contract::QueueStatus>& queue) {
  if (!queue) return;
  if (queue->startDelaySeconds) {
    contract::QueueStatus left;
    left.startDelaySeconds = queue->startDelaySeconds;
    queue = left;
  } else {
    queue.reset();
  }
}

}  // namespace

Review::Review(const Cluster& cluster_, const Job& job_, Time now_)
    : Review(cluster_, job_, now_, view_gang(cluster_, job_, now_)) {}

Review::Review(const Cluster& cluster_, const Job& job_, Time now_, GangView gang_)
    : cluster(cluster_), job(job_), now(now_), gang(std::move(gang_)), status(job_.status) {
  if (gang.changes_at) look_again(*gang.changes_at);
}

void Review::set(const char* type, bool is_true, std::string reason, std::string message) {
  set_condition(status, {type, is_true, std::move(reason), std::move(message)}, job.generation, now);
}

void Review::look_again(Time at, std::chrono::milliseconds grain) {
  constexpr std::chrono::hours kYear{24 * 365};
  if (at <= now) return;
  const Time::duration wait = std::min<Time::duration>(at - now, kYear), beyond = wait % Time::duration(grain);
  const Time then = now + (beyond == Time::duration(0) ? wait : wait - beyond + grain);
  again = std::min(again.value_or(then), then);
}

void Review::remove(const Pod& pod, std::string why) {
  if (!pod.deletion_time) writes.push_back(DeletePod{.key = pod.key, .uid = pod.uid, .grace_seconds = {}, .why = std::move(why)});
}

Plan Review::plan() {
  complete_status(status, job);
  Plan out;
  bool is_due = true;
  if (status != job.status && !holds_status) {
    const Time turn = numbers_due(cluster, job);
    is_due = is_urgent || differs_in_kind(status, job.status) || !writes.empty() || now >= turn;
    if (is_due) {
      out.phases.push_back({WriteStatus{job.key, job.uid, job.resource_version, status}});
      for (auto& event : transition_events(job, status)) events.push_back(std::move(event));
    } else {
      look_again(turn);
    }
  }
  if (!events.empty()) out.phases.push_back(std::move(events));
  if (!writes.empty()) out.phases.push_back(std::move(writes));
  if (again) out.look_again = std::chrono::ceil<std::chrono::milliseconds>(*again - now);
  out.reasons = std::move(reasons);
  return out;
}

void complete_status(TrainingJobStatus& status, const Job& job) {
  status.observedGeneration = job.generation;
  status.phase = phase_of(status);
  // Only who waits is in the line.
  if (is_finished(status) || is_true(status, condition::kSuspended) || is_true(status, condition::kPlaced))
    leave_line(status.queue);
  status.selector = std::string(contract::kJobLabel) + "=" + job.key.name;
  for (auto& condition : status.conditions) condition.observedGeneration = job.generation;
}

std::chrono::microseconds write_interval(const Cluster& cluster) {
  const auto& settings = cluster.settings;
  const double all = static_cast<double>(cluster.num_live_jobs()) / settings.status_writes_per_second;
  return std::max<std::chrono::microseconds>(settings.status_interval,
                                             std::chrono::microseconds(static_cast<std::int64_t>(all * 1e6)));
}

Time numbers_due(const Cluster& cluster, const Job& job) { return job.status_written + write_interval(cluster); }

bool differs_in_kind(const TrainingJobStatus& a, const TrainingJobStatus& b) {
  // What differs mostly is found at once, without a copy of all the rest.
  const auto is_alike = [](const contract::Condition& one, const contract::Condition& other) {
    return std::tie(one.type, one.status, one.reason) == std::tie(other.type, other.status, other.reason);
  };
  const auto &first = a.conditions, &second = b.conditions;
  return !std::equal(first.begin(), first.end(), second.begin(), second.end(), is_alike) || in_kind(a) != in_kind(b);
}

}  // namespace trainyard::decide
