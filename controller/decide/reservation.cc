#include "controller/decide/reservation.h"

namespace trainyard::decide {
namespace {

using Found = std::variant<Placement, NoRoom>;

/// The topology once the first `count` of the gangs are gone.
Topology later(const Topology& base, const std::vector<Holding>& held, std::size_t count) {
  Topology out = base;
  for (std::size_t i = 0; i < count; ++i) release(out, held[i]);
  return out;
}

}  // namespace

std::optional<Reservation> reserve(const Topology& topology, const std::vector<Holding>& held,
                                   const std::vector<Reservation>& earlier, const Gang& gang, const Job& job) {
  Topology base = topology;
  for (const auto& other : earlier) {
    for (const auto& [node, amount] : other.takes) base.take(node, amount);
  }
  const auto fits = [&](std::size_t gone) {
    return std::holds_alternative<Placement>(place_gang(later(base, held, gone), gang));
  };
  if (!fits(held.size())) return std::nullopt;
  std::size_t too_few = 0, enough = held.size();  // the fewest gangs that must be gone, by bisection
  while (too_few < enough) {
    const std::size_t middle = too_few + (enough - too_few) / 2;
    if (fits(middle)) {
      enough = middle;
    } else {
      too_few = middle + 1;
    }
  }
  Topology at_start = later(base, held, enough);
  Reservation out{.job = &job, .start = enough == 0 ? std::optional(Time{}) : held[enough - 1].ends};
  const Placement found = std::get<Placement>(place_gang(at_start, gang));
  for (const auto& name : found.nodes) {
    const auto node = static_cast<std::size_t>(at_start.find_node(name));
    at_start.take(node, gang.requests);
    out.takes[node] += gang.requests;
  }
  for (const auto& [node, amount] : out.takes) out.leaves[node] = at_start.free_on(node);
  return out;
}

bool binds(const Reservation& reservation, std::optional<Time> end) {
  return !end || !reservation.start || *end > *reservation.start;
}

}  // namespace trainyard::decide
