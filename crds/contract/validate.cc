#include "crds/contract/validate.h"

#include <algorithm>
#include <map>

#include "crds/contract/names.h"
#include "crds/contract/rules.h"

namespace trainyard::contract {
namespace {

/// What the schema requires of each object, by the object's path.
const std::map<std::string, std::vector<std::string>>& required_fields() {
  static const std::map<std::string, std::vector<std::string>> fields{
      {"spec.placement.pack", {"level"}},
      {"spec.model.size", {"layers", "hiddenSize", "heads", "feedForwardSize", "vocabularySize"}},
      {"spec.data", {"train", "sequenceLength"}},
      {"spec.data.train[]", {"path"}},
      {"spec.data.validation[]", {"path"}},
      {"spec.data.curriculum", {"stages"}},
      {"spec.data.curriculum.stages[]", {"sequenceLength"}},
      {"spec.training", {"globalBatchSize", "optimizer"}},
      {"spec.training.optimizer", {"learningRate"}},
      {"spec.evaluation", {"everySteps"}},
      {"spec.checkpoint", {"path"}},
      {"spec.metrics.trace", {"steps"}},
      {"spec.lifecycle.failurePolicy.rules[]", {"action"}},
  };
  return fields;
}

/// Adds a problem for each required field that `json` lacks. `path` names a list's item by its index, `kind` by [] alone.
void check_required(const Json& json, const std::string& path, const std::string& kind, std::vector<Problem>& problems) {
  if (kind == "spec.workers.template") return;  // a pod template: the API server's business
  if (json.is_array()) {
    for (std::size_t i = 0; i < json.size(); ++i)
      check_required(json[i], path + "[" + std::to_string(i) + "]", kind + "[]", problems);
  }
  if (!json.is_object()) return;
  if (const auto required = required_fields().find(kind); required != required_fields().end()) {
    for (const auto& name : required->second) {
      if (!json.contains(name) || json[name].is_null()) problems.push_back({detail::join(path, name), "Required value"});
    }
  }
  for (const auto& item : json.items()) {
    check_required(item.value(), detail::join(path, item.key()), detail::join(kind, item.key()), problems);
  }
}

/// The parts of a spec that only one engine understands are required with it, and refused with another.
void check_engines_parts(const Json& spec, Engine engine, std::vector<Problem>& problems) {
  for (const char* part : {"model", "data", "training"}) {
    const bool is_given = spec.is_object() && spec.contains(part) && !spec[part].is_null();
    if (engine == Engine::kTrainyard && !is_given)
      problems.push_back({detail::join("spec", part), "must be given with the engine Trainyard"});
    if (engine == Engine::kCustom && is_given) problems.push_back({detail::join("spec", part), kTrainyardsAlone});
  }
}

/// Whether `problems` has one with that field, or with an object or list that it lies in.
bool is_covered(const std::string& field, const std::vector<Problem>& problems) {
  return std::any_of(problems.begin(), problems.end(), [&](const Problem& problem) {
    return field.starts_with(problem.field) &&
           (field.size() == problem.field.size() || field[problem.field.size()] == '.' || field[problem.field.size()] == '[');
  });
}

std::string text_at(const Json& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

bool is_dns_label(const std::string& name) {
  const auto is_plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && is_plain(name.front()) && is_plain(name.back()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_plain(c) || c == '-'; });
}

void check_name(const std::string& name, Findings& findings) {
  const std::string field = "metadata.name";
  findings.expect(!name.empty(), field, "Required value");
  if (name.empty()) return;
  findings.expect(name.size() <= kMaxJobNameLength, field,
                  "must have at most 49 characters, so that the names of worker pods (name-index-generation) fit into 63");
  const bool has_dot = name.find('.') != std::string::npos;
  findings.expect(!has_dot, field, "must not contain a dot, since worker pods carry it in their host names");
  findings.expect(has_dot || is_dns_label(name), field,
                  "must consist of lower case letters, digits and '-', and must start and end with a letter or digit");
}

void check_type(const Json& manifest, Findings& findings) {
  const auto expect = [&](const char* field, std::string_view wanted) {
    const std::string found = text_at(manifest, field);
    findings.expect(found == wanted, field, "must be " + std::string(wanted) + ", and is " + (found.empty() ? "missing" : found));
  };
  expect("apiVersion", kApiVersion);
  expect("kind", kKind);
}

}  // namespace

std::vector<Problem> validate(const TrainingJobSpec& spec) {
  std::vector<Problem> problems = check_values(spec);
  for (auto& problem : check_relations(spec)) problems.push_back(std::move(problem));
  return problems;
}

Manifest read_manifest(const Json& manifest) {
  Manifest out;
  if (!manifest.is_object()) {
    out.problems.push_back({"", "must be a manifest of a TrainingJob, and is no object"});
    return out;
  }
  Findings findings;
  check_type(manifest, findings);
  if (const auto metadata = manifest.find("metadata"); metadata != manifest.end()) out.name = text_at(*metadata, "name");
  check_name(out.name, findings);
  out.problems = findings.take();
  if (text_at(manifest, "kind") != kKind) return out;  // another kind's fields are not ours to judge
  const std::vector<std::string> known{"apiVersion", "kind", "metadata", "spec", "status"};
  for (const auto& item : manifest.items()) {
    if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
      detail::unknown_field("", item.key(), known, out.problems);
    }
  }
  const auto spec = manifest.find("spec");
  if (spec == manifest.end()) {
    out.problems.push_back({"spec", "Required value"});
    return out;
  }
  auto decoded = decode<TrainingJobSpec>(*spec, "spec", UnknownFields::kRefuse);
  check_engines_parts(*spec, decoded.value.engine, decoded.problems);
  check_required(*spec, "spec", "spec", decoded.problems);
  out.spec = std::move(decoded.value);
  // What is missing or of the wrong type has its default now, which says nothing about the user's values.
  std::vector<Problem> wrong = decoded.problems.empty() ? validate(out.spec) : check_values(out.spec);
  std::erase_if(wrong, [&](const Problem& problem) { return is_covered(problem.field, decoded.problems); });
  for (auto* found : {&decoded.problems, &wrong}) out.problems.insert(out.problems.end(), found->begin(), found->end());
  return out;
}

}  // namespace trainyard::contract
