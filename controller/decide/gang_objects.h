#pragma once
// What a gang's pods need beside themselves.

#include <vector>

#include "controller/decide/plan.h"

namespace trainyard::decide {

/// The Secret with the job's key, where its pods have an agent; with the engine Custom the headless Service. To be created before the
/// pods; all of it may exist already.
std::vector<Action> gang_objects(const Job& job, const Settings& settings);

}  // namespace trainyard::decide
