#include "controller/decide/node_health.h"

#include <algorithm>

#include "controller/decide/conditions.h"
#include "controller/decide/node_filter.h"

namespace trainyard::decide {
namespace {

constexpr const char* kOutOfService = "node.kubernetes.io/out-of-service";

/// Those by which the node controller says that a node is not ready, which pods tolerate (pod_template.cc).
bool is_of_readiness(const Taint& taint) {
  return taint.key == "node.kubernetes.io/not-ready" || taint.key == "node.kubernetes.io/unreachable";
}

bool drives_away(const Taint& taint, const Settings& settings) {
  const auto& keys = settings.maintenance_taints;
  if (taint.effect == "NoExecute") return !is_of_readiness(taint);
  return taint.effect == "NoSchedule" && std::find(keys.begin(), keys.end(), taint.key) != keys.end();
}

std::string taint_text(const Taint& taint) {
  return taint.key + (taint.value.empty() ? "" : "=" + taint.value) + ":" + taint.effect;
}

}  // namespace

bool is_out_of_service(const Node& node) {
  return std::any_of(node.taints.begin(), node.taints.end(), [](const Taint& taint) { return taint.key == kOutOfService; });
}

std::optional<Departure> must_leave(const Cluster& cluster, const Pod& pod) {
  const Node* node = cluster.node(pod.node);
  if (node == nullptr) return std::nullopt;
  if (!node->trouble.empty()) {
    return Departure{reason::kNodeUnhealthy, true, "its node " + pod.node + " has the condition " + node->trouble};
  }
  for (const auto& taint : node->taints) {
    if (!drives_away(taint, cluster.settings) || tolerates(pod.worker->tolerations, taint)) continue;
    return Departure{reason::kNodeDrained, false, "its node " + pod.node + " has the taint " + taint_text(taint)};
  }
  return std::nullopt;
}

}  // namespace trainyard::decide
