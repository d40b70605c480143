#pragma once
// Pods that stay for a look at them (lifecycle.cleanPodPolicy, as Kubeflow's): those that failed when their gang was restarted, and those that run
// at the job's end. They are part of no gang, and go with the job.

#include <optional>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// A pod in whose place another one is, or will be, that failed in the job's last failure: of each worker the one that failed last, and
/// none that ended more than a minute before the last one of all. None whose end nobody told of, and none while the API server refuses
/// pods of the gang: a quota may count those that have ended.
bool is_kept(const Cluster& cluster, const Job& job, const Pod& superseded);

/// Whether pods that run when the job ends are left alone …
bool keeps_pods_at_end(const Job& job);
/// … as they are now: the job has ended, and its deadline is not over.
bool keeps_running_pods(const Job& job, Time now);
/// When lifecycle.activeDeadlineSeconds ends all pods; nothing where it never does.
std::optional<Time> deadline_of(const Job& job);

/// Pods that ended go when their job has.
bool removes_ended_pods(const Job& job);

}  // namespace trainyard::decide
