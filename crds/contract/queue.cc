#include "crds/contract/queue.h"

#include <algorithm>

namespace trainyard::contract {
namespace {

bool holds(const LabelRequirement& requirement, const std::map<std::string, std::string>& labels) {
  const auto found = labels.find(requirement.key);
  const bool exists = found != labels.end();
  const auto& values = requirement.values;
  const bool is_among = exists && std::find(values.begin(), values.end(), found->second) != values.end();
  switch (requirement.op) {
    case LabelOperator::kIn: return is_among;
    case LabelOperator::kNotIn: return !is_among;
    case LabelOperator::kExists: return exists;
    case LabelOperator::kDoesNotExist: return !exists;
  }
  return false;
}

}  // namespace

bool selects(const LabelSelector& selector, const std::map<std::string, std::string>& labels) {
  const auto has = [&](const auto& wanted) {
    const auto found = labels.find(wanted.first);
    return found != labels.end() && found->second == wanted.second;
  };
  return std::all_of(selector.matchLabels.begin(), selector.matchLabels.end(), has) &&
         std::all_of(selector.matchExpressions.begin(), selector.matchExpressions.end(),
                     [&](const LabelRequirement& requirement) { return holds(requirement, labels); });
}

}  // namespace trainyard::contract
