#pragma once
// Nodes that worker pods have to leave though they are ready: what the node, or somebody who looks after it, says about it.

#include <optional>
#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// Why a pod has to leave its node.
struct Departure {
  const char* reason = nullptr;  // reason::kNodeDrained or kNodeUnhealthy
  bool is_nodes_fault = false;   // not where somebody looks after it
  std::string why;               // "its node node-3 has the condition XIDErrors"
};

/// A condition of Settings::unhealthy_conditions; a taint with the effect NoExecute, or whose key is among Settings::maintenance_taints, that
/// the pod does not tolerate. A cordon alone, and what is told by the node's being not ready, drives nobody away.
std::optional<Departure> must_leave(const Cluster& cluster, const Pod& worker_pod);

/// Somebody vouches that nothing runs there any more (the taint node.kubernetes.io/out-of-service).
bool is_out_of_service(const Node& node);

}  // namespace trainyard::decide
