#pragma once
// A gang that trains becomes another number of workers (elastic.h): its ranks write a checkpoint and stop, and go on from that in the next
// generation. The pods that it keeps stay; schedule() finds nodes for those that come, and those that go are removed first.

#include <cstdint>
#include <string>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// Tells the ranks to stop, since the gang is to have so many workers. `why` goes on after that number.
void begin_resize(Review& review, std::int32_t workers, const std::string& why);

/// True where the ranks are stopping for it; fewer workers than there are begin it here, where the gang would be placed again. What was begun is
/// carried through, but for a suspension and a drain, which make an end of it, and for a failure, whose consequences place the gang anew:
/// one that was to grow of itself is left as large as it is for a while. Nobody waits for its nodes, so a checkpoint that
/// takes longer than lifecycle.checkpointGraceSeconds is waited for, up to kResizePatience.
bool resize(Review& review);
inline constexpr std::chrono::seconds kResizePatience{600};

}  // namespace trainyard::decide
