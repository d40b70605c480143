#include "controller/decide/failure_policy.h"

#include <algorithm>
#include <string>

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureAction;
using contract::FailureClass;
using contract::FailureRule;

bool tells(const Failure& failure, const std::string& words) {
  const auto has = [&words](const std::string& line) { return line.find(words) != std::string::npos; };
  return has(failure.message) || std::any_of(failure.lastLines.begin(), failure.lastLines.end(), has);
}

/// Every condition that the rule has; one without any matches nothing.
bool matches(const FailureRule& rule, const Failure& failure) {
  const auto& codes = rule.onExitCodes;
  const auto& signals = rule.onSignals;
  const bool asks_message = rule.onMessage && !rule.onMessage->empty();
  if (codes.empty() && signals.empty() && !asks_message) return false;
  if (!codes.empty() && (!failure.exitCode || std::find(codes.begin(), codes.end(), *failure.exitCode) == codes.end()))
    return false;
  if (!signals.empty() && (!failure.signal || std::find(signals.begin(), signals.end(), *failure.signal) == signals.end())) {
    return false;
  }
  return !asks_message || tells(failure, *rule.onMessage);
}

Outcome outcome_of(FailureAction action) {
  switch (action) {
    case FailureAction::kFail: return Outcome::kFail;
    case FailureAction::kRestart: return Outcome::kCounted;
    case FailureAction::kIgnore: return Outcome::kFree;
  }
  return Outcome::kCounted;
}

Outcome outcome_of(FailureClass failure_class) {
  switch (failure_class) {
    case FailureClass::kUser: return Outcome::kFail;
    case FailureClass::kInfrastructure: return Outcome::kFree;
    case FailureClass::kTransient:
    case FailureClass::kUnknown: return Outcome::kCounted;
  }
  return Outcome::kCounted;
}

}  // namespace

Ruling ruling_on(const Failure& failure, const contract::FailurePolicy& policy) {
  for (std::size_t i = 0; i < policy.rules.size(); ++i) {
    if (matches(policy.rules[i], failure)) return {outcome_of(policy.rules[i].action), static_cast<std::int32_t>(i)};
  }
  return {outcome_of(failure.failureClass), std::nullopt};
}

}  // namespace trainyard::decide
