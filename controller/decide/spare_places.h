#pragma once
// Nodes and quota for warm spares (spares.h): with their gang when it starts, at its turn; later of what is left when all that wait had their
// turn. Nobody waits for them, and nobody is stopped for them.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controller/decide/plan.h"
#include "controller/decide/room.h"

namespace trainyard::decide {

/// The nodes of the spares of a gang that starts at `place`, taken from the room; their quota is added to the gang's. As many as there are of
/// both. First those on which the gang has no worker, since a spare would be lost together with one.
std::vector<std::string> take_spare_places(const Cluster& cluster, Time now, Room& room, const Candidate& candidate,
                                           Room::Place& place, const std::set<std::string>& avoided,
                                           const std::vector<Reservation*>& binding);

/// What a gang says of its spares that starts with so many; nothing where it is to have none.
std::optional<contract::SparesStatus> spares_status(const Job& job, std::size_t number, Time now);
/// The pods of the last of those that the status counts as made.
std::vector<Action> spare_pods(const Job& job, const Settings& settings, const contract::TrainingJobStatus& status,
                               const std::vector<std::string>& nodes, const std::string& pod_group);

/// Adds plans that make the spares which gangs lack; a job that has a plan is left alone. One whose spares do not come up, or whose pods the
/// API server refuses, waits 10 s, then 20, … up to 10 min.
void make_spares(const Cluster& cluster, Time now, Room& room, std::map<ObjectKey, Plan>& plans);

}  // namespace trainyard::decide
