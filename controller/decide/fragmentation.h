#pragma once
// How much of what is free lies in pieces: the number to watch before large gangs wait though there is room.

#include <string>
#include <vector>

#include "controller/decide/topology.h"

namespace trainyard::decide {

/// By level, from the widest to the narrowest and last for nodes: the share of the free amount of a resource that lies in domains of which
/// something is in use. 0: all of it is in whole domains, or nothing is free; 1: no free domain is whole. Nodes that take no new pods,
/// as they are not ready or cordoned, are left out. Cost: O(nodes + domains).
std::vector<double> fragmentation(const Topology& topology, const std::string& resource);

}  // namespace trainyard::decide
