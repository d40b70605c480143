#pragma once
// A job frees its nodes: a checkpoint, then no pods. Because the user wants it (spec.suspend), and back; for another job
// (preemption.h), or since its queue is drained, after which it waits for its place again.

#include "controller/decide/review.h"

namespace trainyard::decide {

/// True where the job is suspended, or on its way to have no pods, so that nothing else is to be done for it. What was begun is carried
/// through, even when the user has changed his mind meanwhile, or the job that wanted the nodes is gone: the ranks have been told to stop.
bool vacate(Review& review);

}  // namespace trainyard::decide
