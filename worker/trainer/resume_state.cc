#include "worker/trainer/resume_state.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace trainyard::trainer {
namespace {

std::string was(const std::string& field, const std::string& now, const std::string& then) {
  return field + " is " + now + ", and was " + then + " when the checkpoint was written";
}

std::string text_of(double number) { return contract::Json(number).dump(); }

/// Which sources have to wait under other weights: the blend holds each to its share of all samples, those of before included, so that
/// one of which more was taken than its share of today is left out until the others have caught up.
std::vector<std::string> pauses(const data::Cursor& cursor, const std::vector<contract::Source>& sources) {
  std::vector<std::string> pauses;
  double sum = 0.0;
  for (const auto& source : sources) sum += source.weight;
  for (std::size_t i = 0; i < std::min(sources.size(), cursor.consumed.size()); ++i) {
    const double share = sources[i].weight / sum;
    const double samples = static_cast<double>(cursor.consumed[i]) / share - static_cast<double>(cursor.samples);
    if (samples <= 1 / share) continue;  // as between any two samples of it
    pauses.push_back(
        "data.train[" + std::to_string(i) + "] gives none of the next " + std::to_string(std::llround(samples)) +
        " samples or so: a source's share is one of all samples of the training, and it has had more than its new one");
  }
  return pauses;
}

}  // namespace

ResumeState resume_state_of(const contract::RankConfig& config, const data::Cursor& cursor, const Losses& losses,
                            const EngineState& engine) {
  ResumeState state{.cursor = cursor,
                    .loss = losses.training,
                    .validationLoss = losses.validation,
                    .validationStep = losses.validation_step,
                    .sources = {},
                    .threads = config.threads,
                    .skippedSteps = engine.skipped,
                    .skippedInARow = engine.skipped_in_a_row};
  if (const auto& scale = engine.loss_scale) state.lossScale = {.scale = scale->scale, .growthTracker = scale->growth_tracker};
  for (const auto& source : config.spec.data.train) state.sources.push_back({source.path, source.weight});
  return state;
}

std::optional<double> loss_of_checkpoint(std::int64_t step, const contract::Json& state) {
  const auto decoded = contract::decode<ResumeState>(state, "state");
  if (!decoded.problems.empty() || decoded.value.validationStep != step) return std::nullopt;
  const auto& loss = decoded.value.validationLoss;
  return loss && std::isfinite(*loss) ? loss : std::nullopt;
}

EngineState engine_state_of(const ResumeState& state, std::int64_t steps) {
  EngineState engine{.steps = steps, .skipped = state.skippedSteps, .skipped_in_a_row = state.skippedInARow};
  if (const auto& then = state.lossScale) {
    engine.loss_scale = {.scale = static_cast<float>(then->scale), .growth_tracker = then->growthTracker};
  }
  return engine;
}

std::vector<std::string> changes_since(const ResumeState& then, const contract::RankConfig& now) {
  std::vector<std::string> changes;
  const auto& sources = now.spec.data.train;
  bool reweighted = false;
  for (std::size_t i = 0; i < std::min(sources.size(), then.sources.size()); ++i) {
    const std::string field = "data.train[" + std::to_string(i) + "].";
    if (sources[i].path != then.sources[i].path) changes.push_back(was(field + "path", sources[i].path, then.sources[i].path));
    if (sources[i].weight != then.sources[i].weight) {
      reweighted = true;
      changes.push_back(was(field + "weight", text_of(sources[i].weight), text_of(then.sources[i].weight)));
    }
  }
  if (reweighted) {
    for (auto& pause : pauses(then.cursor, sources)) changes.push_back(std::move(pause));
  }
  if (then.threads != 0 && then.threads != now.threads) {
    changes.push_back(was("the number of threads a process", std::to_string(now.threads), std::to_string(then.threads)) +
                      ": sums on the CPU are taken in another order, so losses differ in their last digits");
  }
  return changes;
}

}  // namespace trainyard::trainer
