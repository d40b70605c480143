#pragma once
// The conditions Running and Progressing of a gang that goes on: who is up, what keeps the others, whether steps are done.

#include "controller/decide/review.h"

namespace trainyard::decide {

void tell_how_it_runs(Review& review);

/// What is still waited for of a worker that does not come up.
std::string waits_for(const Worker& worker);

}  // namespace trainyard::decide
