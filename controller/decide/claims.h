#pragma once
// Whether the volumes are there that a gang's pods are to mount. A pod whose claim does not exist, or is not bound, waits on its node for
// as long as that lasts; a gang of such pods would hold its GPUs and train nothing.

#include <optional>
#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

struct ClaimTrouble {
  const char* reason;   // of the condition Placed
  std::string message;  // which claim, and what to do
};

/// Nothing where the job's pods can mount all claims that they name. Any binding needs claims that exist. An unbound one is for binding
/// Scheduler: kube-scheduler chooses a volume for the node, and then waits for it; with Direct nobody would.
std::optional<ClaimTrouble> claim_trouble(const Cluster& cluster, const Job& job, const PodNeeds& needs);

/// From which nodes the job's pods can mount the volumes of their claims: NodeRules::volume_terms.
std::vector<Json> volume_terms(const Cluster& cluster, const Job& job, const PodNeeds& needs);

}  // namespace trainyard::decide
