#pragma once
// A job's priority: who is placed first, and who may take whose place.

#include <optional>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

struct Priority {
  std::int32_t value = 0;
  bool preempts = true;  // may take the place of jobs of a lower value
  bool is_known = true;  // its class is there
  bool operator==(const Priority&) const = default;
};

/// Of the PriorityClass that spec.priorityClassName names, or else the template; without either of the cluster's default class, or 0.
/// As the API server's admission plugin Priority does for pods, but at any time: another class, or another value of it, counts at once.
/// Of a class that is not there it is 0, and the job neither stops others nor is stopped: to change a class it is deleted and made anew.
Priority priority_of(const Cluster& cluster, const Job& job);

/// The name of the class is none of the cluster's.
std::optional<contract::Problem> unknown_priority_class(const Cluster& cluster, const Job& job);

}  // namespace trainyard::decide
