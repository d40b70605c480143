#pragma once
// Failures that no agent reports, from what the API server shows of pods and nodes.

#include <cstdint>
#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// Of a worker without a pod.
contract::Failure worker_gone(std::int32_t worker);
/// Of a pod that ended without a last word: evicted, out of memory, crashed. What class that is, classify.h says.
contract::Failure pod_ended(const Pod& pod);

/// The reason of a program that ended (engine Custom), before it is known why.
inline constexpr const char* kProgramExited = "WorkerExited";
/// The same of a program that has no agent (engine Custom): by its exit code, and what it left as a termination message. Where that ends with
/// torchrun's summary, by what torchrun says of the rank that failed first. words_of_end() completes the message.
contract::Failure program_ended(const Pod& pod);
/// ": " and the line that tells most, or the last one.
std::string words_of_end(const contract::Failure& failure, const std::string& telling_line);

/// Has its words say that its node had no memory left, whatever limit the container has.
void tell_of_memory_pressure(contract::Failure& failure, const Pod& pod);

/// Of a pod that lives, as far as the API server knows, and can't be had any more. `how`: "its node node-3 is not ready".
contract::Failure pod_lost(const Pod& pod, const char* reason, const std::string& how, Time since);
/// Of a pod that was deleted: by whoever it was, or since it has to leave its node.
contract::Failure pod_deleted(const Cluster& cluster, const Pod& pod, const std::string& how, Time since);

}  // namespace trainyard::decide
