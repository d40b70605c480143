#pragma once
// The line of the jobs that wait for nodes.

#include <cstdint>
#include <optional>
#include <vector>

#include "controller/decide/placement.h"
#include "controller/decide/priority.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {

/// A job that waits for nodes, and for which workers.
struct Candidate {
  const Job* job = nullptr;
  const PodNeeds* needs = nullptr;  // of each of its pods; none: the API server was not asked about them yet
  Priority priority;
  GangView gang;
  std::vector<std::int32_t> missing;  // workers without a pod that can be kept
  std::optional<Time> blocked_until;  // their last pods may still run
  bool has_others() const { return missing.size() < gang.workers.size(); }
};

/// Those that others of their gang wait for, then those of the highest priority, then the oldest; fair_order.h says whose turn it is.
std::vector<Candidate> line(const Cluster& cluster, Time now);

/// What is to be placed for it, on nodes with the labels of its queue's flavor.
Gang gang_of(const Cluster& cluster, const Candidate& candidate, const PodNeeds& needs, Time now, const Labels& flavor);

}  // namespace trainyard::decide
