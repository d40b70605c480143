#pragma once
// The TrainingQueue as the programs see it: one struct for each object of crds/trainingqueue.yaml, which documents the fields and is
// the source of truth. tests/crds proves that names, types, enums and defaults here are the schema's.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/fields.h"
#include "crds/contract/job.h"

namespace trainyard::contract {

inline constexpr std::string_view kQueueKind = "TrainingQueue";
inline constexpr std::string_view kQueuePlural = "trainingqueues";
/// The queue of jobs that name none, where there is one of this name.
inline constexpr std::string_view kDefaultQueue = "default";

// ---- spec

enum class Stop { kNone, kHold, kDrain };
constexpr auto enum_names(Stop) { return std::to_array<std::string_view>({"None", "Hold", "Drain"}); }

enum class LabelOperator { kIn, kNotIn, kExists, kDoesNotExist };
constexpr auto enum_names(LabelOperator) { return std::to_array<std::string_view>({"In", "NotIn", "Exists", "DoesNotExist"}); }

struct LabelRequirement {
  std::string key;
  LabelOperator op = LabelOperator::kExists;  // `operator`
  std::vector<std::string> values;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("key", self.key);
    field("operator", self.op);
    field("values", self.values);
  }
  bool operator==(const LabelRequirement&) const = default;
};

/// A metav1.LabelSelector.
struct LabelSelector {
  std::map<std::string, std::string> matchLabels;
  std::vector<LabelRequirement> matchExpressions;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("matchLabels", self.matchLabels);
    field("matchExpressions", self.matchExpressions);
  }
  bool operator==(const LabelSelector&) const = default;
};
/// Whether it selects what has these labels; without any requirement everything.
bool selects(const LabelSelector& selector, const std::map<std::string, std::string>& labels);

struct ResourceQuota {
  std::string name;
  Quantity nominal;
  std::optional<Quantity> borrowingLimit;
  std::optional<Quantity> lendingLimit;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("name", self.name);
    field("nominal", self.nominal);
    field("borrowingLimit", self.borrowingLimit);
    field("lendingLimit", self.lendingLimit);
  }
  bool operator==(const ResourceQuota&) const = default;
};

struct FlavorQuota {
  std::map<std::string, std::string> nodeLabels;
  std::vector<ResourceQuota> resources;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("nodeLabels", self.nodeLabels);
    field("resources", self.resources);
  }
  bool operator==(const FlavorQuota&) const = default;
};

struct TrainingQueueSpec {
  std::optional<std::string> parent;
  std::int32_t weight = 1;
  Stop stop = Stop::kNone;
  std::optional<LabelSelector> namespaceSelector;
  std::vector<FlavorQuota> flavors;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("parent", self.parent);
    field("weight", self.weight);
    field("stop", self.stop);
    field("namespaceSelector", self.namespaceSelector);
    field("flavors", self.flavors);
  }
  bool operator==(const TrainingQueueSpec&) const = default;
};

// ---- status

struct ReasonCount {
  std::string reason;
  std::int32_t jobs = 0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("reason", self.reason);
    field("jobs", self.jobs);
  }
  bool operator==(const ReasonCount&) const = default;
};

struct ResourceUsage {
  std::string name;
  Quantity nominal;
  Quantity used;
  Quantity borrowed;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("name", self.name);
    field("nominal", self.nominal);
    field("used", self.used);
    field("borrowed", self.borrowed);
  }
  bool operator==(const ResourceUsage&) const = default;
};

struct FlavorUsage {
  std::map<std::string, std::string> nodeLabels;
  std::vector<ResourceUsage> resources;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("nodeLabels", self.nodeLabels);
    field("resources", self.resources);
  }
  bool operator==(const FlavorUsage&) const = default;
};

struct TrainingQueueStatus {
  std::int64_t observedGeneration = 0;
  std::vector<Condition> conditions;  // Active
  std::int32_t pending = 0;
  std::int32_t running = 0;
  std::vector<ReasonCount> pendingReasons;  // by reason, in the order of the alphabet
  std::vector<FlavorUsage> usage;           // in the order of spec.flavors
  std::string summary;                      // of the usage, for `kubectl get`
  double weightedShare = 0;                 // rounded as all floats of a status are

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("observedGeneration", self.observedGeneration);
    field("conditions", self.conditions);
    field("pending", self.pending);
    field("running", self.running);
    field("pendingReasons", self.pendingReasons);
    field("usage", self.usage);
    field("summary", self.summary);
    field("weightedShare", self.weightedShare);
  }
  bool operator==(const TrainingQueueStatus&) const = default;
};

}  // namespace trainyard::contract
