#pragma once
// spec.lifecycle of a TrainingJob (job.h says how these types follow crds/trainingjob.yaml).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/fields.h"

namespace trainyard::contract {

enum class FailureClass { kUser, kInfrastructure, kTransient, kUnknown };
constexpr auto enum_names(FailureClass) {
  return std::to_array<std::string_view>({"User", "Infrastructure", "Transient", "Unknown"});
}
enum class FailureAction { kFail, kRestart, kIgnore };
constexpr auto enum_names(FailureAction) { return std::to_array<std::string_view>({"Fail", "Restart", "Ignore"}); }

struct FailureRule {
  FailureAction action = FailureAction::kFail;
  std::vector<std::int32_t> onExitCodes;
  std::vector<std::string> onSignals;
  std::optional<std::string> onMessage;  // a part of the failure's message or of one of its last lines

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("action", self.action);
    field("onExitCodes", self.onExitCodes);
    field("onSignals", self.onSignals);
    field("onMessage", self.onMessage);
  }
  bool operator==(const FailureRule&) const = default;
};

struct FailurePolicy {
  std::vector<FailureRule> rules;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("rules", self.rules);
  }
  bool operator==(const FailurePolicy&) const = default;
};

enum class CleanPodPolicy { kRunning, kNone, kAll };
constexpr auto enum_names(CleanPodPolicy) { return std::to_array<std::string_view>({"Running", "None", "All"}); }

struct Lifecycle {
  std::int32_t maxRestarts = 5;
  std::optional<std::int64_t> activeDeadlineSeconds;
  std::optional<std::int64_t> ttlSecondsAfterFinished;
  std::int64_t startTimeoutSeconds = 600;
  std::optional<std::int64_t> hangTimeoutSeconds;
  std::int64_t checkpointGraceSeconds = 120;
  CleanPodPolicy cleanPodPolicy = CleanPodPolicy::kRunning;
  FailurePolicy failurePolicy;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("maxRestarts", self.maxRestarts);
    field("activeDeadlineSeconds", self.activeDeadlineSeconds);
    field("ttlSecondsAfterFinished", self.ttlSecondsAfterFinished);
    field("startTimeoutSeconds", self.startTimeoutSeconds);
    field("hangTimeoutSeconds", self.hangTimeoutSeconds);
    field("checkpointGraceSeconds", self.checkpointGraceSeconds);
    field("cleanPodPolicy", self.cleanPodPolicy);
    field("failurePolicy", self.failurePolicy);
  }
  bool operator==(const Lifecycle&) const = default;
};

}  // namespace trainyard::contract
