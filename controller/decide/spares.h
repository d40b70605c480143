#pragma once
// Warm spares (spec.workers.spares): pods beyond the workers of a gang that hold their devices and do nothing, until one takes the place of a
// worker that is lost. That is a line in the status (SparesStatus::standIns), written with the decision to restart; the pod and its labels
// stay as they are, and its agent is given the next generation as any other's. docs/design/0021-warm-spares.md. How they are made:
// spare_places.h.

#include <cstdint>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

struct GangView;
struct Review;

/// The place that the pod took as a spare; nothing where it has none.
const contract::StandIn* stand_in_of(const contract::TrainingJobStatus& status, const Pod& pod);
/// It was made as a spare, and has no worker's place.
bool is_idle_spare(const contract::TrainingJobStatus& status, const Pod& pod);

/// How many the gang should have: none where it is not there, or has fewer workers than were asked for.
std::int32_t spares_wanted(const contract::TrainingJobSpec& spec, const contract::TrainingJobStatus& status);
/// How many have their place, and count in the job's quota.
std::int32_t spares_placed(const contract::TrainingJobStatus& status);

/// Of a gang that waits for the workers that it lost: gives their places to spares that are ready, as many as there are, so that few bytes of
/// a step cross the widest level of the topology, then the next. Not the place of a pod whose ranks may still run. The next generation begins
/// with schedule(), as for every gang that has all its pods again.
void take_over(Review& review);
/// Whether take_over() would give a place away: nodes for new pods are looked for after that.
bool may_take_over(const Cluster& cluster, const Job& job, const GangView& gang, Time now);

/// Removes spares that have ended, have to leave their node, did not come up within lifecycle.startTimeoutSeconds, or are too many, and tells
/// how many are left. The gang is not touched, and no restart counted.
void tend_spares(Review& review);

}  // namespace trainyard::decide
