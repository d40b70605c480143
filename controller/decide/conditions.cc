#include "controller/decide/conditions.h"

#include <algorithm>
#include <utility>

#include "crds/contract/shortened.h"

namespace trainyard::decide {

using contract::Condition;
using contract::ConditionStatus;
using contract::Phase;
using contract::TrainingJobStatus;

namespace {

// The schema's bounds, which are metav1.Condition's: a status beyond them would be refused for ever. Words of kubelets, webhooks and
// training code become parts of conditions.
constexpr std::size_t kLongestReason = 1'024, kLongestMessage = 32'768;

std::string as_reason(std::string reason) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  std::erase_if(reason, [&](char c) { return !is_letter(c) && !(c >= '0' && c <= '9') && c != '_'; });
  reason.resize(std::min(reason.size(), kLongestReason));
  return reason.empty() || !is_letter(reason.front()) ? "Unknown" : reason;
}

}  // namespace

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

const std::string& reason_of(const TrainingJobStatus& status, std::string_view type) {
  static const std::string kNone;
  const auto* found = find_condition(status, type);
  return found == nullptr ? kNone : found->reason;
}

contract::Time since_of(const TrainingJobStatus& status, std::string_view type) {
  const auto* found = find_condition(status, type);
  return found == nullptr ? contract::Time{} : contract::parse_rfc3339(found->lastTransitionTime).value_or(contract::Time{});
}

void set_condition(TrainingJobStatus& status, NewCondition condition, std::int64_t generation, contract::Time now) {
  set_condition(status.conditions, std::move(condition), generation, now);
}

void set_condition(std::vector<Condition>& conditions, NewCondition condition, std::int64_t generation, contract::Time now) {
  const auto wanted = condition.is_true ? ConditionStatus::kTrue : ConditionStatus::kFalse;
  auto found = std::find_if(conditions.begin(), conditions.end(),
                            [&condition](const Condition& item) { return item.type == condition.type; });
  if (found == conditions.end()) {
    found = conditions.insert(found, Condition{.type = condition.type});
  }
  if (found->status != wanted || found->lastTransitionTime.empty()) found->lastTransitionTime = contract::to_rfc3339(now);
  found->status = wanted;
  found->reason = as_reason(std::move(condition.reason));
  found->message = contract::shortened(std::move(condition.message), kLongestMessage);
  found->observedGeneration = generation;
}

bool is_finished(const TrainingJobStatus& status) {
  return is_true(status, condition::kComplete) || is_true(status, condition::kFailed);
}

bool is_removed(const TrainingJobStatus& status) {
  const std::string& why = reason_of(status, condition::kPlaced);
  return why == reason::kGangRemoved || why == reason::kPartlyScheduled;
}

bool is_vacating(const TrainingJobStatus& status) {
  const std::string& why = reason_of(status, condition::kRunning);
  return why == reason::kSuspending || why == reason::kPreempting || why == reason::kDraining;
}

bool is_stopping(const TrainingJobStatus& status) {
  return is_vacating(status) || reason_of(status, condition::kRunning) == reason::kResizing;
}

Phase phase_of(const TrainingJobStatus& status) {
  if (is_true(status, condition::kFailed)) return Phase::kFailed;
  if (is_true(status, condition::kComplete)) return Phase::kSucceeded;
  if (is_true(status, condition::kSuspended)) return Phase::kSuspended;
  if (is_true(status, condition::kRunning)) return Phase::kRunning;
  // Its ranks write their last checkpoint; where they did no step since they came back, they still are about to.
  if (is_stopping(status) && is_true(status, condition::kProgressing)) return Phase::kRunning;
  if (reason_of(status, condition::kProgressing) == reason::kRestarting) return Phase::kRestarting;
  return is_true(status, condition::kPlaced) ? Phase::kStarting : Phase::kPending;
}

}  // namespace trainyard::decide
