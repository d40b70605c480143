#pragma once
// A controller that runs the jobs of some namespaces and may read nothing else (Settings::sees_cluster is false): it can't tell where there is
// room, so kube-scheduler chooses the nodes, pod by pod. Two gangs could hold half of the nodes each and wait for the other half for ever;
// so one that kube-scheduler finds nodes for in part gives them back after a while. docs/design/0013-namespaced.md.

#include <vector>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// What of the spec takes a controller that sees nodes, queues and everybody's pods.
std::vector<contract::Problem> beyond_namespaces(const contract::TrainingJobSpec& spec);

/// True where some workers found nodes and others found none for lifecycle.startTimeoutSeconds: the gang is removed, which counts as no
/// restart. One of which no worker found a node holds nothing, and waits.
bool await_nodes(Review& review);

/// How long such a gang leaves its nodes to others: Settings::refused_wait up to four times that, by its UID and generation, so that of two
/// that are in each other's way one comes first.
Time stands_back_until(const Cluster& cluster, const Job& job);

/// status.placement.nodes, once kube-scheduler has chosen all of them.
void count_nodes(Review& review);

}  // namespace trainyard::decide
