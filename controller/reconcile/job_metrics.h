#pragma once
// What becomes of jobs and of the cluster's devices, for Prometheus. The metrics' names and meanings: observe/controller_metrics.cc.

#include "controller/decide/cluster.h"
#include "controller/observe/metrics.h"

namespace trainyard::reconcile {

/// A job's status was written: counts what has happened between the two. Of each happening one controller tells, the one that wrote it.
void count_happening(observe::Metrics& metrics, const decide::Job& job, const contract::TrainingJobStatus& before,
                     const contract::TrainingJobStatus& after, contract::Time now);

/// Sets anew what is at this moment: jobs, what they wait for, queues, devices. Cost: O(jobs + nodes log nodes + pods).
void count_cluster(observe::Metrics& metrics, const decide::Cluster& cluster, contract::Time now);

/// The share of a job's time since its creation for which there is progress to show: what its tokens take at the present rate, of all
/// that has passed. Waiting, starting, steps that were done twice and pauses make it less. Nothing before the first step.
/// Source: goodput as in R. Kokolis et al., Revisiting Reliability in Large-Scale Machine Learning Research Clusters, arXiv:2410.21680.
std::optional<double> goodput(contract::Time created, const contract::TrainingJobStatus& status, contract::Time now);

}  // namespace trainyard::reconcile
