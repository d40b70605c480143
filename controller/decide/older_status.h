#pragma once
// What a status lacks that an older controller wrote, whose gangs had workers.count workers and no word for it.

#include "controller/decide/review.h"

namespace trainyard::decide {

/// True where the gang's size was filled in, before anything is decided by it: workers.count may have been edited since, as by
/// `kubectl scale`.
bool complete_older_status(Review& review);

}  // namespace trainyard::decide
