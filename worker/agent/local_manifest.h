#pragma once
// A manifest made fit for this machine: read, checked, its pods' paths mapped to what is here.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "crds/contract/assignment.h"
#include "crds/contract/validate.h"

namespace trainyard::agent {

/// `--path FROM=TO`: what manifests call FROM lies here at TO.
struct PathMapping {
  std::string from;
  std::string to;
};
/// Throws std::invalid_argument where it is not FROM=TO.
PathMapping parse_path_mapping(std::string_view text);

/// The path with the longest FROM that it lies in, or is, replaced; itself where there is none.
std::string map_path(const std::string& path, const std::vector<PathMapping>& mappings);

/// The one TrainingJob of a YAML text, with every problem that there is: in the text, in the job, or else of mappings that no path of it
/// lies in, and of paths to data that do not exist here (`exists` says) after they were mapped.
contract::Manifest read_local_manifest(const std::string& yaml, const std::vector<PathMapping>& mappings,
                                       const std::function<bool(const std::string& path)>& exists);

/// All ranks of the job on this machine, meeting at `port`. `run_uid` is another in each run: so two that write checkpoints into one
/// folder find out.
contract::Assignment local_assignment(const contract::Manifest& manifest, const std::string& run_uid, std::int64_t generation,
                                      std::uint16_t port);

}  // namespace trainyard::agent
