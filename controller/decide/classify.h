#pragma once
// Whose fault a failure is, by a table of what systems print and of what Kubernetes says (docs/design/0009-failures.md).

#include <string>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// What is known beside the failure itself.
struct Circumstances {
  std::string pod_reason;        // status.reason: Evicted, Terminated, …
  std::string container_reason;  // OOMKilled, StartError, ContainerCannotRun, Error
  bool memory_limited = false;   // the container has a memory limit
  bool memory_pressure = false;  // its node says that it has too little memory left
  bool has_gpus = false;         // its job asks for GPUs
  bool peers_are_told =
      false;  // the program says by itself that it lost another one (the engine Trainyard): its log tells nothing of that
  std::string node_trouble;  // what the node says of itself: a condition that speaks of broken hardware
};

/// Verdict::reason where the kernel killed since the node, not the container, had no memory left.
inline constexpr const char* kNodeOutOfMemory = "NodeOutOfMemory";

struct Verdict {
  contract::FailureClass failure_class = contract::FailureClass::kUnknown;
  std::string reason;         // CamelCase; empty: none better than the failure has
  std::string line;           // that told it; empty: no line did
  bool is_secondary = false;  // it may follow from the failure of another worker, which then is the cause
  bool blames_node = false;   // the next attempt is better made elsewhere
};

/// By the failure's exit code and signal, its message and last lines, and the circumstances. A class that the failure has already stays: an
/// engine that names one knows better; but that it has lost another rank tells no class.
Verdict classify(const contract::Failure& failure, const Circumstances& around);

}  // namespace trainyard::decide
