#include "worker/trainer/resume_state.h"

#include <algorithm>

namespace trainyard::trainer {
namespace {

std::string was(const std::string& field, const std::string& now, const std::string& then) {
  return field + " is " + now + ", and was " + then + " when the checkpoint was written";
}

std::string text_of(double number) { return contract::Json(number).dump(); }

}  // namespace

ResumeState resume_state_of(const contract::RankConfig& config, const data::Cursor& cursor,
                            std::optional<double> validation_loss) {
  ResumeState state{.cursor = cursor, .validationLoss = validation_loss, .sources = {}, .threads = config.threads};
  for (const auto& source : config.spec.data.train) state.sources.push_back({source.path, source.weight});
  return state;
}

std::vector<std::string> changes_since(const ResumeState& then, const contract::RankConfig& now) {
  std::vector<std::string> changes;
  const auto& sources = now.spec.data.train;
  for (std::size_t i = 0; i < std::min(sources.size(), then.sources.size()); ++i) {
    const std::string field = "data.train[" + std::to_string(i) + "].";
    if (sources[i].path != then.sources[i].path) changes.push_back(was(field + "path", sources[i].path, then.sources[i].path));
    if (sources[i].weight != then.sources[i].weight) {
      changes.push_back(was(field + "weight", text_of(sources[i].weight), text_of(then.sources[i].weight)));
    }
  }
  if (then.threads != 0 && then.threads != now.threads) {
    changes.push_back(was("the number of threads a process", std::to_string(now.threads), std::to_string(then.threads)) +
                      ": sums on the CPU are taken in another order, so losses differ in their last digits");
  }
  return changes;
}

}  // namespace trainyard::trainer
