#include "controller/decide/resources.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "controller/decide/json_lookup.h"
#include "controller/decide/quantity.h"

namespace trainyard::decide {
namespace {

using contract::Json;
using contract::Problem;

std::int64_t saturated_sum(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (__builtin_add_overflow(a, b, &sum)) return a > 0 ? kMost : -kMost;
  return std::max(sum, -kMost);  // so that each amount can be taken away again
}

auto position_of(auto& entries, std::string_view name) {
  return std::lower_bound(entries.begin(), entries.end(), name,
                          [](const auto& entry, std::string_view n) { return entry.first < n; });
}

/// Changes each of `mine` that is among `others`. Both are sorted by name, and mostly of the same names.
template <class Change>
void change(std::vector<Resources::Entry>& mine, const std::vector<Resources::Entry>& others, Change to) {
  std::size_t at = 0;
  for (const auto& [name, amount] : others) {
    while (at < mine.size() && mine[at].first < name) ++at;
    const bool is_there = at < mine.size() && mine[at].first == name;
    if (!is_there) mine.insert(mine.begin() + static_cast<std::ptrdiff_t>(at), {name, 0});
    mine[at].second = to(mine[at].second, amount);
  }
}

/// Requests of one container; where a limit has no request, the limit, as the API server fills it in.
Resources container_requests(const Json& container, const std::string& path, std::vector<Problem>& problems) {
  const Json& resources = member(container, "resources");
  Resources out = read_resources(member(resources, "requests"), path + ".resources.requests", problems);
  const Resources limits = read_resources(member(resources, "limits"), path + ".resources.limits", problems);
  const Json& requests = member(resources, "requests");
  for (const auto& [name, amount] : limits.entries()) {
    if (!requests.is_object() || !requests.contains(name)) out.set(name, amount);
  }
  return out;
}

/// What the init containers need at their worst moment; `sidecars` grows by those that stay.
Resources init_requests(const Json& containers, Resources& sidecars, std::vector<Problem>& problems) {
  Resources worst;
  if (!containers.is_array()) return worst;
  for (std::size_t i = 0; i < containers.size(); ++i) {
    Resources now = container_requests(containers[i], "spec.initContainers[" + std::to_string(i) + "]", problems);
    if (member(containers[i], "restartPolicy") == "Always") {
      sidecars += now;
      now = sidecars;
    } else {
      now += sidecars;
    }
    worst.raise_to(now);
  }
  return worst;
}

}  // namespace

Resources::Resources(std::initializer_list<Entry> entries) {
  for (const auto& [name, amount] : entries) set(name, amount);
}

std::int64_t Resources::operator[](std::string_view name) const {
  const auto at = position_of(entries_, name);
  return at != entries_.end() && at->first == name ? at->second : 0;
}

std::int64_t& Resources::amount_of(std::string_view name) {
  auto at = position_of(entries_, name);
  if (at == entries_.end() || at->first != name) at = entries_.insert(at, {std::string(name), 0});
  return at->second;
}

void Resources::set(std::string_view name, std::int64_t amount) { amount_of(name) = amount; }

Resources& Resources::operator+=(const Resources& other) {
  change(entries_, other.entries_, [](std::int64_t mine, std::int64_t amount) { return saturated_sum(mine, amount); });
  return *this;
}

Resources& Resources::operator-=(const Resources& other) {
  change(entries_, other.entries_, [](std::int64_t mine, std::int64_t amount) { return saturated_sum(mine, -amount); });
  return *this;
}

void Resources::raise_to(const Resources& other) {
  change(entries_, other.entries_, [](std::int64_t mine, std::int64_t amount) { return std::max(mine, amount); });
}

void Resources::lower_to(const Resources& other) {
  for (auto& [name, amount] : entries_) amount = std::min(amount, other[name]);
}

Resources excess(const Resources& amounts, const Resources& other) {
  Resources out;
  for (const auto& [name, amount] : amounts.entries()) {
    if (amount > other[name]) out.set(name, amount - other[name]);
  }
  return out;
}

Resources times(const Resources& amounts, std::int64_t number) {
  Resources out = amounts;
  for (const auto& [name, amount] : amounts.entries()) {
    std::int64_t product = 0;
    const bool is_too_much = __builtin_mul_overflow(amount, number, &product);
    out.set(name, is_too_much ? std::numeric_limits<std::int64_t>::max() : product);
  }
  return out;
}

Resources read_resources(const Json& list, const std::string& path, std::vector<Problem>& problems) {
  Resources out;
  if (!list.is_object()) return out;
  for (const auto& item : list.items()) {
    const Json& value = item.value();
    const auto amount = value.is_string()   ? parse_quantity(item.key(), value.get_ref<const std::string&>())
                        : value.is_number() ? parse_quantity(item.key(), value.dump())
                                            : std::nullopt;
    if (amount) {
      out.set(item.key(), *amount);
    } else {
      problems.push_back({path + "." + item.key(), "is no quantity: " + value.dump() + "; write for example 500m, 2 or 1.5Gi"});
    }
  }
  return out;
}

Resources pod_requests(const Json& pod_spec, std::vector<Problem>& problems) {
  Resources sidecars;
  const Resources init = init_requests(member(pod_spec, "initContainers"), sidecars, problems);
  Resources out = sidecars;
  if (const Json& containers = member(pod_spec, "containers"); containers.is_array()) {
    for (std::size_t i = 0; i < containers.size(); ++i) {
      out += container_requests(containers[i], "spec.containers[" + std::to_string(i) + "]", problems);
    }
  }
  out.raise_to(init);
  const auto whole = read_resources(member(member(pod_spec, "resources"), "requests"), "spec.resources.requests", problems);
  for (const auto& [name, amount] : whole.entries()) out.set(name, amount);
  out += read_resources(member(pod_spec, "overhead"), "spec.overhead", problems);
  out.set(kPods, 1);
  return out;
}

}  // namespace trainyard::decide
