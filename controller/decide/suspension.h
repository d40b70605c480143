#pragma once
// spec.suspend: a checkpoint, then no pods; and back.

#include "controller/decide/review.h"

namespace trainyard::decide {

/// True where the job is suspended or on its way there, so that nothing else is to be done for it. A suspension that was begun is
/// carried through, even when the user has changed his mind meanwhile: the ranks have been told to stop.
bool suspend(Review& review);

}  // namespace trainyard::decide
