#include "worker/agent/local_manifest.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <stdexcept>

#include "worker/agent/yaml_json.h"

namespace trainyard::agent {
namespace {

using contract::Json;
using contract::Manifest;

std::string without_last_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

bool lies_in(const std::string& path, const std::string& folder) {
  return path == folder || folder == "/" || (path.starts_with(folder) && path[folder.size()] == '/');
}

bool is_training_job(const Json& document) {
  return document.is_object() && document.contains("kind") && document["kind"] == std::string(contract::kKind);
}

/// Files often hold the volumes of a job beside it: those are for a cluster.
Json only_job(const std::vector<Json>& documents) {
  if (documents.size() == 1) return documents.front();
  std::optional<Json> job;
  for (const auto& document : documents) {
    if (!is_training_job(document)) continue;
    if (job) throw YamlError("the file holds several TrainingJobs; put the one to train into a file of its own");
    job = document;
  }
  if (!job) throw YamlError("the file holds no TrainingJob");
  return *job;
}

/// Of all that a manifest calls by its place in the container.
std::vector<std::string*> paths_of(contract::TrainingJobSpec& spec) {
  std::vector<std::string*> paths;
  for (auto& source : spec.data.train) paths.push_back(&source.path);
  for (auto& source : spec.data.validation) paths.push_back(&source.path);
  if (spec.data.tokenizer.path) paths.push_back(&*spec.data.tokenizer.path);
  if (spec.model.path) paths.push_back(&*spec.model.path);
  if (spec.checkpoint) paths.push_back(&spec.checkpoint->path);
  if (spec.metrics && spec.metrics->path) paths.push_back(&*spec.metrics->path);
  return paths;
}

/// A mapping of nothing is a slip of the pen, which would train on other files, or write checkpoints elsewhere, than was meant.
void check_mappings(const std::vector<std::string*>& paths, const std::vector<PathMapping>& mappings,
                    std::vector<contract::Problem>& problems) {
  std::string known;
  for (const auto* path : paths) known += (known.empty() ? "" : ", ") + *path;
  for (const auto& mapping : mappings) {
    if (std::any_of(paths.begin(), paths.end(), [&mapping](const auto* path) { return lies_in(*path, mapping.from); })) continue;
    problems.push_back({"--path " + mapping.from + "=" + mapping.to,
                        "no path of the manifest is " + mapping.from + " or below it; its paths are " + known});
  }
}

/// Of paths as the manifest has them.
void check_sources(const std::vector<contract::Source>& sources, const std::string& field,
                   const std::vector<PathMapping>& mappings, const std::function<bool(const std::string&)>& exists,
                   std::vector<contract::Problem>& problems) {
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::string& path = sources[i].path;
    const std::string here = map_path(path, mappings);
    if (exists(here)) continue;
    const std::string why =
        here == path ? path + " is not on this machine; say where it lies with --path FROM=TO, as in --path /data=corpus"
                     : path + " is " + here + " by --path, which is not on this machine";
    problems.push_back({field + "[" + std::to_string(i) + "].path", why});
  }
}

}  // namespace

PathMapping parse_path_mapping(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size()) {
    throw std::invalid_argument("--path " + std::string(text) + ": must be FROM=TO, as in /data=corpus");
  }
  return {.from = without_last_slash(std::string(text.substr(0, equals))),
          .to = without_last_slash(std::string(text.substr(equals + 1)))};
}

std::string map_path(const std::string& path, const std::vector<PathMapping>& mappings) {
  const PathMapping* best = nullptr;
  for (const auto& mapping : mappings) {
    if (lies_in(path, mapping.from) && (best == nullptr || mapping.from.size() > best->from.size())) best = &mapping;
  }
  if (best == nullptr) return path;
  const std::string rest = path.substr(best->from.size());
  return rest.empty() || rest.front() == '/' ? best->to + rest : best->to + "/" + rest;
}

Manifest read_local_manifest(const std::string& yaml, const std::vector<PathMapping>& mappings,
                             const std::function<bool(const std::string& path)>& exists) {
  Manifest manifest;
  try {
    manifest = contract::read_manifest(only_job(json_of_yaml(yaml)));
  } catch (const YamlError& error) {
    manifest.problems.push_back({"manifest", error.what()});
    return manifest;
  }
  if (manifest.spec.engine != contract::Engine::kTrainyard) {
    manifest.problems.push_back(
        {"spec.engine", "Custom runs the template's image in a cluster; only the engine Trainyard trains here"});
  }
  if (manifest.spec.dryRun) {
    manifest.problems.push_back({"spec.dryRun", "asks a cluster what would become of the job; set it to false to train here"});
  }
  if (!manifest.problems.empty()) return manifest;
  const auto paths = paths_of(manifest.spec);
  check_mappings(paths, mappings, manifest.problems);
  check_sources(manifest.spec.data.train, "spec.data.train", mappings, exists, manifest.problems);
  check_sources(manifest.spec.data.validation, "spec.data.validation", mappings, exists, manifest.problems);
  for (auto* path : paths) *path = map_path(*path, mappings);
  return manifest;
}

contract::Assignment local_assignment(const Manifest& manifest, const std::string& run_uid, std::int64_t generation,
                                      std::uint16_t port) {
  contract::Assignment assignment;
  assignment.jobUid = run_uid;
  assignment.job = "local/" + manifest.name;
  assignment.generation = generation;
  assignment.worldSize = contract::world_size(manifest.spec);
  assignment.ranks.resize(static_cast<std::size_t>(assignment.worldSize));
  std::iota(assignment.ranks.begin(), assignment.ranks.end(), 0);
  assignment.rendezvous = {.host = "127.0.0.1", .port = port};
  assignment.spec = manifest.spec;
  assignment.spec.workers.templ = Json::object();
  return assignment;
}

}  // namespace trainyard::agent
