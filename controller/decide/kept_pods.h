#pragma once
// Pods that stay for a look at them (lifecycle.cleanPodPolicy, as Kubeflow's): those that failed when their gang was restarted, and those that run
// at the job's end. They are part of no gang, and go with the job.

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// A pod in whose place another one is, or will be, that failed in the job's last failure: so no more pods are kept than a gang has.
bool is_kept(const Cluster& cluster, const Job& job, const Pod& superseded);

/// The job has ended, and its pods that run are left alone.
bool keeps_running_pods(const Job& job, const contract::TrainingJobStatus& status);

/// Pods that ended go when their job has.
bool removes_ended_pods(const Job& job);

}  // namespace trainyard::decide
