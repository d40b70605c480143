#pragma once
// The TrainingJob as the programs see it: one struct for each object of crds/trainingjob.yaml, which documents the fields and is
// the source of truth. tests/crds proves that names, types, enums and defaults here are the schema's.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "crds/contract/fields.h"
#include "crds/contract/job_status.h"
#include "crds/contract/lifecycle.h"
#include "crds/contract/parallelism.h"
#include "crds/contract/recipe.h"

namespace trainyard::contract {

inline constexpr std::string_view kGroup = "trainyard.dev";
inline constexpr std::string_view kVersion = "v1alpha1";
inline constexpr std::string_view kApiVersion = "trainyard.dev/v1alpha1";
inline constexpr std::string_view kKind = "TrainingJob";
inline constexpr std::string_view kPlural = "trainingjobs";
inline constexpr std::string_view kManagedBy = "trainyard.dev/controller";

enum class Engine { kTrainyard, kCustom };
constexpr auto enum_names(Engine) { return std::to_array<std::string_view>({"Trainyard", "Custom"}); }

struct Workers {
  std::int32_t count = 1;
  std::optional<std::int32_t> minCount;
  std::int32_t spares = 0;
  std::int32_t gpusPerWorker = 0;
  std::string gpuResourceName = "nvidia.com/gpu";
  std::optional<std::int32_t> processesPerWorker;  // see processes_per_worker()
  std::optional<std::int32_t> threadsPerProcess;
  Json templ = Json::object();  // `template`: a pod template, kept as it came

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("count", self.count);
    field("minCount", self.minCount);
    field("spares", self.spares);
    field("gpusPerWorker", self.gpusPerWorker);
    field("gpuResourceName", self.gpuResourceName);
    field("processesPerWorker", self.processesPerWorker);
    field("threadsPerProcess", self.threadsPerProcess);
    field("template", self.templ);
  }
  bool operator==(const Workers&) const = default;
};

enum class Binding { kDirect, kScheduler };
constexpr auto enum_names(Binding) { return std::to_array<std::string_view>({"Direct", "Scheduler"}); }
enum class PackMode { kPreferred, kRequired };
constexpr auto enum_names(PackMode) { return std::to_array<std::string_view>({"Preferred", "Required"}); }

struct Pack {
  std::string level;
  PackMode mode = PackMode::kPreferred;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("level", self.level);
    field("mode", self.mode);
  }
  bool operator==(const Pack&) const = default;
};

struct PlacementSpec {
  Binding binding = Binding::kDirect;
  std::optional<Pack> pack;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("binding", self.binding);
    field("pack", self.pack);
  }
  bool operator==(const PlacementSpec&) const = default;
};

struct TrainingJobSpec {
  Engine engine = Engine::kTrainyard;
  bool suspend = false;
  bool dryRun = false;
  std::string managedBy = std::string(kManagedBy);
  std::optional<std::string> queue;
  std::optional<std::string> priorityClassName;
  Workers workers;
  PlacementSpec placement;
  Parallelism parallelism;
  Model model;
  Data data;
  Training training;
  std::optional<Evaluation> evaluation;
  std::optional<Checkpoint> checkpoint;
  std::optional<MetricFiles> metrics;
  Lifecycle lifecycle;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("engine", self.engine);
    field("suspend", self.suspend);
    field("dryRun", self.dryRun);
    field("managedBy", self.managedBy);
    field("queue", self.queue);
    field("priorityClassName", self.priorityClassName);
    field("workers", self.workers);
    field("placement", self.placement);
    field("parallelism", self.parallelism);
    field("model", self.model);
    field("data", self.data);
    field("training", self.training);
    field("evaluation", self.evaluation);
    field("checkpoint", self.checkpoint);
    field("metrics", self.metrics);
    field("lifecycle", self.lifecycle);
  }
  bool operator==(const TrainingJobSpec&) const = default;
};

/// Ranks a worker pod: processesPerWorker, or else gpusPerWorker, and at least 1.
std::int32_t processes_per_worker(const TrainingJobSpec& spec);
/// workers.count × processes_per_worker.
std::int32_t world_size(const TrainingJobSpec& spec);

}  // namespace trainyard::contract
