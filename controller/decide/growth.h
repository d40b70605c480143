#pragma once
// Gangs that train with fewer workers than were asked for get more (elastic.h), of the room that is left once those that wait have had their
// turn. They wait for that to last, or stay as they are and say why; resizing.h is how they grow.

#include <map>

#include "controller/decide/plan.h"
#include "controller/decide/room.h"

namespace trainyard::decide {

/// Adds their plans; one that has a plan is left alone. Where many gangs are unlike any other and find no room, a few of those that are left
/// are looked at in turn, each for long enough to grow.
void grow_those_that_run(const Cluster& cluster, Time now, Room& room, std::map<ObjectKey, Plan>& plans);

}  // namespace trainyard::decide
