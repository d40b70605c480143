#pragma once
// When gangs are expected to free their nodes, and how long those that wait will take. Estimates: they order and delay, they never end
// a job.

#include <optional>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// When a gang that has pods frees its nodes, not before `now`: where it is vacating, once the grace for its checkpoint is over; else by
/// the time left that its ranks report, or at its deadline, whichever is earlier. Nothing where nobody can know.
std::optional<Time> expected_end(const Job& job, Time now);

/// When a job that waits would be over if it were placed now: at its deadline. Nothing where it has
/// none.
std::optional<Time> expected_end_if_started(const Job& job, Time now);

}  // namespace trainyard::decide
