#pragma once
// What would become of a job with spec.dryRun: the decision that would be made if it were none.

#include <map>

#include "controller/decide/plan.h"

namespace trainyard::decide {

/// schedule(), without the answers to dry runs.
using PlaceAll = std::map<ObjectKey, Plan> (*)(const Cluster& cluster, Time now);

/// Adds the answers to `plans`: of the dry runs that were accepted and of which it is the turn. Each is answered again after kDryRunAnswered,
/// or later where there are many; at most one a look, the one that has waited longest, since an answer costs a copy of the cluster and
/// another look.
void answer_dry_runs(const Cluster& cluster, Time now, PlaceAll place_all, std::map<ObjectKey, Plan>& plans);
inline constexpr std::chrono::seconds kDryRunAnswered{15};

}  // namespace trainyard::decide
