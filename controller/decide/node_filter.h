#pragma once
// Whether a node would take a pod at all, room aside: what kube-scheduler checks before it looks at resources.
// Source: k8s.io/component-helpers/scheduling/corev1 (node affinity, taints and tolerations).

#include <optional>
#include <string>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

struct Toleration {
  std::string key, op, value, effect;
  bool operator==(const Toleration&) const = default;
};

/// What a pod asks of its node, from its spec: nodeSelector, the required node affinity and the tolerations.
struct NodeRules {
  std::map<std::string, std::string> selector;
  Json required_terms = Json::array();  // nodeSelectorTerms; empty: any node
  std::vector<Toleration> tolerations;
  bool operator==(const NodeRules&) const = default;
};
NodeRules read_node_rules(const Json& pod_spec);

/// Why a node takes no pod of this kind, however empty it is; in the order in which they are told.
enum class Obstacle { kSelector, kTaint, kCordoned, kNotReady, kRejected };
std::optional<Obstacle> obstacle(const Node& node, const NodeRules& rules);

bool tolerates(const std::vector<Toleration>& tolerations, const Taint& taint);

/// What the template asks of kube-scheduler that the controller itself does not check, so that binding Direct can't hold it.
std::vector<contract::Problem> beyond_direct(const Json& pod_spec);

}  // namespace trainyard::decide
