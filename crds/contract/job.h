#pragma once
// The TrainingJob as the programs see it: one struct for each object of crds/trainingjob.yaml, which documents the fields and is
// the source of truth. tests/crds proves that names, types, enums and defaults here are the schema's.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/fields.h"

namespace trainyard::contract {

inline constexpr std::string_view kGroup = "trainyard.dev";
inline constexpr std::string_view kVersion = "v1alpha1";
inline constexpr std::string_view kApiVersion = "trainyard.dev/v1alpha1";
inline constexpr std::string_view kKind = "TrainingJob";
inline constexpr std::string_view kPlural = "trainingjobs";
inline constexpr std::string_view kManagedBy = "trainyard.dev/controller";

// ---- spec

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

enum class PipelineScheduleName { kOneForwardOneBackward, kGPipe, kInterleaved, kZeroBubble };
constexpr auto enum_names(PipelineScheduleName) {
  return std::to_array<std::string_view>({"OneForwardOneBackward", "GPipe", "Interleaved", "ZeroBubble"});
}

struct PipelineSchedule {
  PipelineScheduleName name = PipelineScheduleName::kOneForwardOneBackward;
  std::int32_t virtualStages = 1;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("name", self.name);
    field("virtualStages", self.virtualStages);
  }
  bool operator==(const PipelineSchedule&) const = default;
};

enum class ShardGroup { kWorld, kNode };
constexpr auto enum_names(ShardGroup) { return std::to_array<std::string_view>({"World", "Node"}); }

struct Offload {
  bool parameters = false;
  bool optimizer = false;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("parameters", self.parameters);
    field("optimizer", self.optimizer);
  }
  bool operator==(const Offload&) const = default;
};

struct Zero {
  std::int32_t stage = 0;
  ShardGroup shardGroup = ShardGroup::kWorld;
  Offload offload;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("stage", self.stage);
    field("shardGroup", self.shardGroup);
    field("offload", self.offload);
  }
  bool operator==(const Zero&) const = default;
};

struct Parallelism {
  std::int32_t tensor = 1;
  std::int32_t pipeline = 1;
  std::int32_t context = 1;
  std::int32_t expert = 1;
  std::optional<std::int32_t> data;  // left out: what remains of the ranks; see degrees() in layout.h
  bool sequence = false;
  std::int32_t microBatchSize = 1;
  PipelineSchedule pipelineSchedule;
  Zero zero;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("tensor", self.tensor);
    field("pipeline", self.pipeline);
    field("context", self.context);
    field("expert", self.expert);
    field("data", self.data);
    field("sequence", self.sequence);
    field("microBatchSize", self.microBatchSize);
    field("pipelineSchedule", self.pipelineSchedule);
    field("zero", self.zero);
  }
  bool operator==(const Parallelism&) const = default;
};

enum class Architecture { kLlama, kDeepSeekV3 };
constexpr auto enum_names(Architecture) { return std::to_array<std::string_view>({"Llama", "DeepSeekV3"}); }

struct ModelSize {
  std::int32_t layers = 0;  // the five sizes are required by the schema; 0 is refused by validate()
  std::int32_t hiddenSize = 0;
  std::int32_t heads = 0;
  std::optional<std::int32_t> keyValueHeads;  // left out: as many as heads
  std::int32_t feedForwardSize = 0;
  std::int32_t vocabularySize = 0;
  bool tieEmbeddings = false;
  double ropeTheta = 10000.0;
  double normEpsilon = 1.0e-5;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("layers", self.layers);
    field("hiddenSize", self.hiddenSize);
    field("heads", self.heads);
    field("keyValueHeads", self.keyValueHeads);
    field("feedForwardSize", self.feedForwardSize);
    field("vocabularySize", self.vocabularySize);
    field("tieEmbeddings", self.tieEmbeddings);
    field("ropeTheta", self.ropeTheta);
    field("normEpsilon", self.normEpsilon);
  }
  bool operator==(const ModelSize&) const = default;
};

struct Model {
  Architecture architecture = Architecture::kLlama;
  std::optional<std::string> preset;  // exactly one of preset, size, path
  std::optional<ModelSize> size;
  std::optional<std::string> path;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("architecture", self.architecture);
    field("preset", self.preset);
    field("size", self.size);
    field("path", self.path);
  }
  bool operator==(const Model&) const = default;
};

enum class SourceFormat { kText, kUInt16, kUInt32 };
constexpr auto enum_names(SourceFormat) { return std::to_array<std::string_view>({"Text", "UInt16", "UInt32"}); }

struct Source {
  std::string path;
  double weight = 1.0;
  SourceFormat format = SourceFormat::kText;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("path", self.path);
    field("weight", self.weight);
    field("format", self.format);
  }
  bool operator==(const Source&) const = default;
};

enum class TokenizerKind { kBytes, kFile };
constexpr auto enum_names(TokenizerKind) { return std::to_array<std::string_view>({"Bytes", "File"}); }

struct Tokenizer {
  TokenizerKind kind = TokenizerKind::kBytes;
  std::optional<std::string> path;  // of tokenizer.json, for kind File

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("kind", self.kind);
    field("path", self.path);
  }
  bool operator==(const Tokenizer&) const = default;
};

struct CurriculumStage {
  std::optional<double> untilEpoch;  // exactly one of the three
  std::optional<std::int64_t> untilStep;
  std::optional<std::int64_t> untilTokens;
  std::int32_t sequenceLength = 0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("untilEpoch", self.untilEpoch);
    field("untilStep", self.untilStep);
    field("untilTokens", self.untilTokens);
    field("sequenceLength", self.sequenceLength);
  }
  bool operator==(const CurriculumStage&) const = default;
};

struct Curriculum {
  std::vector<CurriculumStage> stages;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("stages", self.stages);
  }
  bool operator==(const Curriculum&) const = default;
};

struct Data {
  std::vector<Source> train;
  std::vector<Source> validation;
  Tokenizer tokenizer;
  std::int32_t sequenceLength = 0;
  std::optional<Curriculum> curriculum;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("train", self.train);
    field("validation", self.validation);
    field("tokenizer", self.tokenizer);
    field("sequenceLength", self.sequenceLength);
    field("curriculum", self.curriculum);
  }
  bool operator==(const Data&) const = default;
};

enum class OptimizerName { kAdamW };
constexpr auto enum_names(OptimizerName) { return std::to_array<std::string_view>({"AdamW"}); }

struct Optimizer {
  OptimizerName name = OptimizerName::kAdamW;
  double learningRate = 0.0;  // required by the schema
  double weightDecay = 0.01;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1.0e-8;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("name", self.name);
    field("learningRate", self.learningRate);
    field("weightDecay", self.weightDecay);
    field("beta1", self.beta1);
    field("beta2", self.beta2);
    field("epsilon", self.epsilon);
  }
  bool operator==(const Optimizer&) const = default;
};

enum class ScheduleName { kCosine, kLinear, kConstant, kWarmupStableDecay };
constexpr auto enum_names(ScheduleName) {
  return std::to_array<std::string_view>({"Cosine", "Linear", "Constant", "WarmupStableDecay"});
}

struct LearningRateSchedule {
  ScheduleName name = ScheduleName::kCosine;
  std::int64_t warmupSteps = 0;
  std::optional<std::int64_t> decaySteps;  // of WarmupStableDecay; left out: a tenth of the steps, rounded up
  double minimum = 0.0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("name", self.name);
    field("warmupSteps", self.warmupSteps);
    field("decaySteps", self.decaySteps);
    field("minimum", self.minimum);
  }
  bool operator==(const LearningRateSchedule&) const = default;
};

struct Loss {
  double labelSmoothing = 0.0;
  double zLoss = 0.0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("labelSmoothing", self.labelSmoothing);
    field("zLoss", self.zLoss);
  }
  bool operator==(const Loss&) const = default;
};

struct GradientClipping {
  double maxNorm = 1.0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("maxNorm", self.maxNorm);
  }
  bool operator==(const GradientClipping&) const = default;
};

enum class ComputePrecision { kFP32, kBF16, kFP16, kFP8 };
constexpr auto enum_names(ComputePrecision) { return std::to_array<std::string_view>({"FP32", "BF16", "FP16", "FP8"}); }
enum class MasterPrecision { kFP32 };
constexpr auto enum_names(MasterPrecision) { return std::to_array<std::string_view>({"FP32"}); }
enum class OptimizerStates { kFP32, kBF16 };
constexpr auto enum_names(OptimizerStates) { return std::to_array<std::string_view>({"FP32", "BF16"}); }
enum class Fp8Recipe { kTensorwise, kRowwise, kBlockwise };
constexpr auto enum_names(Fp8Recipe) { return std::to_array<std::string_view>({"Tensorwise", "Rowwise", "Blockwise"}); }

struct Fp8 {
  Fp8Recipe recipe = Fp8Recipe::kTensorwise;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("recipe", self.recipe);
  }
  bool operator==(const Fp8&) const = default;
};

struct Precision {
  ComputePrecision compute = ComputePrecision::kBF16;
  MasterPrecision master = MasterPrecision::kFP32;
  OptimizerStates optimizerStates = OptimizerStates::kFP32;
  std::optional<Fp8> fp8;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("compute", self.compute);
    field("master", self.master);
    field("optimizerStates", self.optimizerStates);
    field("fp8", self.fp8);
  }
  bool operator==(const Precision&) const = default;
};

enum class RecomputeMode { kNone, kFull, kSelective };
constexpr auto enum_names(RecomputeMode) { return std::to_array<std::string_view>({"None", "Full", "Selective"}); }

struct ActivationCheckpointing {
  RecomputeMode mode = RecomputeMode::kNone;
  bool offload = false;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("mode", self.mode);
    field("offload", self.offload);
  }
  bool operator==(const ActivationCheckpointing&) const = default;
};

enum class Reduction { kFast, kCanonical };
constexpr auto enum_names(Reduction) { return std::to_array<std::string_view>({"Fast", "Canonical"}); }

struct Training {
  std::optional<std::int64_t> steps;  // exactly one of steps, epochs, tokens
  std::optional<double> epochs;
  std::optional<std::int64_t> tokens;
  std::int32_t globalBatchSize = 0;  // sequences an optimizer step; required by the schema
  std::int64_t seed = 1;
  Optimizer optimizer;
  LearningRateSchedule learningRateSchedule;
  Loss loss;
  double dropout = 0.0;
  std::optional<GradientClipping> gradientClipping;  // left out: no clipping
  Precision precision;
  ActivationCheckpointing activationCheckpointing;
  Reduction reduction = Reduction::kFast;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("steps", self.steps);
    field("epochs", self.epochs);
    field("tokens", self.tokens);
    field("globalBatchSize", self.globalBatchSize);
    field("seed", self.seed);
    field("optimizer", self.optimizer);
    field("learningRateSchedule", self.learningRateSchedule);
    field("loss", self.loss);
    field("dropout", self.dropout);
    field("gradientClipping", self.gradientClipping);
    field("precision", self.precision);
    field("activationCheckpointing", self.activationCheckpointing);
    field("reduction", self.reduction);
  }
  bool operator==(const Training&) const = default;
};

struct Evaluation {
  std::int64_t everySteps = 0;          // required by the schema
  std::optional<std::int32_t> batches;  // global batches of validation data an evaluation reads; left out: all

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("everySteps", self.everySteps);
    field("batches", self.batches);
  }
  bool operator==(const Evaluation&) const = default;
};

struct Checkpoint {
  std::string path;
  std::optional<std::int64_t> everySteps;  // left out: only when asked for (suspend, SIGTERM) and at the end
  std::int32_t keep = 3;
  std::int32_t keepBest = 0;  // beside those: of the lowest validation loss

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("path", self.path);
    field("everySteps", self.everySteps);
    field("keep", self.keep);
    field("keepBest", self.keepBest);
  }
  bool operator==(const Checkpoint&) const = default;
};

struct Trace {
  std::vector<std::int64_t> steps;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("steps", self.steps);
  }
  bool operator==(const Trace&) const = default;
};

struct MetricFiles {
  std::optional<std::string> path;  // left out: the folder metrics in checkpoint.path
  bool tensorBoard = false;
  std::optional<Trace> trace;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("path", self.path);
    field("tensorBoard", self.tensorBoard);
    field("trace", self.trace);
  }
  bool operator==(const MetricFiles&) const = default;
};

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

// ---- status. Times are RFC 3339 in UTC (time.h); floats are rounded to 6 significant digits before they are written.

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
  std::optional<PlacementStatus>
      placement;  // now, or once those that it preempts are gone; nothing where there is no room for it
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
  std::optional<SparesStatus> spares;
  std::optional<PlacementStatus> placement;
  std::optional<ResizeStatus> resize;
  std::optional<AdmissionStatus> admission;
  std::optional<QueueStatus> queue;
  std::optional<DryRunStatus> dryRun;
  std::int32_t preemptions = 0;
  std::optional<Progress> progress;
  std::optional<CheckpointStatus> checkpoint;
  std::int32_t restarts = 0;
  std::int32_t uncountedRestarts = 0;
  std::int32_t failuresInARow = 0;
  std::optional<Failure> failure;
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
