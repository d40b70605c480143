#pragma once
// How jobs end, and what becomes of what has ended.

#include <string>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// Every worker is done: Complete.
void succeed(Review& review);
/// Failed, for good. `failure`: the first cause, where it was one.
void fail(Review& review, const std::string& reason, const std::string& message);

/// lifecycle.activeDeadlineSeconds since status.startTime. True where the job failed by it.
bool enforce_deadline(Review& review);

/// Of a finished job: pods whose agent doesn't end by itself go, and the job too when lifecycle.ttlSecondsAfterFinished is over.
/// Pods that ended stay for their logs.
void clean_up(Review& review);

}  // namespace trainyard::decide
