#pragma once
// A gang that does not come up in time: who is late, whether a node is at fault, and how long the gang stands back before it is placed
// anew.

#include <optional>

#include "controller/decide/review.h"

namespace trainyard::decide {

/// Failure::reason of a gang that is not up within lifecycle.startTimeoutSeconds.
inline constexpr const char* kStartTimeout = "StartTimeout";

/// Nothing where everybody is up, or still has time, by whose end it is looked at again. Of class Infrastructure where nodes are at fault
/// (avoided_nodes.h), since others of the gang came up; but not again and again: the second in a row, and whatever has no node at fault, is
/// Unknown, so that lifecycle.maxRestarts ends a gang of which always some worker stays away.
std::optional<contract::Failure> start_timeout(Review& review);

/// Of a gang that failed by it: the worker is late, and it is worth trying another node for it: others came up, or the gang lies on
/// this node alone and the kubelet names no image and no setting of the container that would be as bad elsewhere.
bool is_kept_by_its_node(const Review& review, const Worker& worker);

/// Until when a gang that was removed for it leaves its room to others: 10 s after the first failure in a row, then 20, 40, … s, at most
/// five minutes, which is less than its nodes are avoided. The past where the last failure was another one.
Time starts_again_at(const contract::TrainingJobStatus& status);

}  // namespace trainyard::decide
