#pragma once
// Which gangs hold which part of the cluster, and until when: what room there will be.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "controller/decide/priority.h"
#include "controller/decide/topology.h"

namespace trainyard::decide {

/// What the pods of a job hold; or, apart from the others, what a pod holds that is about to leave its node: it is being deleted, or its
/// job is over or gone.
struct Holding {
  const Job* job = nullptr;  // none: it is gone, or the pod is another's
  std::optional<Time> ends;  // expected_end()
  Priority priority;
  bool is_vacating = false;
  double lost_work =
      0;  // GPU-seconds (worker-seconds on CPUs) since its last durable checkpoint: what is done again if it stops now
  std::vector<std::pair<std::size_t, const Resources*>> pods;  // the node's index in the topology, and what the pod takes there
};

/// Those that are expected to end first come first; then those whose end nobody knows, the oldest first. That order stays as new gangs
/// come, so that the room which is kept for a job that waits does not wander.
bool ends_before(const Holding& a, const Holding& b);
/// In that order. Cost: O(pods).
std::vector<Holding> holdings(const Cluster& cluster, const Topology& topology, Time now);

/// Holding::lost_work of a gang that is placed.
double lost_work(const Job& job, Time now);

/// The gang is gone from the topology.
void release(Topology& topology, const Holding& holding);

}  // namespace trainyard::decide
