#pragma once
// Says why a gang can't be placed: in numbers, with the nodes and the holders.

#include <string>

#include "controller/decide/placement.h"

namespace trainyard::decide {

struct Explanation {
  bool never = false;  // not even on empty, healthy nodes: waiting is in vain until nodes are added or the job is changed
  std::string
      message;  // "needs 4 workers …; 2 fit now. Of 32 nodes, 3 are cordoned, 27 are too full: nvidia.com/gpu is held by …"
};

Explanation explain(const Cluster& cluster, const Topology& topology, const Gang& gang, const NoRoom& no_room);

}  // namespace trainyard::decide
