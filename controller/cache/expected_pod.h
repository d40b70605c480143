#pragma once
// A pod that is about to be made: it takes up room, and has a UID that none can have, until the server gives it one.

#include <string_view>

#include "controller/decide/cluster.h"

namespace trainyard::cache {

inline constexpr std::string_view kExpected = "expected ";  // begins that UID

inline bool is_expected(const decide::Pod& pod) { return pod.uid.starts_with(kExpected); }

}  // namespace trainyard::cache
