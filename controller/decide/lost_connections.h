#pragma once
// Connections between workers that break again and again, as where a network adapter or its cable is broken: no rank fails, and each
// restart in the same pods goes well for a while.

#include <optional>
#include <string>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// The node that the gang had better leave: where connections broke for a second time in a row within half an hour. That of the worker
/// whom most failures name as their peer, by its address or its pod's name; where they name several equally often, of the one that
/// `cause` names; where nobody names one, of the worker that reported it. Nothing for the first time, which is most often the last, and
/// for every other failure.
std::optional<std::string> node_that_loses_connections(const Review& review, const contract::Failure& cause);

}  // namespace trainyard::decide
