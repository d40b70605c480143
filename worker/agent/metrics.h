#pragma once
// GET /metrics: the agent's state in Prometheus' text format.

#include <cstdint>
#include <string>

#include "crds/contract/state.h"
#include "worker/agent/agent_core.h"

namespace trainyard::agent {

struct RankCounts {
  std::int64_t started = 0;
  std::int64_t failed = 0;
};

/// Gauges of the training appear only where this agent has the reporting rank; those of single ranks everywhere.
std::string metrics_text(const contract::State& state, const RankCounts& counts, const Measured& measured);

}  // namespace trainyard::agent
