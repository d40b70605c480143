#pragma once
// What a TrainingJob trains, on what data and how: spec.model, data, training, evaluation, checkpoint and metrics (job.h says how these
// types follow crds/trainingjob.yaml).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/fields.h"

namespace trainyard::contract {

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
enum class OptimizerStates { kFP32, kBF16, kBlockwise8Bit };
constexpr auto enum_names(OptimizerStates) { return std::to_array<std::string_view>({"FP32", "BF16", "Blockwise8Bit"}); }
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

}  // namespace trainyard::contract
