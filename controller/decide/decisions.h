#pragma once
// All that is decided at one moment, as JSON, so that what one controller decides on a snapshot (snapshot.h) is compared with another's.

#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// What would be done about all of it at this moment: {"room": {job: plan}, "jobs": {job: plan}, "queues": plan}, without what has nothing to do.
Json decisions(const Cluster& cluster, Time now);
/// The same decisions have the same one, on every machine.
std::string hash_of(const Json& decisions);

}  // namespace trainyard::decide
