#include "controller/kube/lease.h"

#include "controller/kube/json_text.h"

namespace trainyard::kube {
namespace {

std::int64_t number_at(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_number_integer() ? at->get<std::int64_t>() : 0;
}

}  // namespace

LeaseRecord read_lease(const Json& lease) {
  LeaseRecord record;
  const auto spec = lease.find("spec");
  if (spec == lease.end() || !spec->is_object()) return record;
  record.holder = text_at(*spec, "holderIdentity");
  record.duration = std::chrono::seconds(number_at(*spec, "leaseDurationSeconds"));
  record.acquired = contract::parse_rfc3339(text_at(*spec, "acquireTime")).value_or(contract::Time{});
  record.renewed = contract::parse_rfc3339(text_at(*spec, "renewTime")).value_or(contract::Time{});
  record.transitions = static_cast<std::int32_t>(number_at(*spec, "leaseTransitions"));
  return record;
}

Json write_lease(Json base, const LeaseRecord& record) {
  base["apiVersion"] = "coordination.k8s.io/v1";
  base["kind"] = "Lease";
  Json& spec = base["spec"];
  spec["holderIdentity"] = record.holder;
  spec["leaseDurationSeconds"] = record.duration.count();
  spec["acquireTime"] = contract::to_rfc3339_micro(record.acquired);
  spec["renewTime"] = contract::to_rfc3339_micro(record.renewed);
  spec["leaseTransitions"] = record.transitions;
  return base;
}

bool may_acquire(const LeaseObservation& seen, const std::string& identity, std::chrono::steady_clock::time_point now) {
  return seen.record.holder.empty() || seen.record.holder == identity || now - seen.changed_at >= seen.record.duration;
}

LeaseRecord acquired_lease(const LeaseRecord& last, const std::string& identity, std::chrono::seconds duration,
                           contract::Time now) {
  const bool renews = last.holder == identity;
  return {.holder = identity,
          .duration = duration,
          .acquired = renews ? last.acquired : now,
          .renewed = now,
          .transitions = last.transitions + (renews ? 0 : 1)};
}

LeaseRecord released_lease(const LeaseRecord& last, contract::Time now) {
  // As client-go: a duration of one second, so that a candidate who does not know that empty means free need not wait long either.
  return {.holder = "", .duration = std::chrono::seconds(1), .acquired = now, .renewed = now, .transitions = last.transitions};
}

}  // namespace trainyard::kube
