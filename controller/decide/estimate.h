#pragma once
// What the status tells of a place: the bytes and seconds of each level, the memory of a rank, and how fast the job can be there at best.

#include <string>
#include <vector>

#include "controller/decide/topology.h"

namespace trainyard::decide {

/// Fills in what follows from the layout, and from where worker i lies, on nodes[i]: traffic, memoryPerRank, offloadBytesPerStep, and, of GPUs
/// whose model or memory the nodes tell (devices.h), the seconds, memoryPerRank.device and estimate (worker/plan/roofline.h, by the slowest of
/// its devices). What the nodes don't tell is said in `unknown`. Nothing with the engine Custom. `nodes` with empty names, where kube-scheduler
/// chooses: as much as can be said without them.
void tell_place(const Topology& topology, const contract::TrainingJobSpec& spec, const std::vector<std::string>& nodes,
                contract::PlacementStatus& place);

}  // namespace trainyard::decide
