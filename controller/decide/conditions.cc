#include "controller/decide/conditions.h"

#include <algorithm>
#include <utility>

namespace trainyard::decide {

using contract::Condition;
using contract::ConditionStatus;
using contract::Phase;
using contract::TrainingJobStatus;

const Condition* find_condition(const TrainingJobStatus& status, std::string_view type) {
  const auto found = std::find_if(status.conditions.begin(), status.conditions.end(),
                                  [type](const Condition& item) { return item.type == type; });
  return found == status.conditions.end() ? nullptr : &*found;
}

bool is_true(const TrainingJobStatus& status, std::string_view type) {
  const auto* found = find_condition(status, type);
  return found != nullptr && found->status == ConditionStatus::kTrue;
}

bool is_false(const TrainingJobStatus& status, std::string_view type) {
  const auto* found = find_condition(status, type);
  return found != nullptr && found->status == ConditionStatus::kFalse;
}

std::string reason_of(const TrainingJobStatus& status, std::string_view type) {
  const auto* found = find_condition(status, type);
  return found == nullptr ? "" : found->reason;
}

contract::Time since_of(const TrainingJobStatus& status, std::string_view type) {
  const auto* found = find_condition(status, type);
  return found == nullptr ? contract::Time{} : contract::parse_rfc3339(found->lastTransitionTime).value_or(contract::Time{});
}

void set_condition(TrainingJobStatus& status, NewCondition condition, std::int64_t generation, contract::Time now) {
  const auto wanted = condition.is_true ? ConditionStatus::kTrue : ConditionStatus::kFalse;
  auto found = std::find_if(status.conditions.begin(), status.conditions.end(),
                            [&condition](const Condition& item) { return item.type == condition.type; });
  if (found == status.conditions.end()) {
    found = status.conditions.insert(found, Condition{.type = condition.type});
  }
  if (found->status != wanted || found->lastTransitionTime.empty()) found->lastTransitionTime = contract::to_rfc3339(now);
  found->status = wanted;
  found->reason = std::move(condition.reason);
  found->message = std::move(condition.message);
  found->observedGeneration = generation;
}

bool is_finished(const TrainingJobStatus& status) {
  return is_true(status, condition::kComplete) || is_true(status, condition::kFailed);
}

Phase phase_of(const TrainingJobStatus& status) {
  if (is_true(status, condition::kFailed)) return Phase::kFailed;
  if (is_true(status, condition::kComplete)) return Phase::kSucceeded;
  if (is_true(status, condition::kSuspended)) return Phase::kSuspended;
  if (is_true(status, condition::kRunning)) return Phase::kRunning;
  if (reason_of(status, condition::kProgressing) == reason::kRestarting) return Phase::kRestarting;
  return is_true(status, condition::kPlaced) ? Phase::kStarting : Phase::kPending;
}

}  // namespace trainyard::decide
