#pragma once
// The conditions Running and Progressing of a gang that goes on: who is up, what keeps the others, whether steps are done.

#include "controller/decide/review.h"

namespace trainyard::decide {

void tell_how_it_runs(Review& review);

/// Its container waits for something that it may wait for in vain, and the kubelet says for what: an image, a setting that is wrong.
bool is_stuck(const WorkerPod& pod);

/// What is still waited for of a worker that does not come up.
std::string waits_for(const Worker& worker);

}  // namespace trainyard::decide
