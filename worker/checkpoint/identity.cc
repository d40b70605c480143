#include "worker/checkpoint/identity.h"

#include <set>

namespace trainyard::checkpoint {

using contract::Json;

Json identity_of(const contract::TrainingJobSpec& spec) {
  return {
      {"model", contract::encode(spec.model)},
      {"data",
       {{"train", contract::encode(spec.data.train)},
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
    return flat.contains(pointer) ? flat[pointer].dump() : std::string("absent");
  };
  std::vector<std::string> out;
  for (const auto& pointer : pointers) {
    const auto mine = value(flat_job, pointer);
    const auto theirs = value(flat_checkpoint, pointer);
    if (mine == theirs) continue;
    std::string field = pointer.substr(pointer.empty() ? 0 : 1);
    for (auto& character : field) character = character == '/' ? '.' : character;
    out.push_back(field + " is " + mine + " in this job and " + theirs + " in the checkpoint");
  }
  return out;
}

}  // namespace trainyard::checkpoint
