#pragma once
// A step's spans in Chrome's trace format, which ui.perfetto.dev reads.
// Source: "Trace Event Format", the complete events (ph X) and the metadata events (ph M).

#include <cstdint>
#include <ostream>
#include <vector>

#include "worker/mesh/timeline.h"

namespace trainyard::trainer {

/// Writes a JSON object with a track for the rank's own work and one for each of its groups. `offset`: what is added to the events' seconds so that they
/// are since 1970, and the files of several ranks lie beside each other when they are joined.
void write_trace(std::ostream& out, const std::vector<mesh::Event>& events, std::int32_t rank, double offset);

}  // namespace trainyard::trainer
