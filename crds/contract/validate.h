#pragma once
// What the API server checks of a TrainingJob by its schema and CEL, for where there is no API server (`trainyard-worker run`).
// tests/crds proves on a real API server that both refuse and accept the same manifests.

#include <string>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::contract {

/// Every problem of the spec, all at once, with paths below `spec`: what is out of range, what does not multiply out or divide, what
/// another engine would not understand, and every value that is not supported yet, named as such. Empty: the spec would be accepted.
std::vector<Problem> validate(const TrainingJobSpec& spec);

/// A manifest as JSON: apiVersion, kind, metadata.name and spec. Unknown fields are problems too.
struct Manifest {
  std::string name;
  TrainingJobSpec spec;
  std::vector<Problem> problems;
};
Manifest read_manifest(const Json& manifest);

}  // namespace trainyard::contract
