#pragma once
// Failures that no agent reports, from what the API server shows of pods and nodes.

#include <cstdint>
#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// Of a worker without a pod.
contract::Failure worker_gone(std::int32_t worker);
/// Of a pod that ended without a last word: evicted, out of memory, crashed.
contract::Failure pod_ended(const Pod& pod);
/// The same of a program that has no agent (engine Custom): by its exit code, and what it left as a termination message.
contract::Failure program_ended(const Pod& pod);
/// Whether what a program left says that another one went first: the words of Gloo, NCCL and the kernel for a connection that broke.
bool tells_of_a_lost_peer(const Pod& pod);
/// Of a pod that lives, as far as the API server knows, and can't be had any more. `how`: "its node node-3 is not ready".
contract::Failure pod_lost(const Pod& pod, const char* reason, const std::string& how, Time since);

}  // namespace trainyard::decide
