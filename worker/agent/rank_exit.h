#pragma once
// How a rank ended, and what a person should read about it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/state.h"
#include "crds/contract/time.h"

namespace trainyard::agent {

/// Who this agent is.
struct Worker {
  std::string pod_uid;
  std::string bind_address;  // the pod's IP
  std::string node;
  std::int32_t cpus = 1;  // that this container may use
};

struct RankExit {
  std::int32_t rank = 0;
  int exit_code = 0;            // where it ended by itself
  int signal = 0;               // where a signal ended it
  bool out_of_memory = false;   // the kernel's OOM killer struck in this container meanwhile
  std::string could_not_start;  // the program was not even started: why
  std::vector<std::string> last_lines;
  bool operator==(const RankExit&) const = default;
};

enum class ExitKind { kFinished, kStopped, kPeerLost, kFailed };
ExitKind kind_of(const RankExit& exit);

/// The failure as the job's status shows it: the rank's own words where it had time for some, else what the exit tells.
contract::Failure failure_of(const RankExit& exit, const std::optional<contract::Failure>& reported, const Worker& worker,
                             std::int32_t worker_index, contract::Time at);

}  // namespace trainyard::agent
