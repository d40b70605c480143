#include "controller/decide/kept_pods.h"

#include <algorithm>

#include "controller/decide/conditions.h"
#include "controller/decide/spares.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {
namespace {

using contract::CleanPodPolicy;

constexpr std::chrono::seconds kTogether{60};  // a gang falls within so long

bool has_failed(const Pod& pod) { return pod.phase == PodPhase::kFailed && pod.worker->exited_at && !is_rejected(pod); }

/// `other` failed so much later than `pod`, or in its place, that `pod` is of an older failure.
bool makes_old(const Pod& other, const Pod& pod) {
  const auto& a = *other.worker;
  const auto& b = *pod.worker;
  const bool is_later = *a.exited_at > *b.exited_at || (*a.exited_at == *b.exited_at && a.generation > b.generation);
  return (a.worker == b.worker && is_later) || *a.exited_at > *b.exited_at + kTogether;
}

}  // namespace

bool is_kept(const Cluster& cluster, const Job& job, const Pod& superseded) {
  if (removes_ended_pods(job) || !has_failed(superseded) || cluster.refusal(job) != nullptr) return false;
  const auto pods = cluster.pods_of(job);
  return std::none_of(pods.begin(), pods.end(), [&](const Pod* pod) {
    return has_failed(*pod) && !is_idle_spare(job.status, *pod) && makes_old(*pod, superseded);
  });
}

bool keeps_pods_at_end(const Job& job) { return job.spec.lifecycle.cleanPodPolicy == CleanPodPolicy::kNone; }

bool keeps_running_pods(const Job& job, Time now) {
  if (!keeps_pods_at_end(job) || !is_finished(job.status)) return false;
  const auto deadline = deadline_of(job);
  return !deadline || now < *deadline;
}

std::optional<Time> deadline_of(const Job& job) {
  const auto& limit = job.spec.lifecycle.activeDeadlineSeconds;
  const auto start = contract::parse_rfc3339(job.status.startTime.value_or(""));
  if (!limit || !start) return std::nullopt;
  return *start + std::chrono::seconds(*limit);
}

bool removes_ended_pods(const Job& job) { return job.spec.lifecycle.cleanPodPolicy == CleanPodPolicy::kAll; }

}  // namespace trainyard::decide
