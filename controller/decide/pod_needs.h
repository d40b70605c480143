#pragma once
// What a pod asks of the cluster before it can run: room, a node of a certain kind, and volumes.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controller/decide/resources.h"
#include "crds/contract/fields.h"

namespace trainyard::decide {

using contract::Json;

struct Toleration {
  std::string key, op, value, effect;
  bool operator==(const Toleration&) const = default;
};

/// Of each of its GPUs, in bytes.
struct DeviceNeed {
  std::string resource;  // nvidia.com/gpu
  std::int64_t bytes = 0;
  bool operator==(const DeviceNeed&) const = default;
};

/// What a pod asks of its node, from its spec: nodeSelector, the required node affinity and the tolerations; and, once its claims are
/// bound, that its volumes can be mounted there; and, once that was reckoned, GPUs with enough memory for its ranks.
struct NodeRules {
  std::map<std::string, std::string> selector;
  Json required_terms = Json::array();  // nodeSelectorTerms; empty: any node
  std::vector<Toleration> tolerations;
  std::vector<Json> volume_terms;    // nodeSelectorTerms of each volume that has any
  std::optional<DeviceNeed> device;  // of memory_fit.h; nodes that don't tell what theirs have are good
  bool operator==(const NodeRules&) const = default;
};
NodeRules read_node_rules(const Json& pod_spec);

struct PodNeeds {
  Resources requests;  // "pods": 1 included
  NodeRules rules;
  std::vector<std::string> claims;  // the PersistentVolumeClaims of its namespace that its volumes name, each once
  bool operator==(const PodNeeds&) const = default;
};
/// Best of a pod as the API server answers it: admission adds to what the template says (a LimitRange's default requests, a
/// RuntimeClass's overhead and node selector, tolerations). Amounts that are no quantities count as nothing.
PodNeeds read_pod_needs(const Json& pod_spec);

}  // namespace trainyard::decide
