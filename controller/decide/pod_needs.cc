#include "controller/decide/pod_needs.h"

#include <algorithm>

#include "controller/decide/json_lookup.h"

namespace trainyard::decide {
namespace {

std::vector<std::string> read_claims(const Json& pod_spec) {
  std::vector<std::string> claims;
  const Json& volumes = member(pod_spec, "volumes");
  if (!volumes.is_array()) return claims;
  for (const Json& volume : volumes) {
    std::string name = text_of(member(volume, "persistentVolumeClaim"), "claimName");
    if (!name.empty() && std::find(claims.begin(), claims.end(), name) == claims.end()) claims.push_back(std::move(name));
  }
  return claims;
}

}  // namespace

NodeRules read_node_rules(const Json& pod_spec) {
  NodeRules rules;
  if (const Json& selector = member(pod_spec, "nodeSelector"); selector.is_object()) {
    for (const auto& item : selector.items()) {
      if (item.value().is_string()) rules.selector[item.key()] = item.value().get<std::string>();
    }
  }
  const Json& required =
      member(member(member(pod_spec, "affinity"), "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution");
  if (const Json& terms = member(required, "nodeSelectorTerms"); terms.is_array()) rules.required_terms = terms;
  if (const Json& tolerations = member(pod_spec, "tolerations"); tolerations.is_array()) {
    for (const auto& toleration : tolerations) {
      rules.tolerations.push_back({.key = text_of(toleration, "key"),
                                   .op = text_of(toleration, "operator"),
                                   .value = text_of(toleration, "value"),
                                   .effect = text_of(toleration, "effect")});
    }
  }
  return rules;
}

PodNeeds read_pod_needs(const Json& pod_spec) {
  std::vector<contract::Problem> ignored;
  return {.requests = pod_requests(pod_spec, ignored), .rules = read_node_rules(pod_spec), .claims = read_claims(pod_spec)};
}

}  // namespace trainyard::decide
