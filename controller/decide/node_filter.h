#pragma once
// Whether a node would take a pod at all, room aside: what kube-scheduler checks before it looks at resources.
// Source: k8s.io/component-helpers/scheduling/corev1 (node affinity, taints and tolerations) and
// k8s.io/component-helpers/storage/volume (a volume's node affinity).

#include <optional>
#include <string>
#include <vector>

#include "controller/decide/cluster.h"
#include "controller/decide/pod_needs.h"

namespace trainyard::decide {

/// Why a node takes no pod of this kind, however empty it is; in the order in which they are told.
enum class Obstacle { kSelector, kVolume, kDevice, kTaint, kCondition, kUnhealthy, kCordoned, kNotReady, kRejected };
std::optional<Obstacle> obstacle(const Node& node, const NodeRules& rules);
/// Whether it is of those that no node gets rid of by itself: an empty node would not do either.
inline bool is_lasting(Obstacle obstacle) { return obstacle <= Obstacle::kTaint; }

bool has_labels(const Node& node, const Labels& labels);
bool tolerates(const std::vector<Toleration>& tolerations, const Taint& taint);

/// What the template asks of kube-scheduler that the controller itself does not check, so that binding Direct can't hold it.
std::vector<contract::Problem> beyond_direct(const Json& pod_spec);

}  // namespace trainyard::decide
