#include "worker/trainer/resume_state.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "crds/contract/sparse.h"

namespace trainyard::trainer {
namespace {

std::string was(const std::string& field, const std::string& now, const std::string& then) {
  return field + " is " + now + ", and was " + then + " when the checkpoint was written";
}

std::string text_of(double number) { return contract::Json(number).dump(); }

/// Of all that may change between resumes what decides how the model trains; activationCheckpointing changes no bit.
contract::TrainingJobSpec recipe_of(const contract::TrainingJobSpec& spec) {
  contract::TrainingJobSpec recipe;
  recipe.training = spec.training;
  recipe.training.activationCheckpointing = {};
  recipe.data.curriculum = spec.data.curriculum;
  return recipe;
}

/// `pointer` as in /data/curriculum/stages/0/untilStep.
std::string field_of(const std::string& pointer) {
  std::string out;
  for (std::size_t from = 1; from < pointer.size();) {
    const std::size_t to = std::min(pointer.find('/', from), pointer.size());
    const std::string part = pointer.substr(from, to - from);
    const bool is_index = part.find_first_not_of("0123456789") == std::string::npos;
    out += is_index ? "[" + part + "]" : (out.empty() ? "" : ".") + part;
    from = to + 1;
  }
  return out;
}

std::string value_at(const contract::Json& flat, const std::string& pointer) {
  const auto found = flat.find(pointer);
  if (found == flat.end()) return "left out";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// All that differs, in one line, which tells of fields that the checkpoint's release did not know as of their defaults.
std::string recipe_change(const contract::Json& then, const contract::TrainingJobSpec& spec) {
  if (!then.is_object()) return "";
  const auto was_then = contract::encode(recipe_of(contract::decode<contract::TrainingJobSpec>(then).value)).flatten();
  const auto is_now = contract::encode(recipe_of(spec)).flatten();
  std::set<std::string> pointers;
  for (const auto* flat : {&was_then, &is_now}) {
    for (const auto& item : flat->items()) pointers.insert(item.key());
  }
  std::string out;
  for (const auto& pointer : pointers) {
    const std::string now = value_at(is_now, pointer), before = value_at(was_then, pointer);
    if (now != before) out += (out.empty() ? "" : "; ") + field_of(pointer) + " is " + now + ", and was " + before;
  }
  return out.empty() ? "" : out + ", when the checkpoint was written";
}

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
        "spec.data.train[" + std::to_string(i) + "] gives none of the next " + std::to_string(std::llround(samples)) +
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
                    .skippedInARow = engine.skipped_in_a_row,
                    .lossScale = {},
                    .recipe = contract::encode_sparse(recipe_of(config.spec))};
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
    const std::string field = "spec.data.train[" + std::to_string(i) + "].";
    if (sources[i].path != then.sources[i].path) changes.push_back(was(field + "path", sources[i].path, then.sources[i].path));
    if (sources[i].weight != then.sources[i].weight) {
      reweighted = true;
      changes.push_back(was(field + "weight", text_of(sources[i].weight), text_of(then.sources[i].weight)));
    }
  }
  if (reweighted) {
    for (auto& pause : pauses(then.cursor, sources)) changes.push_back(std::move(pause));
  }
  if (auto change = recipe_change(then.recipe, now.spec); !change.empty()) changes.push_back(std::move(change));
  if (then.threads != 0 && then.threads != now.threads) {
    changes.push_back(was("the number of threads a process", std::to_string(now.threads), std::to_string(then.threads)) +
                      ": sums on the CPU are taken in another order, so losses differ in their last digits");
  }
  return changes;
}

}  // namespace trainyard::trainer
