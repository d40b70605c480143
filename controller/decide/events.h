#pragma once
// Events: one for each transition that people wait for, and one for each notice of an agent.

#include <vector>

#include "controller/decide/plan.h"
#include "controller/decide/worker_view.h"

namespace trainyard::decide {

/// What is to be told of a job when its status becomes `next`.
std::vector<Action> transition_events(const Job& job, const contract::TrainingJobStatus& next);

/// The agents' notices that are not events yet.
std::vector<Action> notice_events(const Job& job, const GangView& gang);

/// One of its kind happens to a spare once.
Event spare_event(const Job& job, EventType type, const char* reason, std::string message, const Pod& pod);

/// A gang was placed with fewer workers than the job asks for.
Event placed_smaller_event(const Job& job, const contract::TrainingJobStatus& next, const std::string& why);

}  // namespace trainyard::decide
