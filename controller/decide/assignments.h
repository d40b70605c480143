#pragma once
// What each agent is told.

#include <map>
#include <optional>
#include <string>

#include "controller/decide/worker_view.h"
#include "crds/contract/assignment.h"

namespace trainyard::decide {

/// The agents of the job's living pods, by pod UID: of those that have one. With the engine Custom an agent is only polled, for the
/// progress that it may tell: what its ranks are, it knows by the environment. An assignment goes to all workers of a gang or to none: once each has an address
/// and an agent that answered, so that no rank waits for one that can't come. It follows from the status as it is in the API server,
/// never from one that is still to be written.
///
/// Under one generation its content stays the same (assignment.h). Who has taken it is told no more than to stop, or that it is
/// released, in an amendment. Who has not is told nothing once the spec was edited: restart.cc then begins the next generation.
/// Released is also whose pod is being deleted while no checkpoint can be written any more, since the gang is taken apart, goes on
/// without it, or has lost a worker: its ranks end at once, rather than wait for lost peers until their grace is over.
std::map<std::string, std::optional<contract::Assignment>> assignments(const Cluster& cluster, const Job& job,
                                                                       const GangView& gang);

}  // namespace trainyard::decide
