#pragma once
// What a recording of a Timeline says of what it had no room for.

namespace trainyard::mesh {

/// The name of its last event where it has not all that happened: from the end of the first span that is left out to that of the last;
/// Event::number of them.
inline constexpr const char* kLeftOut = "left out";

}  // namespace trainyard::mesh
