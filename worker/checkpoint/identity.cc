#include "worker/checkpoint/identity.h"

#include <set>

namespace trainyard::checkpoint {

using contract::Json;

namespace {

/// `pointer` as in /data/sources/0/tokens.
std::string line_of(const std::string& pointer, const std::string& mine, const std::string& theirs) {
  std::string field = pointer.substr(pointer.empty() ? 0 : 1);
  for (auto& character : field) character = character == '/' ? '.' : character;
  std::string line = field + " is " + mine + " in this job and " + theirs + " in the checkpoint";
  if (field.starts_with("data.sources.") && field.ends_with(".tokens")) {
    line += ", and the order of the samples depends on it: give the source the content that it had";
  }
  return line;
}

}  // namespace

Json identity_of(const contract::TrainingJobSpec& spec, const std::vector<std::int64_t>& source_tokens) {
  auto model = spec.model;
  if (model.size) model.size->keyValueHeads = model.size->keyValueHeads.value_or(model.size->heads);
  Json sources = Json::array();
  for (std::size_t i = 0; i < spec.data.train.size(); ++i) {
    sources.push_back({{"format", contract::encode(spec.data.train[i].format)}, {"tokens", source_tokens.at(i)}});
  }
  return {
      {"model", contract::encode(model)},
      {"data",
       {{"sources", std::move(sources)},
        {"tokenizer", contract::encode(spec.data.tokenizer)},
        {"sequenceLength", spec.data.sequenceLength}}},
      {"training", {{"seed", spec.training.seed}, {"optimizer", {{"name", contract::encode(spec.training.optimizer.name)}}}}}};
}

std::vector<std::string> differences(const Json& job, const Json& checkpoint) {
  const Json flat_job = job.flatten();
  const Json flat_checkpoint = checkpoint.flatten();
  std::set<std::string> pointers;
  for (const auto& item : flat_job.items()) pointers.insert(item.key());
  for (const auto& item : flat_checkpoint.items()) pointers.insert(item.key());
  const auto value = [](const Json& flat, const std::string& pointer) {
    if (!flat.contains(pointer)) return std::string("absent");
    return flat[pointer].dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  std::vector<std::string> out;
  for (const auto& pointer : pointers) {
    const auto mine = value(flat_job, pointer);
    const auto theirs = value(flat_checkpoint, pointer);
    if (mine != theirs) out.push_back(line_of(pointer, mine, theirs));
  }
  return out;
}

}  // namespace trainyard::checkpoint
