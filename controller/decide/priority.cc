#include "controller/decide/priority.h"

#include "controller/decide/json_lookup.h"

namespace trainyard::decide {
namespace {

struct Named {
  const char* field;
  std::string name;  // empty: neither names one
};

Named class_of(const contract::TrainingJobSpec& spec) {
  if (spec.priorityClassName) return {"spec.priorityClassName", *spec.priorityClassName};
  const Json& name = member(member(spec.workers.templ, "spec"), "priorityClassName");
  return {"spec.workers.template.spec.priorityClassName", name.is_string() ? name.get<std::string>() : ""};
}

}  // namespace

Priority priority_of(const Cluster& cluster, const Job& job) {
  const auto& classes = cluster.priority_classes();
  if (const std::string name = class_of(job.spec).name; !name.empty()) {
    const auto found = classes.find(name);
    if (found == classes.end()) return {.preempts = false, .is_known = false};
    return {found->second.value, found->second.preempts};
  }
  // Of several defaults, which a server may have for a moment, the lowest counts.
  const PriorityClass* chosen = nullptr;
  for (const auto& [name, candidate] : classes) {
    if (candidate.is_default && (chosen == nullptr || candidate.value < chosen->value)) chosen = &candidate;
  }
  return chosen == nullptr ? Priority{} : Priority{chosen->value, chosen->preempts};
}

std::optional<contract::Problem> unknown_priority_class(const Cluster& cluster, const Job& job) {
  const Named named = class_of(job.spec);
  // Who can't read the classes leaves it to the API server, which refuses a pod of an unknown one.
  if (named.name.empty() || !cluster.settings.sees_cluster || cluster.priority_classes().contains(named.name))
    return std::nullopt;
  return contract::Problem{named.field,
                           "names no PriorityClass of the cluster: " + named.name + "; `kubectl get priorityclasses` lists them"};
}

}  // namespace trainyard::decide
