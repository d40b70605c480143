#pragma once
// The program trainyard-rank, but for what only a process can do: from its configuration to its exit code.

#include <functional>
#include <string>

#include "crds/contract/assignment.h"
#include "worker/report/reporter.h"

namespace trainyard::trainer {

/// What the rank program reads as its first line. Throws contract::UserError, with all problems of the line, where it is none, and where
/// the spec is not one that this program can train.
contract::RankConfig read_config(const std::string& line);

/// Connects, trains, and reports. Returns the exit code (crds/contract/state.h); every failure is reported before.
int run_rank(const contract::RankConfig& config, report::Reporter& reporter,
             const std::function<contract::RankControl()>& control);

/// Calls `body`, and turns what it throws into a report of the failure and the exit code that belongs to it.
int guarded(report::Reporter& reporter, const std::function<int()>& body);

}  // namespace trainyard::trainer
