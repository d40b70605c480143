#pragma once
// What the agents tell of the training, copied into the status.

#include "controller/decide/review.h"

namespace trainyard::decide {

/// The progress and the newest checkpoint of the present generation; numbers have 6 significant digits.
void copy_progress(Review& review);

/// 6 significant digits, so that a status is readable and does not change with noise.
double rounded(double value);

}  // namespace trainyard::decide
