#pragma once
// The Lease object by which controllers agree who leads, as client-go writes it, and the rule for who may take it. Pure.
// Source: https://pkg.go.dev/k8s.io/client-go/tools/leaderelection, https://kubernetes.io/docs/concepts/architecture/leases/

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "controller/kube/kube_api.h"
#include "crds/contract/time.h"

namespace trainyard::kube {

struct LeaseRecord {
  std::string holder;  // empty: released
  std::chrono::seconds duration{0};
  contract::Time acquired{};
  contract::Time renewed{};
  std::int32_t transitions = 0;
  bool operator==(const LeaseRecord&) const = default;
};

/// The record of a coordination.k8s.io/v1 Lease; what is missing or malformed is left at its default.
LeaseRecord read_lease(const Json& lease);
/// The object, made from `base` (what the server had, with its resourceVersion; or an object with a name) and the record.
Json write_lease(Json base, const LeaseRecord& record);

/// What one candidate saw of a lease. Others' clocks are not trusted: a lease has run out when its record has not *changed* for its
/// duration, by this candidate's own steady clock.
struct LeaseObservation {
  LeaseRecord record;
  std::chrono::steady_clock::time_point changed_at{};
};

/// Whether `identity` may write itself into the lease at `now`.
bool may_acquire(const LeaseObservation& seen, const std::string& identity, std::chrono::steady_clock::time_point now);

/// The record that `identity` writes to acquire or renew.
LeaseRecord acquired_lease(const LeaseRecord& last, const std::string& identity, std::chrono::seconds duration,
                           contract::Time now);
/// The record that a leader writes when it steps down: anyone may take it at once.
LeaseRecord released_lease(const LeaseRecord& last, contract::Time now);

}  // namespace trainyard::kube
