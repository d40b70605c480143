#pragma once
// `trainyard-worker run job.yaml`: the same agent and ranks on this machine, without a cluster.

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "worker/agent/console.h"

namespace trainyard::agent {

struct RunCommand {
  std::string manifest;                    // path of the YAML file
  std::vector<std::string> path_mappings;  // FROM=TO each
  std::string rank_program;
  Console::Options console;
};

// Exit codes of `run`.
inline constexpr int kRunSucceeded = 0;
inline constexpr int kRunFailed = 1;
inline constexpr int kRunRefused = 2;   // the manifest has problems; nothing was started
inline constexpr int kRunStopped = 75;  // stopped by Ctrl-C or SIGTERM after a checkpoint; run again to go on
inline constexpr int kRunInterrupted =
    130;  // a second Ctrl-C: ranks were killed, what they did since the last checkpoint is lost

/// Trains until the job has succeeded, has failed more than lifecycle.maxRestarts allows, is past lifecycle.activeDeadlineSeconds, or is
/// stopped. Returns one of the exit codes above. Throws std::invalid_argument for a path mapping or a rank program that is none.
int run_locally(const RunCommand& command, std::ostream& out, std::ostream& problems);

}  // namespace trainyard::agent
