#include "tests/simulate/cpu_quota.h"

#include <algorithm>

namespace trainyard::simulate {

CpuQuota CpuQuota::of_two(std::int64_t a, std::int64_t b, std::optional<std::int64_t> a_lends,
                          std::optional<std::int64_t> b_borrows) {
  return CpuQuota({{.name = "all", .parent = "", .nominal = 0, .lends = {}, .borrows = {}},
                   {.name = "a", .parent = "all", .nominal = a, .lends = a_lends, .borrows = {}},
                   {.name = "b", .parent = "all", .nominal = b, .lends = {}, .borrows = b_borrows}});
}

const CpuQuota::Queue& CpuQuota::queue(const std::string& name) const {
  return *std::find_if(queues_.begin(), queues_.end(), [&name](const Queue& queue) { return queue.name == name; });
}

std::vector<std::string> CpuQuota::line(const std::string& name) const {
  std::vector<std::string> out;
  for (std::string at = name; !at.empty(); at = queue(at).parent) out.push_back(at);
  return out;
}

std::string CpuQuota::side(const std::string& name, const std::string& other) const {
  const auto theirs = line(other);
  std::string out;
  for (const auto& at : line(name)) {
    if (std::find(theirs.begin(), theirs.end(), at) != theirs.end()) break;
    out = at;
  }
  return out;
}

/// It and those below it.
std::int64_t CpuQuota::brought(const Queue& queue) const {
  std::int64_t out = queue.nominal;
  for (const auto& child : queues_) {
    if (child.parent == queue.name) out += brought(child) - kept(child);
  }
  return out;
}

/// What it lends to nobody.
std::int64_t CpuQuota::kept(const Queue& queue) const {
  return queue.lends ? std::max<std::int64_t>(0, brought(queue) - *queue.lends) : 0;
}

/// By its jobs, and by those below it beyond what these lend to nobody.
std::int64_t CpuQuota::used(const Queue& queue, const Held& held) const {
  const auto own = held.find(queue.name);
  std::int64_t out = own == held.end() ? 0 : own->second;
  for (const auto& child : queues_) {
    if (child.parent == queue.name) out += std::max<std::int64_t>(0, used(child, held) - kept(child));
  }
  return out;
}

bool CpuQuota::may_hold(const Held& held) const {
  return std::all_of(queues_.begin(), queues_.end(), [&](const Queue& queue) {
    if (queue.parent.empty()) return used(queue, held) <= brought(queue);
    return !queue.borrows || used(queue, held) <= brought(queue) + *queue.borrows;
  });
}

bool CpuQuota::stays_within(const std::string& name, std::int64_t more, Held held, const std::string& other) const {
  const std::string top = side(name, other);
  if (top.empty()) return false;
  held[name] += more;
  return used(queue(top), held) <= brought(queue(top));
}

bool CpuQuota::borrows(const std::string& name, const Held& held, const std::string& other) const {
  const std::string top = side(name, other);
  return !top.empty() && used(queue(top), held) > brought(queue(top));
}

}  // namespace trainyard::simulate
