#pragma once
// Because of whom a gang stood still, from what all its agents tell: one agent knows its own ranks alone.

#include "controller/decide/cluster.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {

/// The cause with rank, worker, node and words of the whole gang's view, where it is a hang, or a call that ranks had waited in for long
/// before they gave up, and somebody can be named; else as it is.
contract::Failure explain_hang(const Job& job, const GangView& gang, contract::Failure cause);

}  // namespace trainyard::decide
