#pragma once
// All that decisions come from, as JSON, so that a decision can be looked into elsewhere: /debug/snapshot writes it, and
// `trainyard-controller replay` reads it. The JSON is of this version alone, and holds all that the jobs' templates hold, environment
// variables too.

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// What is known of the cluster, and what time it is.
struct Snapshot {
  Cluster cluster;
  Time now{};
};

Json to_json(const Cluster& cluster, Time now);
/// Throws std::invalid_argument that names every field which is not as to_json() writes it.
Snapshot read_snapshot(const Json& json);

}  // namespace trainyard::decide
