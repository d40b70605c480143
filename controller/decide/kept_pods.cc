#include "controller/decide/kept_pods.h"

#include <algorithm>

#include "controller/decide/conditions.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {
namespace {

using contract::CleanPodPolicy;

bool has_failed(const Pod& pod) { return pod.phase == PodPhase::kFailed && !is_rejected(pod); }

}  // namespace

bool is_kept(const Cluster& cluster, const Job& job, const Pod& superseded) {
  if (removes_ended_pods(job) || !has_failed(superseded)) return false;
  const auto pods = cluster.pods_of(job);
  return std::none_of(pods.begin(), pods.end(), [&superseded](const Pod* pod) {
    return has_failed(*pod) && pod->worker->generation > superseded.worker->generation;
  });
}

bool keeps_running_pods(const Job& job, const contract::TrainingJobStatus& status) {
  return job.spec.lifecycle.cleanPodPolicy == CleanPodPolicy::kNone && is_finished(status) &&
         reason_of(status, condition::kFailed) != reason::kDeadlineExceeded;
}

bool removes_ended_pods(const Job& job) { return job.spec.lifecycle.cleanPodPolicy == CleanPodPolicy::kAll; }

}  // namespace trainyard::decide
