#pragma once
// Amounts of resources by name: what a pod asks for, what a node has.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crds/contract/fields.h"

namespace trainyard::decide {

/// A resource that every pod takes one of and that a node has a limited number of.
inline constexpr std::string_view kPods = "pods";

/// Amounts in the units of quantity.h, sorted by name; a name that is not there has the amount 0. Small and cheap to copy: there is
/// one for each of 100,000 pods. Sums saturate, so that a subtraction does not always undo an addition.
class Resources {
 public:
  using Entry = std::pair<std::string, std::int64_t>;

  Resources() = default;
  Resources(std::initializer_list<Entry> entries);

  std::int64_t operator[](std::string_view name) const;
  void set(std::string_view name, std::int64_t amount);
  Resources& operator+=(const Resources& other);
  Resources& operator-=(const Resources& other);
  /// Each amount is the greater of the two.
  void raise_to(const Resources& other);
  /// Each amount is the lesser of the two.
  void lower_to(const Resources& other);
  const std::vector<Entry>& entries() const { return entries_; }
  bool operator==(const Resources&) const = default;

 private:
  std::int64_t& amount_of(std::string_view name);
  std::vector<Entry> entries_;
};

/// So many times the amounts.
Resources times(const Resources& amounts, std::int64_t number);

/// By how much each amount is above the other's; nothing of those that are not.
Resources excess(const Resources& amounts, const Resources& other);

/// A Kubernetes ResourceList ({"cpu": "500m", "nvidia.com/gpu": 8}). Values that are no quantities are added to `problems`.
Resources read_resources(const contract::Json& list, const std::string& path, std::vector<contract::Problem>& problems);

/// What a pod with this spec takes from its node, "pods": 1 included. As kube-scheduler counts it: the greater of the containers'
/// sum and what the init containers need in turn (sidecars, restartPolicy Always, stay and add up), or what the pod as a whole asks for
/// instead (spec.resources), plus overhead; requests left out are the limits.
/// Source: k8s.io/component-helpers/resource.PodRequests; KEP-753, KEP-2837.
Resources pod_requests(const contract::Json& pod_spec, std::vector<contract::Problem>& problems);

}  // namespace trainyard::decide
