#pragma once
// The plan for a gang that has found its place in a look at the line, or goes on with fewer workers for want of one.

#include <string>

#include "controller/decide/line.h"
#include "controller/decide/plan.h"
#include "controller/decide/room.h"

namespace trainyard::decide {

/// Raises the generation and creates what the pods need beside themselves, then those that are missing, then its spares. `place`: their nodes and the quota;
/// without nodes where none is missing. `why_not_all`: of a gang with fewer workers than were asked for.
Plan start_gang(const Cluster& cluster, Time now, const Room& room, const Candidate& candidate, const Room::Place& place,
                const std::string& why_not_all);

/// The gang is to go on without some of its workers, which go first; then the others get what is missing.
Plan shrink_gang(const Cluster& cluster, Time now, const Candidate& candidate, const std::string& why_not_all);

}  // namespace trainyard::decide
