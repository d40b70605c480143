#pragma once
// status of a TrainingJob (job.h says how these types follow crds/trainingjob.yaml). Times are RFC 3339 in UTC (time.h); floats are
// rounded to 6 significant digits before they are written.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/fields.h"
#include "crds/contract/lifecycle.h"
#include "crds/contract/rare.h"

namespace trainyard::contract {

enum class Phase { kPending, kStarting, kRunning, kSuspended, kRestarting, kSucceeded, kFailed };
constexpr auto enum_names(Phase) {
  return std::to_array<std::string_view>({"Pending", "Starting", "Running", "Suspended", "Restarting", "Succeeded", "Failed"});
}

enum class ConditionStatus { kTrue, kFalse, kUnknown };
constexpr auto enum_names(ConditionStatus) { return std::to_array<std::string_view>({"True", "False", "Unknown"}); }

/// metav1.Condition.
struct Condition {
  std::string type;
  ConditionStatus status = ConditionStatus::kUnknown;
  std::optional<std::int64_t> observedGeneration;
  std::string lastTransitionTime;
  std::string reason;
  std::string message;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("type", self.type);
    field("status", self.status);
    field("observedGeneration", self.observedGeneration);
    field("lastTransitionTime", self.lastTransitionTime);
    field("reason", self.reason);
    field("message", self.message);
  }
  bool operator==(const Condition&) const = default;
};

struct WorkersStatus {
  std::int32_t desired = 0;
  std::int32_t ready = 0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("desired", self.desired);
    field("ready", self.ready);
  }
  bool operator==(const WorkersStatus&) const = default;
};

/// A pod that was made as a spare, and has the place of a worker that was lost.
struct StandIn {
  std::int32_t worker = 0;
  std::string pod;              // its name
  std::int64_t generation = 0;  // pods of the worker that were made for an older one are out of its way

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("worker", self.worker);
    field("pod", self.pod);
    field("generation", self.generation);
  }
  bool operator==(const StandIn&) const = default;
};

/// Of a job with workers.spares.
struct SparesStatus {
  std::int32_t desired = 0;            // workers.spares
  std::int32_t placed = 0;             // that have a node, and quota where there is a queue
  std::int32_t ready = 0;              // of these: whose agent answers
  std::optional<std::string> message;  // why not more are placed
  std::int32_t made = 0;               // since the gang was placed; the last one's number, which its pod's name has
  std::int32_t attempts = 0;           // so often were some made since all were ready; the next waits the longer
  std::optional<std::string> madeAt;   // when the last was
  std::vector<StandIn> standIns;       // spares no more

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("desired", self.desired);
    field("placed", self.placed);
    field("ready", self.ready);
    field("message", self.message);
    field("made", self.made);
    field("attempts", self.attempts);
    field("madeAt", self.madeAt);
    field("standIns", self.standIns);
  }
  bool operator==(const SparesStatus&) const = default;
};

/// What a step sends over a level of the topology.
struct LevelTraffic {
  std::string level;  // of the topology, or "node"
  std::int64_t bytesPerStep = 0;
  std::optional<double> seconds;  // that this takes at least; only where the network of its nodes is known

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("level", self.level);
    field("bytesPerStep", self.bytesPerStep);
    field("seconds", self.seconds);
  }
  bool operator==(const LevelTraffic&) const = default;
};

/// What a rank is expected to hold, in bytes (worker/plan/cost.h).
struct RankMemory {
  std::int64_t parameters = 0;
  std::int64_t master = 0;
  std::int64_t gradients = 0;
  std::int64_t optimizer = 0;
  std::int64_t activations = 0;
  std::int64_t total = 0;              // on the device
  std::int64_t host = 0;               // what is offloaded from a GPU
  std::optional<std::int64_t> device;  // what the smallest of the gang's GPUs has; only where it is known of all

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("parameters", self.parameters);
    field("master", self.master);
    field("gradients", self.gradients);
    field("optimizer", self.optimizer);
    field("activations", self.activations);
    field("total", self.total);
    field("host", self.host);
    field("device", self.device);
  }
  bool operator==(const RankMemory&) const = default;
};

enum class StepBound { kCompute, kNetwork, kOffload };
constexpr auto enum_names(StepBound) { return std::to_array<std::string_view>({"Compute", "Network", "Offload"}); }

/// How fast a job can be at best (worker/plan/roofline.h).
struct Estimate {
  double mfu = 0;
  double tokensPerSecond = 0;
  double stepSeconds = 0;
  StepBound bound = StepBound::kCompute;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("mfu", self.mfu);
    field("tokensPerSecond", self.tokensPerSecond);
    field("stepSeconds", self.stepSeconds);
    field("bound", self.bound);
  }
  bool operator==(const Estimate&) const = default;
};

struct PlacementStatus {
  std::optional<std::int32_t> workers;  // of the gang; fewer than workers.count where there was no room for all
  std::optional<std::int32_t> wanted;   // workers.count when the gang was placed
  std::vector<std::string> domains;
  std::int32_t nodes = 0;
  std::vector<LevelTraffic> traffic;  // from the widest level to the narrowest, then between nodes; empty with the engine Custom
  std::optional<RankMemory> memoryPerRank;  // of the ranks that hold most; nothing with the engine Custom
  std::optional<std::int64_t>
      offloadBytesPerStep;             // over PCIe, both ways, of the rank with most; nothing where nothing is offloaded
  std::optional<Estimate> estimate;    // on GPUs of which enough is known
  std::optional<std::string> unknown;  // what is not known of its GPUs, so that something of these is left out

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("workers", self.workers);
    field("wanted", self.wanted);
    field("domains", self.domains);
    field("nodes", self.nodes);
    field("traffic", self.traffic);
    field("memoryPerRank", self.memoryPerRank);
    field("offloadBytesPerStep", self.offloadBytesPerStep);
    field("estimate", self.estimate);
    field("unknown", self.unknown);
  }
  bool operator==(const PlacementStatus&) const = default;
};

enum class ResizeReason {
  kRoomFound,  // there is room for so many: the gang is asked for a checkpoint at `at`, if there still is then
  kStopping,   // the ranks were told at `at` to stop for it
  kRefused,    // so many and more are not tried before `at`
  kGrewFrom    // pods of a gang that grew at `at` are being made: what it goes on with if they are refused
};
constexpr auto enum_names(ResizeReason) {
  return std::to_array<std::string_view>({"RoomFound", "Stopping", "Refused", "GrewFrom"});
}

/// What is known of another number of workers than the gang has.
struct ResizeStatus {
  std::optional<ResizeReason> reason;  // always there but in statuses of older controllers (older_status.h)
  std::int32_t workers = 0;
  std::string at;  // RFC 3339

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("reason", self.reason);
    field("workers", self.workers);
    field("at", self.at);
  }
  bool operator==(const ResizeStatus&) const = default;
};

/// What would become of a job with spec.dryRun.
struct DryRunStatus {
  std::optional<bool> admitted;             // accepted, and within its queue's quota; nothing where nobody has looked at it yet
  std::optional<RankMemory> memoryPerRank;  // as far as it is known without a place; nothing with the engine Custom
  Rare<PlacementStatus> placement;          // now, or once those that it preempts are gone; nothing where there is no room for it
  std::optional<std::string> estimatedStartTime;  // where there is none now
  std::vector<std::string> preempts;              // jobs that would stop for it, namespace/name

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("admitted", self.admitted);
    field("memoryPerRank", self.memoryPerRank);
    field("placement", self.placement);
    field("estimatedStartTime", self.estimatedStartTime);
    field("preempts", self.preempts);
  }
  bool operator==(const DryRunStatus&) const = default;
};

/// Where the job is in the line.
struct QueueStatus {
  std::optional<std::int32_t> position;              // 1: the next; while it waits
  std::optional<std::string> estimatedStartTime;     // while it waits
  std::optional<std::string> firstEstimate;          // while it waits: the first that it was given
  std::optional<std::int64_t> estimateErrorSeconds;  // while it waits: median of |startDelaySeconds| of those that have started
  std::optional<std::int64_t> startDelaySeconds;     // once it has started: that time, less firstEstimate

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("position", self.position);
    field("estimatedStartTime", self.estimatedStartTime);
    field("firstEstimate", self.firstEstimate);
    field("estimateErrorSeconds", self.estimateErrorSeconds);
    field("startDelaySeconds", self.startDelaySeconds);
  }
  bool operator==(const QueueStatus&) const = default;
};

/// What the job holds of its TrainingQueue's quota while it has its place, and where.
struct AdmissionStatus {
  std::string queue;
  std::map<std::string, std::string> nodeLabels;  // of the flavor
  std::map<std::string, Quantity> resources;      // of all its workers together

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("queue", self.queue);
    field("nodeLabels", self.nodeLabels);
    field("resources", self.resources);
  }
  bool operator==(const AdmissionStatus&) const = default;
};

/// How far the training is; the same object travels from the reporting rank to the status.
struct Progress {
  std::int64_t step = 0;   // optimizer steps done
  std::int64_t steps = 0;  // optimizer steps to do
  double epoch = 0.0;
  std::int64_t samples = 0;
  std::int64_t tokens = 0;
  std::optional<double> loss;  // mean cross entropy a token, in nats, of the last step
  std::optional<double> validationLoss;
  std::optional<double> validationPerplexity;
  std::optional<double> learningRate;
  std::optional<double> gradientNorm;        // before clipping
  std::optional<std::int64_t> skippedSteps;  // of `step`: whose gradients were not finite; left out where there was none
  std::optional<double> lossScale;           // of the next step; FP16 alone
  std::optional<double> tokensPerSecond;
  std::optional<double> mfu;  // only where the device's peak is known
  std::optional<std::int64_t> remainingSeconds;
  std::string updatedAt;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("step", self.step);
    field("steps", self.steps);
    field("epoch", self.epoch);
    field("samples", self.samples);
    field("tokens", self.tokens);
    field("loss", self.loss);
    field("validationLoss", self.validationLoss);
    field("validationPerplexity", self.validationPerplexity);
    field("learningRate", self.learningRate);
    field("gradientNorm", self.gradientNorm);
    field("skippedSteps", self.skippedSteps);
    field("lossScale", self.lossScale);
    field("tokensPerSecond", self.tokensPerSecond);
    field("mfu", self.mfu);
    field("remainingSeconds", self.remainingSeconds);
    field("updatedAt", self.updatedAt);
  }
  bool operator==(const Progress&) const = default;
};

/// The newest durable checkpoint.
struct CheckpointStatus {
  std::int64_t step = 0;
  std::string path;
  std::string completedAt;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("step", self.step);
    field("path", self.path);
    field("completedAt", self.completedAt);
  }
  bool operator==(const CheckpointStatus&) const = default;
};

/// The first cause of a failure, with its evidence; at most 4 KB as JSON (see trimmed() in state.h).
struct Failure {
  FailureClass failureClass = FailureClass::kUnknown;  // `class`
  std::optional<std::int32_t> worker;
  std::optional<std::int32_t> rank;
  std::optional<std::string> node;
  std::optional<std::int32_t> exitCode;
  std::optional<std::string> signal;
  std::string reason;  // CamelCase, short: RankCrashed, CorpusMissing, NodeLost, …
  std::string message;
  std::vector<std::string> lastLines;
  std::string at;
  std::optional<std::int32_t> policyRule;  // of lifecycle.failurePolicy.rules, from 0: that decided what follows

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("class", self.failureClass);
    field("worker", self.worker);
    field("rank", self.rank);
    field("node", self.node);
    field("exitCode", self.exitCode);
    field("signal", self.signal);
    field("reason", self.reason);
    field("message", self.message);
    field("lastLines", self.lastLines);
    field("at", self.at);
    field("policyRule", self.policyRule);
  }
  bool operator==(const Failure&) const = default;
};

/// A node that failed this job: others are taken where there is room on them.
struct AvoidedNode {
  std::string node;
  std::string reason;           // of the failure
  std::int32_t failures = 0;    // there, one after another
  std::int64_t generation = 0;  // of the gang, at the last one: pods as old as that leave the node
  std::string until;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("node", self.node);
    field("reason", self.reason);
    field("failures", self.failures);
    field("generation", self.generation);
    field("until", self.until);
  }
  bool operator==(const AvoidedNode&) const = default;
};

struct TrainingJobStatus {
  std::int64_t observedGeneration = 0;
  Phase phase = Phase::kPending;
  std::vector<Condition> conditions;
  std::int64_t generation = 0;  // of the gang; 0: none was ever made
  std::optional<std::string> startTime;
  std::optional<std::string> completionTime;
  std::string selector;
  std::string templateHash;
  std::string specHash;
  WorkersStatus workers;
  Rare<SparesStatus> spares;
  Rare<PlacementStatus> placement;
  Rare<ResizeStatus> resize;
  Rare<AdmissionStatus> admission;
  Rare<QueueStatus> queue;
  Rare<DryRunStatus> dryRun;
  std::int32_t preemptions = 0;
  Rare<Progress> progress;
  Rare<CheckpointStatus> checkpoint;
  std::int32_t restarts = 0;
  std::int32_t uncountedRestarts = 0;
  std::int32_t failuresInARow = 0;
  Rare<Failure> failure;
  std::vector<AvoidedNode> avoidedNodes;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("observedGeneration", self.observedGeneration);
    field("phase", self.phase);
    field("conditions", self.conditions);
    field("generation", self.generation);
    field("startTime", self.startTime);
    field("completionTime", self.completionTime);
    field("selector", self.selector);
    field("templateHash", self.templateHash);
    field("specHash", self.specHash);
    field("workers", self.workers);
    field("spares", self.spares);
    field("placement", self.placement);
    field("resize", self.resize);
    field("admission", self.admission);
    field("queue", self.queue);
    field("dryRun", self.dryRun);
    field("preemptions", self.preemptions);
    field("progress", self.progress);
    field("checkpoint", self.checkpoint);
    field("restarts", self.restarts);
    field("uncountedRestarts", self.uncountedRestarts);
    field("failuresInARow", self.failuresInARow);
    field("failure", self.failure);
    field("avoidedNodes", self.avoidedNodes);
  }
  bool operator==(const TrainingJobStatus&) const = default;
};

}  // namespace trainyard::contract
