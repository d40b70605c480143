#pragma once
// What a status lacks that an older controller wrote: its gangs had workers.count workers and no word for it, it did not say what status.resize
// is about, and it named specs by all of their fields, so that a release with one more would take every one for edited.

#include "controller/decide/review.h"

namespace trainyard::decide {

/// True where something was filled in, before anything is decided by it: workers.count may have been edited since, as by `kubectl scale`.
bool complete_older_status(Review& review);

}  // namespace trainyard::decide
