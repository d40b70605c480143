#include "controller/decide/node_filter.h"

#include <algorithm>

#include "controller/decide/devices.h"
#include "controller/decide/json_lookup.h"

namespace trainyard::decide {
namespace {

/// One requirement {key, operator, values} on a value that may be missing. An operator that is not known matches nothing.
bool matches(const Json& requirement, const std::string* value) {
  const std::string op = text_of(requirement, "operator");
  const Json& values = member(requirement, "values");
  const auto is_among = [&] { return value != nullptr && std::find(values.begin(), values.end(), *value) != values.end(); };
  if (op == "In") return is_among();
  if (op == "NotIn") return !is_among();
  if (op == "Exists") return value != nullptr;
  if (op == "DoesNotExist") return value == nullptr;
  if ((op == "Gt" || op == "Lt") && value != nullptr && values.is_array() && values.size() == 1 && values[0].is_string()) {
    const auto have = whole_number(*value), bound = whole_number(values[0].get<std::string>());
    return have && bound && (op == "Gt" ? *have > *bound : *have < *bound);
  }
  return false;
}

/// Everything in a term must match; an empty term matches no node.
bool matches_term(const Json& term, const Node& node) {
  const Json &expressions = member(term, "matchExpressions"), &fields = member(term, "matchFields");
  if (expressions.empty() && fields.empty()) return false;
  const bool labels_match = std::all_of(expressions.begin(), expressions.end(), [&](const Json& requirement) {
    const auto found = node.labels.find(text_of(requirement, "key"));
    return matches(requirement, found == node.labels.end() ? nullptr : &found->second);
  });
  return labels_match && std::all_of(fields.begin(), fields.end(), [&](const Json& requirement) {
           return text_of(requirement, "key") == "metadata.name" && matches(requirement, &node.name);
         });
}

/// `terms` are nodeSelectorTerms, of which one must match; none at all allow every node.
bool matches_terms(const Json& terms, const Node& node) {
  return terms.empty() || std::any_of(terms.begin(), terms.end(), [&node](const Json& term) { return matches_term(term, node); });
}

}  // namespace

bool has_labels(const Node& node, const Labels& labels) {
  return std::all_of(labels.begin(), labels.end(), [&node](const auto& label) {
    const auto found = node.labels.find(label.first);
    return found != node.labels.end() && found->second == label.second;
  });
}

bool tolerates(const std::vector<Toleration>& tolerations, const Taint& taint) {
  return std::any_of(tolerations.begin(), tolerations.end(), [&taint](const Toleration& toleration) {
    if (!toleration.effect.empty() && toleration.effect != taint.effect) return false;
    if (!toleration.key.empty() && toleration.key != taint.key) return false;
    return toleration.op == "Exists" || (!toleration.key.empty() && toleration.value == taint.value);
  });
}

std::optional<Obstacle> obstacle(const Node& node, const NodeRules& rules) {
  for (const auto& [key, value] : rules.selector) {
    const auto found = node.labels.find(key);
    if (found == node.labels.end() || found->second != value) return Obstacle::kSelector;
  }
  if (!matches_terms(rules.required_terms, node)) return Obstacle::kSelector;
  for (const auto& terms : rules.volume_terms) {
    if (!matches_terms(terms, node)) return Obstacle::kVolume;
  }
  if (rules.device) {
    const auto memory = device_memory(node, rules.device->resource);
    if (memory && *memory < rules.device->bytes) return Obstacle::kDevice;
  }
  static const Taint cordon{.key = "node.kubernetes.io/unschedulable", .value = "", .effect = "NoSchedule"};
  for (const auto& taint : node.taints) {
    if (taint.effect == "PreferNoSchedule" || taint.key == cordon.key) continue;
    // The node controller's own taints say what the conditions say, and are told as such.
    if (taint.key == "node.kubernetes.io/not-ready" || taint.key == "node.kubernetes.io/unreachable") {
      if (!node.ready) continue;
    }
    // The others of that domain come and go with the node's pressure and network, too.
    const bool comes_and_goes = taint.key.starts_with("node.kubernetes.io/");
    if (!tolerates(rules.tolerations, taint)) return comes_and_goes ? Obstacle::kCondition : Obstacle::kTaint;
  }
  if (!node.trouble.empty()) return Obstacle::kUnhealthy;
  if (node.unschedulable && !tolerates(rules.tolerations, cordon)) return Obstacle::kCordoned;
  if (!node.ready) return Obstacle::kNotReady;
  return std::nullopt;
}

std::vector<contract::Problem> beyond_direct(const Json& pod_spec) {
  std::vector<contract::Problem> problems;
  const std::string at = "spec.workers.template.spec.";
  const auto refuse = [&](bool has, const std::string& field) {
    if (has)
      problems.push_back(
          {at + field, "is not checked by placement.binding Direct; set placement.binding: Scheduler, or leave it out"});
  };
  refuse(!member(pod_spec, "resourceClaims").empty(), "resourceClaims");
  refuse(!member(pod_spec, "schedulingGates").empty(), "schedulingGates");
  refuse(!member(pod_spec, "topologySpreadConstraints").empty(), "topologySpreadConstraints");
  refuse(!member(member(pod_spec, "affinity"), "podAffinity").empty(), "affinity.podAffinity");
  refuse(!member(member(pod_spec, "affinity"), "podAntiAffinity").empty(), "affinity.podAntiAffinity");
  refuse(member(pod_spec, "hostNetwork") == true, "hostNetwork");
  const Json& volumes = member(pod_spec, "volumes");
  for (std::size_t i = 0; i < volumes.size() && volumes.is_array(); ++i) {
    // Its claim is made with the pod, unbound.
    refuse(!member(volumes[i], "ephemeral").is_null(), "volumes[" + std::to_string(i) + "].ephemeral");
  }
  for (const char* list : {"initContainers", "containers"}) {
    const Json& containers = member(pod_spec, list);
    for (std::size_t i = 0; i < containers.size() && containers.is_array(); ++i) {
      const Json& ports = member(containers[i], "ports");
      const bool takes_host_port = ports.is_array() && std::any_of(ports.begin(), ports.end(), [](const Json& port) {
                                     const Json& host = member(port, "hostPort");
                                     return host.is_number_integer() && host != 0;
                                   });
      refuse(takes_host_port, std::string(list) + "[" + std::to_string(i) + "].ports: hostPort");
    }
  }
  return problems;
}

}  // namespace trainyard::decide
