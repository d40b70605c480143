#pragma once
// What a failure leads to.

#include "controller/decide/review.h"

namespace trainyard::decide {

/// Of a gang that was complete: finds out whether it goes on, is done, has failed, or is to be restarted, and does what follows.
///   all workers are done                          -> Complete
///   a failure (failure_policy.h): that ends all   -> Failed, at once
///       counted, and maxRestarts are used         -> Failed
///       and every pod can go on                   -> the next generation, in the same pods
///       and some can't, or have to leave          -> Placed=False WorkerLost: these alone are replaced, by spares that are ready
///                                                    (spares.h) and else by schedule()
///   pods on nodes that they have to leave         -> are deleted; a failure follows once the gang has stopped
///       with the engine Custom                    -> Placed=False GangRemoved: a program that ended is not started again in its pod
///   not up within lifecycle.startTimeoutSeconds,
///   or an agent that refuses its assignment       -> Placed=False GangRemoved: all are placed anew a while later (start_timeout.h)
///   the spec was edited before all agents had it  -> the next generation, in the same pods; not counted
///   a kubelet rejected a pod                      -> Placed=False LostRace; not counted
/// While only failures are known that follow from another, that one is waited for a little. True where the gang goes on.
bool watch_gang(Review& review);

/// Of a gang that waits for nodes: removes the pods that can't be kept, and all of them where that was decided.
void thin_out(Review& review);

}  // namespace trainyard::decide
