#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "crds/contract/rules.h"

namespace trainyard::contract {
namespace {

using std::to_string;

std::int64_t replica_size(const Parallelism& parallelism) {
  return std::int64_t{parallelism.tensor} * parallelism.pipeline * parallelism.context;
}

/// workers.count x processes a worker, as in the schema; wide, since nobody has checked the factors.
std::int64_t ranks_of(const TrainingJobSpec& spec) {
  return std::int64_t{spec.workers.count} * spec.workers.processesPerWorker.value_or(std::max(1, spec.workers.gpusPerWorker));
}

/// Whether no factor is so far out of range, which check_values() reports, that a product of 64 bits would overflow.
bool can_multiply(const Parallelism& parallelism) {
  constexpr std::int32_t kLargest = 1'100;  // its cube, times 32 bits, fits
  return std::max({parallelism.tensor, parallelism.pipeline, parallelism.context}) <= kLargest &&
         std::min({parallelism.tensor, parallelism.pipeline, parallelism.context}) > -kLargest;
}

void check_degrees(const TrainingJobSpec& spec, Findings& findings) {
  const auto& parallelism = spec.parallelism;
  if (!can_multiply(parallelism)) return;
  const std::int64_t ranks = ranks_of(spec), replica = replica_size(parallelism);
  if (parallelism.data) {
    const std::int64_t product = replica * std::int64_t{*parallelism.data};
    findings.expect(product == ranks, "spec.parallelism.data",
                    "tensor x pipeline x context x data is " + to_string(product) +
                        ", and workers.count x processes a worker is " + to_string(ranks) +
                        "; make them equal, or leave data out to take what remains of the ranks");
  } else {
    findings.expect(replica < 1 || ranks % replica == 0, "spec.parallelism",
                    "tensor x pipeline x context is " + to_string(replica) +
                        ", which does not divide the number of ranks, workers.count x processes a worker, " + to_string(ranks) +
                        "; change one of them");
  }
}

/// Ranks are numbered tensor first, so a tensor group stays inside a worker where tensor divides the worker's ranks.
void check_tensor_groups(const TrainingJobSpec& spec, Findings& findings) {
  const std::int32_t gpus = spec.workers.gpusPerWorker, tensor = spec.parallelism.tensor;
  findings.expect(gpus < 1 || tensor < 1 || gpus % tensor == 0, "spec.parallelism.tensor",
                  "must divide workers.gpusPerWorker, " + to_string(gpus) + ", and is " + to_string(tensor) +
                      ": the ranks of a tensor group exchange every layer, so they have to share the NVLink of one worker");
}

/// Whether micro-batches go several times around the pipeline.
bool goes_around(const Parallelism& parallelism) {
  return parallelism.pipelineSchedule.name == PipelineScheduleName::kInterleaved && parallelism.pipeline > 1;
}

void check_batch(const TrainingJobSpec& spec, Findings& findings) {
  if (!can_multiply(spec.parallelism)) return;
  const std::int64_t ranks = ranks_of(spec), replica = replica_size(spec.parallelism), micro = spec.parallelism.microBatchSize;
  if (micro < 1 || replica < 1 || ranks < 1 || ranks % replica != 0) return;
  if (spec.parallelism.data && *spec.parallelism.data * replica != ranks) return;
  const std::int64_t data = ranks / replica, batch = spec.training.globalBatchSize;
  findings.expect(batch % (data * micro) == 0, "spec.training.globalBatchSize",
                  "must be a multiple of data x microBatchSize, here " + to_string(data) + " x " + to_string(micro) + " = " +
                      to_string(data * micro) + ", and is " + to_string(batch));
  const std::int64_t pipeline = spec.parallelism.pipeline;
  if (!goes_around(spec.parallelism) || batch % (data * micro) != 0) return;
  findings.expect(batch % (data * micro * pipeline) == 0, "spec.training.globalBatchSize",
                  "must be a multiple of data x microBatchSize x pipeline with pipelineSchedule.name Interleaved, here " +
                      to_string(data) + " x " + to_string(micro) + " x " + to_string(pipeline) + " = " +
                      to_string(data * micro * pipeline) + ", and is " + to_string(batch));
}

void check_heads(const ModelSize& size, Findings& findings) {
  const std::string at = "spec.model.size.";
  if (size.heads >= 1) {
    const bool divides = size.hiddenSize % size.heads == 0;
    findings.expect(divides, at + "hiddenSize",
                    "must be a multiple of heads, " + to_string(size.heads) + ", and is " + to_string(size.hiddenSize));
    findings.expect(!divides || size.hiddenSize / size.heads % 2 == 0, at + "hiddenSize",
                    "must give heads of an even width, since rotary position embedding turns pairs; hiddenSize / heads is " +
                        to_string(size.hiddenSize / size.heads));
  }
  if (size.keyValueHeads.value_or(0) >= 1) {
    findings.expect(size.heads % *size.keyValueHeads == 0, at + "keyValueHeads",
                    "must divide heads, " + to_string(size.heads) + ", and is " + to_string(*size.keyValueHeads));
  }
}

void check_cuts(const Parallelism& parallelism, const ModelSize& size, Findings& findings) {
  const auto divides = [&](std::string_view name, std::int32_t value) {
    if (parallelism.tensor < 1) return;
    findings.expect(
        value % parallelism.tensor == 0, "spec.parallelism.tensor",
        "tensor " + to_string(parallelism.tensor) + " does not divide model.size." + std::string(name) + " " + to_string(value));
  };
  divides("heads", size.heads);
  if (size.keyValueHeads) divides("keyValueHeads", *size.keyValueHeads);
  divides("feedForwardSize", size.feedForwardSize);
  findings.expect(
      parallelism.tensor < 1 || parallelism.tensor <= size.vocabularySize, "spec.parallelism.tensor",
      "tensor " + to_string(parallelism.tensor) + " exceeds model.size.vocabularySize " + to_string(size.vocabularySize));
  findings.expect(size.layers < 1 || parallelism.pipeline <= size.layers, "spec.parallelism.pipeline",
                  "pipeline " + to_string(parallelism.pipeline) + " exceeds model.size.layers " + to_string(size.layers) +
                      "; every stage needs a layer");
  const std::int64_t parts = std::int64_t{parallelism.pipeline} * parallelism.pipelineSchedule.virtualStages;
  findings.expect(size.layers < 1 || parallelism.pipeline > size.layers || !goes_around(parallelism) || parts <= size.layers,
                  "spec.parallelism.pipelineSchedule.virtualStages",
                  "pipeline x virtualStages is " + to_string(parts) + ", and exceeds model.size.layers " +
                      to_string(size.layers) + "; every virtual stage needs a layer");
}

bool reads_text(const Data& data) {
  const auto is_text = [](const Source& source) { return source.format == SourceFormat::kText; };
  return std::any_of(data.train.begin(), data.train.end(), is_text) ||
         std::any_of(data.validation.begin(), data.validation.end(), is_text);
}

void check_model(const TrainingJobSpec& spec, Findings& findings) {
  const auto& model = spec.model;
  findings.expect(model.preset.has_value() + model.size.has_value() + model.path.has_value() == 1, "spec.model",
                  "must have exactly one of preset, size and path");
  if (!model.size) return;
  check_heads(*model.size, findings);
  check_cuts(spec.parallelism, *model.size, findings);
  findings.expect(
      model.size->vocabularySize >= 256 || spec.data.tokenizer.kind != TokenizerKind::kBytes || !reads_text(spec.data),
      "spec.model.size.vocabularySize",
      "must be at least 256, since data.tokenizer.kind Bytes makes 256 kinds of token of a text");
}

/// Whether `number_of(stage)` is larger in each stage than in the one before. Stages without the number are passed over.
template <class NumberOf>
bool grows(const std::vector<CurriculumStage>& stages, const NumberOf& number_of) {
  decltype(number_of(stages.front())) before;
  for (const auto& stage : stages) {
    const auto number = number_of(stage);
    if (number && before && *number <= *before) return false;
    if (number) before = number;
  }
  return true;
}

void check_curriculum(const TrainingJobSpec& spec, Findings& findings) {
  if (!spec.data.curriculum || spec.data.curriculum->stages.empty()) return;
  const auto& stages = spec.data.curriculum->stages;
  const std::string at = "spec.data.curriculum.stages";
  bool all_divide = true, all_alike = true, all_end = true;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const auto& stage = stages[i];
    findings.expect(stage.untilEpoch.has_value() + stage.untilStep.has_value() + stage.untilTokens.has_value() == 1,
                    at + "[" + to_string(i) + "]", "must have exactly one of untilEpoch, untilStep and untilTokens");
    all_divide = all_divide && (stage.sequenceLength < 1 || spec.data.sequenceLength % stage.sequenceLength == 0);
    all_alike = all_alike && stage.untilEpoch.has_value() == stages[0].untilEpoch.has_value() &&
                stage.untilStep.has_value() == stages[0].untilStep.has_value() &&
                stage.untilTokens.has_value() == stages[0].untilTokens.has_value();
    const auto is_before = [](const auto& until, const auto& end) { return !until || !end || *until < *end; };
    all_end = all_end && is_before(stage.untilEpoch, spec.training.epochs) && is_before(stage.untilStep, spec.training.steps) &&
              is_before(stage.untilTokens, spec.training.tokens);
  }
  findings.expect(all_divide, at,
                  "must have sequenceLengths that divide data.sequenceLength, so that its samples cut into whole sequences");
  findings.expect(all_alike, at, "must all have the same of untilEpoch, untilStep and untilTokens");
  findings.expect(grows(stages, [](const auto& stage) { return std::optional(stage.sequenceLength); }), at,
                  "must have sequenceLengths that grow from stage to stage");
  findings.expect(grows(stages, [](const auto& stage) { return stage.untilEpoch; }) &&
                      grows(stages, [](const auto& stage) { return stage.untilStep; }) &&
                      grows(stages, [](const auto& stage) { return stage.untilTokens; }),
                  at, "must have ends (untilEpoch, untilStep or untilTokens) that grow from stage to stage");
  findings.expect(
      all_end, at,
      "must end before the training does, below training.epochs, steps or tokens, since what is left trains on sequences "
      "of data.sequenceLength");
}

/// Tensor ranks share the tokens of sequences of every length that there is.
void check_sequence(const TrainingJobSpec& spec, Findings& findings) {
  const std::int32_t tensor = spec.parallelism.tensor;
  if (!spec.parallelism.sequence || tensor < 1) return;
  findings.expect(spec.data.sequenceLength % tensor == 0, "spec.data.sequenceLength",
                  "must be a multiple of parallelism.tensor, " + to_string(tensor) +
                      ", with parallelism.sequence, whose ranks share the tokens, and is " + to_string(spec.data.sequenceLength));
  if (!spec.data.curriculum) return;
  const auto& stages = spec.data.curriculum->stages;
  findings.expect(
      std::all_of(stages.begin(), stages.end(), [&](const CurriculumStage& stage) { return stage.sequenceLength % tensor == 0; }),
      "spec.data.curriculum.stages",
      "must have sequenceLengths that are multiples of parallelism.tensor, " + to_string(tensor) +
          ", with parallelism.sequence, whose ranks share the tokens");
}

/// With shardGroup Node the ranks of a worker are whole replicas, so that it shards over those.
void check_shard_group(const TrainingJobSpec& spec, Findings& findings) {
  const auto& zero = spec.parallelism.zero;
  if (zero.shardGroup != ShardGroup::kNode || !can_multiply(spec.parallelism)) return;
  const std::string at = "spec.parallelism.zero.shardGroup";
  findings.expect(zero.stage >= 1, at, "has a meaning for zero.stage 1, 2 and 3 alone; leave it out");
  const std::int64_t replica = replica_size(spec.parallelism);
  const std::int64_t processes = spec.workers.processesPerWorker.value_or(std::max(1, spec.workers.gpusPerWorker));
  if (replica < 1 || processes < 1) return;
  findings.expect(processes % replica == 0 && processes > replica, at,
                  "Node shards over the data-parallel ranks of a worker, so its processes, " + to_string(processes) +
                      ", must be tensor x pipeline x context, " + to_string(replica) +
                      ", times 2 or more; change them, or use World");
}

/// What FP8 units and their scales need of the sizes of the layers' products.
void check_fp8(const TrainingJobSpec& spec, Findings& findings) {
  const auto& precision = spec.training.precision;
  if (precision.compute != ComputePrecision::kFP8) return;
  findings.expect(spec.parallelism.pipelineSchedule.name != PipelineScheduleName::kZeroBubble,
                  "spec.parallelism.pipelineSchedule.name",
                  "ZeroBubble does not split the products of precision.compute FP8; use another schedule, or another precision");
  const std::int64_t tensor = spec.parallelism.tensor;
  if (!spec.model.size || tensor < 1 || spec.model.size->heads < 1) return;
  const auto& size = *spec.model.size;
  const std::int64_t block = precision.fp8.value_or(Fp8{}).recipe == Fp8Recipe::kBlockwise ? 128 : 16;
  const std::int64_t key_value_width = std::int64_t{size.hiddenSize / size.heads} * size.keyValueHeads.value_or(size.heads);
  const auto divides = [&](std::int64_t width) { return width % (block * tensor) == 0; };
  const std::int64_t tokens = std::int64_t{spec.parallelism.microBatchSize} * spec.data.sequenceLength;
  findings.expect(
      tokens % block == 0 && divides(size.hiddenSize) && divides(size.feedForwardSize) && divides(key_value_width),
      "spec.training.precision.compute",
      "FP8 multiplies numbers by 16 (recipe Blockwise by 128), so multiples of that must be microBatchSize x sequenceLength, "
      "and, "
      "divided by tensor, hiddenSize, feedForwardSize and the width of all keyValueHeads together; change them, or use BF16");
}

void check_training(const Training& training, Findings& findings) {
  findings.expect(training.steps.has_value() + training.epochs.has_value() + training.tokens.has_value() == 1, "spec.training",
                  "must have exactly one of steps, epochs and tokens");
  const auto& schedule = training.learningRateSchedule;
  const std::string at = "spec.training.learningRateSchedule.";
  if (training.steps) {
    findings.expect(
        schedule.warmupSteps < *training.steps, at + "warmupSteps",
        "must be below training.steps, " + to_string(*training.steps) + ", and is " + to_string(schedule.warmupSteps));
  }
  if (schedule.decaySteps) {
    findings.expect(schedule.name == ScheduleName::kWarmupStableDecay, at + "decaySteps",
                    "has a meaning for the schedule WarmupStableDecay alone; leave it out");
    if (training.steps && schedule.warmupSteps >= 0) {
      const std::int64_t most = *training.steps - schedule.warmupSteps;
      findings.expect(
          *schedule.decaySteps <= most, at + "decaySteps",
          "must be at most training.steps less warmupSteps, " + to_string(most) + ", and is " + to_string(*schedule.decaySteps));
    }
  }
  findings.expect(schedule.minimum <= training.optimizer.learningRate, at + "minimum", "must not exceed optimizer.learningRate");
  if (training.precision.optimizerStates == OptimizerStates::kBF16) {
    // A step that changes an average by less than half a unit in BF16's last place, 1/256 of it at most, would change nothing.
    const std::string reason =
        "must be at most 0.99 with precision.optimizerStates BF16, whose 8 bits do not hold what a step adds to a slower "
        "average; 0.95 is usual for beta2";
    findings.expect(training.optimizer.beta1 <= 0.99, "spec.training.optimizer.beta1", reason);
    findings.expect(training.optimizer.beta2 <= 0.99, "spec.training.optimizer.beta2", reason);
  }
  findings.expect(schedule.name != ScheduleName::kConstant || schedule.minimum <= 0, at + "minimum",
                  "has no meaning for the schedule Constant; leave it out");
}

/// The best checkpoint is known by a loss of its own.
void check_best(const TrainingJobSpec& spec, Findings& findings) {
  if (!spec.checkpoint || spec.checkpoint->keepBest < 1) return;
  findings.expect(spec.evaluation.has_value(), "spec.evaluation", "is missing, and checkpoint.keepBest goes by its loss");
  const auto& every = spec.checkpoint->everySteps;
  if (!spec.evaluation || !every || spec.evaluation->everySteps < 1) return;
  findings.expect(*every % spec.evaluation->everySteps == 0, "spec.checkpoint.everySteps",
                  "must divide by evaluation.everySteps, since checkpoint.keepBest needs a loss of each checkpoint");
}

}  // namespace

std::vector<Problem> check_relations(const TrainingJobSpec& spec) {
  Findings findings;
  const auto& workers = spec.workers;
  check_degrees(spec, findings);
  check_tensor_groups(spec, findings);
  if (spec.engine == Engine::kCustom) return findings.take();
  findings.expect(
      !workers.processesPerWorker || workers.gpusPerWorker < 1 || *workers.processesPerWorker == workers.gpusPerWorker,
      "spec.workers.processesPerWorker",
      "must equal gpusPerWorker, " + to_string(workers.gpusPerWorker) +
          ", since a process drives one GPU; leave it out to get that");
  check_batch(spec, findings);
  check_shard_group(spec, findings);
  check_model(spec, findings);
  check_training(spec.training, findings);
  check_curriculum(spec, findings);
  check_sequence(spec, findings);
  check_fp8(spec, findings);
  findings.expect(!spec.evaluation || !spec.data.validation.empty(), "spec.data.validation",
                  "must have at least one source, since evaluation is set; add one, or leave evaluation out");
  check_best(spec, findings);
  findings.expect(!spec.metrics || spec.metrics->path || spec.checkpoint, "spec.metrics",
                  "needs a path, since there is no checkpoint whose path it could be in");
  return findings.take();
}

}  // namespace trainyard::contract
