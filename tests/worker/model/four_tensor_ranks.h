#pragma once

#include "crds/contract/layout.h"

namespace trainyard::model {

inline contract::Layout four_tensor_ranks() { return contract::Layout({.tp = 4}, 4); }

}  // namespace trainyard::model
