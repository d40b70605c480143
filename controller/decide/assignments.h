#pragma once
// What each agent is told.

#include <map>
#include <optional>
#include <string>

#include "controller/decide/worker_view.h"
#include "crds/contract/assignment.h"

namespace trainyard::decide {

/// The agents of the job's living pods, by pod UID. An assignment goes to all workers of a gang or to none: once each has an address
/// and an agent that answered, so that no rank waits for one that can't come. It follows from the status as it is in the API server,
/// never from one that is still to be written.
///
/// Under one generation its content must stay the same (assignment.h): of the spec it holds what an engine needs and no user can
/// change, and it is not repeated to agents that took it after somebody changed the rest (evaluation, checkpoints), which takes effect
/// with the next generation. metadata.generation of the spec that it was made from is the observedGeneration of the condition Placed.
std::map<std::string, std::optional<contract::Assignment>> assignments(const Cluster& cluster, const Job& job,
                                                                       const GangView& gang);

}  // namespace trainyard::decide
