#include <algorithm>
#include <cstdio>
#include <string_view>

#include "crds/contract/rules.h"
#include "crds/contract/state.h"

namespace trainyard::contract {
namespace {

std::string text_of(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", number);
  return text;
}

/// The checks that OpenAPI knows, with the messages of the API server.
class Values : public Findings {
 public:
  template <class Number>
  void at_least(const FieldPath& field, Number value, double low) {
    if (!(static_cast<double>(value) >= low)) add(field, "should be greater than or equal to " + text_of(low));
  }
  template <class Number>
  void at_most(const FieldPath& field, Number value, double high) {
    if (!(static_cast<double>(value) <= high)) add(field, "should be less than or equal to " + text_of(high));
  }
  template <class Number>
  void within(const FieldPath& field, Number value, double low, double high) {
    at_least(field, value, low);
    at_most(field, value, high);
  }
  void above_zero(const FieldPath& field, double value) { expect(value > 0, field, "should be greater than 0"); }
  void below_one(const FieldPath& field, double value) { expect(value < 1, field, "should be less than 1"); }
  void length(const FieldPath& field, std::string_view text, std::size_t low, std::size_t high) {
    // Characters of UTF-8, not bytes: those that do not continue another.
    const auto size = static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
    if (size < low) add(field, "should be at least " + std::to_string(low) + " chars long");
    if (size > high) add(field, "may not be more than " + std::to_string(high) + " bytes");
  }
  void items(const FieldPath& field, std::size_t size, std::size_t low, std::size_t high) {
    if (size < low) add(field, "should have at least " + std::to_string(low) + " items");
    if (size > high) add(field, "must have at most " + std::to_string(high) + " items");
  }
  /// A value that the API has and the engine does not, yet: never ignored.
  void unsupported(bool is_asked_for, const FieldPath& field, std::string_view what, std::string_view instead = "leave it out") {
    if (is_asked_for) add(field, std::string(what) + " is not supported yet; " + std::string(instead));
  }
};

/// As the regular expression ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9._/-]+$.
bool has_domain(std::string_view name) {
  const auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  const auto slash = name.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == name.size()) return false;
  const auto domain = name.substr(0, slash), rest = name.substr(slash + 1);
  return lower(domain.front()) && lower(domain.back()) &&
         std::all_of(domain.begin(), domain.end(), [&](char c) { return lower(c) || c == '-' || c == '.'; }) &&
         std::all_of(rest.begin(), rest.end(), [&](char c) {
           return lower(c) || (c >= 'A' && c <= 'Z') || std::string_view("._/-").find(c) != std::string_view::npos;
         });
}

void check_top(const TrainingJobSpec& spec, Values& is) {
  is.length("spec.managedBy", spec.managedBy, 0, 63);
  is.expect(has_domain(spec.managedBy), "spec.managedBy", "must be a name with a domain, as in trainyard.dev/controller");
  if (spec.queue) is.length("spec.queue", *spec.queue, 1, 253);
  if (spec.priorityClassName) is.length("spec.priorityClassName", *spec.priorityClassName, 1, 253);
}

void check_workers(const Workers& workers, Values& is) {
  const std::string_view at = "spec.workers.";
  is.within({at, "count"}, workers.count, 1, 20000);
  if (workers.minCount) is.within({at, "minCount"}, *workers.minCount, 1, 20000);
  is.expect(!workers.minCount || *workers.minCount <= workers.count, {at, "minCount"},
            "is " + std::to_string(workers.minCount.value_or(0)) + ", and exceeds count, " + std::to_string(workers.count) +
                "; lower it, or leave it out");
  is.within({at, "spares"}, workers.spares, 0, 1000);
  is.within({at, "gpusPerWorker"}, workers.gpusPerWorker, 0, 64);
  is.length({at, "gpuResourceName"}, workers.gpuResourceName, 0, 253);
  is.expect(has_domain(workers.gpuResourceName), {at, "gpuResourceName"}, "must be a name with a domain, as in nvidia.com/gpu");
  if (workers.processesPerWorker) is.within({at, "processesPerWorker"}, *workers.processesPerWorker, 1, 256);
  if (workers.threadsPerProcess) is.within({at, "threadsPerProcess"}, *workers.threadsPerProcess, 1, 1024);
  is.expect(workers.templ.is_object(), {at, "template"}, "must be of type object");
}

void check_parallelism(const Parallelism& parallelism, Values& is) {
  const std::string_view at = "spec.parallelism.";
  is.within({at, "tensor"}, parallelism.tensor, 1, 1024);
  is.within({at, "pipeline"}, parallelism.pipeline, 1, 1024);
  is.within({at, "context"}, parallelism.context, 1, 1024);
  is.unsupported(parallelism.context > 1, {at, "context"}, "context above 1");
  is.within({at, "expert"}, parallelism.expert, 1, 1024);
  is.unsupported(parallelism.expert > 1, {at, "expert"}, "expert above 1");
  if (parallelism.data) is.within({at, "data"}, *parallelism.data, 1, 1e6);
  is.expect(!parallelism.sequence || parallelism.tensor != 1, {at, "sequence"},
            "needs tensor above 1, whose ranks share the tokens; set tensor, or leave sequence out");
  is.within({at, "microBatchSize"}, parallelism.microBatchSize, 1, 1e6);
  const auto& schedule = parallelism.pipelineSchedule;
  const bool is_interleaved = schedule.name == PipelineScheduleName::kInterleaved;
  is.within({at, "pipelineSchedule.virtualStages"}, schedule.virtualStages, 1, 64);
  is.expect(!is_interleaved || schedule.virtualStages != 1, {at, "pipelineSchedule.virtualStages"},
            "must be at least 2 with pipelineSchedule.name Interleaved");
  is.expect(is_interleaved || schedule.virtualStages <= 1, {at, "pipelineSchedule.virtualStages"},
            "is for pipelineSchedule.name Interleaved alone; leave it out");
  const auto& zero = parallelism.zero;
  is.within({at, "zero.stage"}, zero.stage, 0, 3);
  const auto& offload = zero.offload;
  is.expect(!offload.optimizer || zero.stage >= 1, {at, "zero.offload.optimizer"},
            "needs zero.stage 1, 2 or 3: at stage 0 every data-parallel rank would keep the whole state of the optimizer in the "
            "host's memory");
  is.expect(!offload.parameters || zero.stage == 3, {at, "zero.offload.parameters"},
            "needs zero.stage 3, at which a layer's parameters are on the device only while it is computed");
  is.expect(!offload.parameters || offload.optimizer, {at, "zero.offload.parameters"},
            "needs zero.offload.optimizer too, whose step leaves the new parameters in the host's memory");
}

void check_model(const Model& model, Values& is) {
  const std::string_view at = "spec.model.";
  is.unsupported(model.architecture == Architecture::kDeepSeekV3, {at, "architecture"}, "architecture DeepSeekV3", "use Llama");
  if (model.preset) is.length({at, "preset"}, *model.preset, 1, 253);
  is.unsupported(model.preset.has_value(), {at, "preset"}, "preset", "use size");
  if (model.path) is.length({at, "path"}, *model.path, 1, 1024);
  is.unsupported(model.path.has_value(), {at, "path"}, "path", "use size");
  if (!model.size) return;
  const auto& size = *model.size;
  is.within({at, "size.layers"}, size.layers, 1, 10000);
  is.within({at, "size.hiddenSize"}, size.hiddenSize, 2, 1e6);
  is.within({at, "size.heads"}, size.heads, 1, 1e5);
  if (size.keyValueHeads) is.within({at, "size.keyValueHeads"}, *size.keyValueHeads, 1, 1e5);
  is.within({at, "size.feedForwardSize"}, size.feedForwardSize, 1, 1e7);
  is.within({at, "size.vocabularySize"}, size.vocabularySize, 2, 1e7);
  is.above_zero({at, "size.ropeTheta"}, size.ropeTheta);
  is.above_zero({at, "size.normEpsilon"}, size.normEpsilon);
  is.at_most({at, "size.normEpsilon"}, size.normEpsilon, 1);
}

void check_path(const FieldPath& field, const std::string& path, Values& is) {
  is.length(field, path, 0, 1024);
  is.expect(path.starts_with('/'), field, "must be an absolute path in the worker's container, as in /data");
}

void check_sources(const std::string& at, const std::vector<Source>& sources, std::size_t fewest, Values& is) {
  is.items(at, sources.size(), fewest, 64);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::string here = at + "[" + std::to_string(i) + "]";
    check_path({here, ".path"}, sources[i].path, is);
    is.above_zero({here, ".weight"}, sources[i].weight);
    const bool is_repeated = std::any_of(sources.begin(), sources.begin() + static_cast<std::ptrdiff_t>(i),
                                         [&](const Source& earlier) { return earlier.path == sources[i].path; });
    is.expect(!is_repeated, here, "Duplicate value: the path " + sources[i].path + " is there twice; use weight");
  }
}

void check_curriculum(const Curriculum& curriculum, Values& is) {
  const std::string_view at = "spec.data.curriculum";
  is.items({at, ".stages"}, curriculum.stages.size(), 1, 32);
  for (std::size_t i = 0; i < curriculum.stages.size(); ++i) {
    const auto& stage = curriculum.stages[i];
    const std::string here = std::string(at) + ".stages[" + std::to_string(i) + "].";
    if (stage.untilEpoch) is.above_zero({here, "untilEpoch"}, *stage.untilEpoch);
    if (stage.untilStep) is.at_least({here, "untilStep"}, *stage.untilStep, 1);
    if (stage.untilTokens) is.at_least({here, "untilTokens"}, *stage.untilTokens, 1);
    is.within({here, "sequenceLength"}, stage.sequenceLength, 1, 1e7);
  }
}

void check_data(const Data& data, Values& is) {
  const std::string_view at = "spec.data.";
  check_sources("spec.data.train", data.train, 1, is);
  check_sources("spec.data.validation", data.validation, 0, is);
  is.unsupported(data.tokenizer.kind == TokenizerKind::kFile, {at, "tokenizer.kind"}, "tokenizer.kind File",
                 "use Bytes, or token files (format UInt16 or UInt32)");
  if (data.tokenizer.path) is.length({at, "tokenizer.path"}, *data.tokenizer.path, 0, 1024);
  is.unsupported(data.tokenizer.path.has_value(), {at, "tokenizer.path"}, "tokenizer.path");
  is.within({at, "sequenceLength"}, data.sequenceLength, 1, 1e7);
  if (data.curriculum) check_curriculum(*data.curriculum, is);
}

void check_optimizer(const Optimizer& optimizer, Values& is) {
  const std::string_view at = "spec.training.optimizer.";
  is.above_zero({at, "learningRate"}, optimizer.learningRate);
  is.at_most({at, "learningRate"}, optimizer.learningRate, 1);
  is.within({at, "weightDecay"}, optimizer.weightDecay, 0, 1);
  is.at_least({at, "beta1"}, optimizer.beta1, 0);
  is.below_one({at, "beta1"}, optimizer.beta1);
  is.at_least({at, "beta2"}, optimizer.beta2, 0);
  is.below_one({at, "beta2"}, optimizer.beta2);
  is.above_zero({at, "epsilon"}, optimizer.epsilon);
  is.at_most({at, "epsilon"}, optimizer.epsilon, 1);
}

void check_training(const Training& training, Values& is) {
  const std::string_view at = "spec.training.";
  if (training.steps) is.at_least({at, "steps"}, *training.steps, 1);
  if (training.epochs) is.above_zero({at, "epochs"}, *training.epochs);
  if (training.tokens) is.at_least({at, "tokens"}, *training.tokens, 1);
  is.within({at, "globalBatchSize"}, training.globalBatchSize, 1, 1e7);
  is.at_least({at, "seed"}, training.seed, 0);
  check_optimizer(training.optimizer, is);
  const auto& schedule = training.learningRateSchedule;
  is.at_least({at, "learningRateSchedule.warmupSteps"}, schedule.warmupSteps, 0);
  if (schedule.decaySteps) is.at_least({at, "learningRateSchedule.decaySteps"}, *schedule.decaySteps, 1);
  is.within({at, "learningRateSchedule.minimum"}, schedule.minimum, 0, 1);
  is.at_least({at, "loss.labelSmoothing"}, training.loss.labelSmoothing, 0);
  is.below_one({at, "loss.labelSmoothing"}, training.loss.labelSmoothing);
  is.within({at, "loss.zLoss"}, training.loss.zLoss, 0, 1);
  is.at_least({at, "dropout"}, training.dropout, 0);
  is.below_one({at, "dropout"}, training.dropout);
  if (training.gradientClipping) is.above_zero({at, "gradientClipping.maxNorm"}, training.gradientClipping->maxNorm);
  is.expect(!training.precision.fp8 || training.precision.compute == ComputePrecision::kFP8, {at, "precision.fp8"},
            "has a meaning for compute FP8 alone; leave it out");
}

bool is_signal(const std::string& name) {
  constexpr int kSignals = 31;  // those with names
  for (int signal = 1; signal <= kSignals; ++signal) {
    if (signal_name(signal) == name) return true;
  }
  return false;
}

void check_failure_rules(const std::vector<FailureRule>& rules, Values& is) {
  const std::string_view at = "spec.lifecycle.failurePolicy.rules";
  is.items(at, rules.size(), 0, 20);
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const std::string rule = std::string(at) + "[" + std::to_string(i) + "]", here = rule + ".";
    is.expect(!rules[i].onExitCodes.empty() || !rules[i].onSignals.empty() || !rules[i].onMessage.value_or("").empty(), rule,
              "needs onExitCodes, onSignals or onMessage; without a condition it would match every failure");
    is.items({here, "onExitCodes"}, rules[i].onExitCodes.size(), 0, 32);
    for (std::size_t j = 0; j < rules[i].onExitCodes.size(); ++j) {
      is.within(here + "onExitCodes[" + std::to_string(j) + "]", rules[i].onExitCodes[j], 0, 255);
    }
    is.items({here, "onSignals"}, rules[i].onSignals.size(), 0, 32);
    for (std::size_t j = 0; j < rules[i].onSignals.size(); ++j) {
      const std::string signal = here + "onSignals[" + std::to_string(j) + "]";
      is.length(signal, rules[i].onSignals[j], 0, 32);
      is.expect(is_signal(rules[i].onSignals[j]), signal, "is no signal of Linux; write it as SIGKILL, SIGSEGV or SIGTERM");
    }
    if (rules[i].onMessage) is.length({here, "onMessage"}, *rules[i].onMessage, 0, 1024);
  }
}

void check_lifecycle(const Lifecycle& lifecycle, Values& is) {
  const std::string_view at = "spec.lifecycle.";
  constexpr double kWeek = 7 * 86400, kHundredYears = 100.0 * 365 * 86400;
  is.within({at, "maxRestarts"}, lifecycle.maxRestarts, 0, 1e6);
  if (const auto& limit = lifecycle.activeDeadlineSeconds) is.within({at, "activeDeadlineSeconds"}, *limit, 1, kHundredYears);
  if (const auto& ttl = lifecycle.ttlSecondsAfterFinished) is.within({at, "ttlSecondsAfterFinished"}, *ttl, 0, kHundredYears);
  is.within({at, "startTimeoutSeconds"}, lifecycle.startTimeoutSeconds, 1, kWeek);
  if (const auto& limit = lifecycle.hangTimeoutSeconds) is.within({at, "hangTimeoutSeconds"}, *limit, 1, kWeek);
  is.within({at, "checkpointGraceSeconds"}, lifecycle.checkpointGraceSeconds, 0, 86400);
  check_failure_rules(lifecycle.failurePolicy.rules, is);
}

}  // namespace

std::vector<Problem> check_values(const TrainingJobSpec& spec) {
  Values is;
  check_top(spec, is);
  check_workers(spec.workers, is);
  if (spec.placement.pack) is.length("spec.placement.pack.level", spec.placement.pack->level, 1, 63);
  check_parallelism(spec.parallelism, is);
  if (spec.engine == Engine::kTrainyard) {
    check_model(spec.model, is);
    check_data(spec.data, is);
    check_training(spec.training, is);
  } else {
    is.expect(spec.parallelism == Parallelism{}, "spec.parallelism", kTrainyardsAlone);
    is.expect(!spec.evaluation, "spec.evaluation", kTrainyardsAlone);
    is.expect(!spec.lifecycle.hangTimeoutSeconds, "spec.lifecycle.hangTimeoutSeconds", kTrainyardsAlone);
    is.expect(spec.workers.spares < 1, "spec.workers.spares",
              "is for the engine Trainyard alone, since programs of the engine Custom are all made anew when one is lost; leave "
              "it out");
    is.expect(!spec.checkpoint, "spec.checkpoint", kTrainyardsAlone);
    is.expect(!spec.metrics, "spec.metrics", kTrainyardsAlone);
  }
  if (spec.evaluation) {
    is.at_least("spec.evaluation.everySteps", spec.evaluation->everySteps, 1);
    if (spec.evaluation->batches) is.at_least("spec.evaluation.batches", *spec.evaluation->batches, 1);
  }
  if (spec.checkpoint) {
    check_path("spec.checkpoint.path", spec.checkpoint->path, is);
    if (spec.checkpoint->everySteps) is.at_least("spec.checkpoint.everySteps", *spec.checkpoint->everySteps, 1);
    is.within("spec.checkpoint.keep", spec.checkpoint->keep, 1, 1000);
    is.within("spec.checkpoint.keepBest", spec.checkpoint->keepBest, 0, 1000);
  }
  if (spec.metrics) {
    if (spec.metrics->path) check_path("spec.metrics.path", *spec.metrics->path, is);
    if (const auto& trace = spec.metrics->trace) {
      is.items("spec.metrics.trace.steps", trace->steps.size(), 1, 16);
      for (std::size_t i = 0; i < trace->steps.size(); ++i)
        is.at_least("spec.metrics.trace.steps[" + std::to_string(i) + "]", trace->steps[i], 1);
    }
  }
  check_lifecycle(spec.lifecycle, is);
  return is.take();
}

}  // namespace trainyard::contract
