#pragma once
// A gang whose pods are being made.

#include <string>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// Of a gang in CreatingWorkers: true while pods of it are missing, which schedule() makes, again and again where the API server refuses
/// them (a quota, an admission webhook); the condition Placed has its words. After lifecycle.startTimeoutSeconds the pods that are
/// there go, since they hold their nodes in vain (GangRemoved), and the gang makes room for others for Settings::refused_wait. They go at
/// once where the template was changed, since the others would be made from another one. A gang that may be smaller (elastic.h), or was
/// before it grew, goes on with the pods that it got once it was asked for the others for Settings::template_retry.
bool watch_creation(Review& review);

/// Whether programs of a gang with the engine Custom, which wait for nobody's word to begin, have ended. One whose pod is missing then was
/// lost, or could not be made in time: alone it would wait for the others for ever.
bool programs_have_ended(const Job& job, const GangView& gang);

/// Until when the gang makes room, since its pods were refused, or did not come up (start_timeout.h); the past where it does not.
Time makes_room_until(const Cluster& cluster, const Job& job);

/// "4 workers on 2 nodes"; "4 of 8 workers on 2 nodes" of a gang that has not as many as were asked for; "4 workers on 2 nodes and 1 of 2 spares".
std::string placed_message(const contract::TrainingJobSpec& spec, const contract::TrainingJobStatus& status);
/// The same of one that trains, and why it has not more.
inline std::string placed_message(const std::string& placed, const std::string& why_not_more) {
  return placed + ", since " + why_not_more;
}
/// Whether the condition Placed tells that of this gang.
bool tells_why_not_more(const contract::TrainingJobStatus& status, const std::string& placed);

}  // namespace trainyard::decide
