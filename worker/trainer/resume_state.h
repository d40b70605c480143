#pragma once
// What a checkpoint says of its training besides tensors.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/assignment.h"
#include "worker/data/sample_stream.h"
#include "worker/trainer/engine_state.h"

namespace trainyard::trainer {

/// What a source was called when the checkpoint was written. It may change between resumes; people should know that it did.
struct SourceThen {
  std::string path;
  double weight = 1.0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("path", self.path);
    field("weight", self.weight);
  }
  bool operator==(const SourceThen&) const = default;
};

/// optim::LossScale.
struct LossScaleThen {
  double scale = 1.0;
  std::int64_t growthTracker = 0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("scale", self.scale);
    field("growthTracker", self.growthTracker);
  }
  bool operator==(const LossScaleThen&) const = default;
};

/// The manifest's `state` (docs/formats.md). Equal on all ranks.
struct ResumeState {
  data::Cursor cursor;
  std::optional<double> loss;                  // of the last step
  std::optional<double> validationLoss;        // of the last evaluation
  std::optional<std::int64_t> validationStep;  // after which that was
  std::vector<SourceThen> sources;             // of data.train
  std::int32_t threads = 0;                    // a process; 0: not known
  std::int64_t skippedSteps = 0;               // EngineState::skipped
  std::int64_t skippedInARow = 0;
  std::optional<LossScaleThen> lossScale;  // of FP16
  /// The part of the spec that decides how the model trains, without what has its default. Null in checkpoints of before; read leniently, since
  /// it is only for people.
  contract::Json recipe;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("cursor", self.cursor);
    field("loss", self.loss);
    field("validationLoss", self.validationLoss);
    field("validationStep", self.validationStep);
    field("sources", self.sources);
    field("threads", self.threads);
    field("skippedSteps", self.skippedSteps);
    field("skippedInARow", self.skippedInARow);
    field("lossScale", self.lossScale);
    field("recipe", self.recipe);
  }
  bool operator==(const ResumeState&) const = default;
};

/// What people were last told of how good the model is.
struct Losses {
  std::optional<double> training;    // of the last step; nothing where it was not finite
  std::optional<double> validation;  // of the last evaluation
  std::optional<std::int64_t> validation_step;
};
/// What a training that has come to `cursor` keeps.
ResumeState resume_state_of(const contract::RankConfig& config, const data::Cursor& cursor, const Losses& losses,
                            const EngineState& engine);
/// The validation loss of a checkpoint of that step, where it was evaluated itself; `state` as in the manifest.
std::optional<double> loss_of_checkpoint(std::int64_t step, const contract::Json& state);
/// The engine's part of it; `steps` is the checkpoint's own.
EngineState engine_state_of(const ResumeState& state, std::int64_t steps);

/// What is another than it was, though training may go on: one line each, and one for all of the recipe.
std::vector<std::string> changes_since(const ResumeState& then, const contract::RankConfig& now);

}  // namespace trainyard::trainer
