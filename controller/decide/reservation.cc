#include "controller/decide/reservation.h"

namespace trainyard::decide {

std::optional<Reservation> reserve(Topology& topology, const std::vector<Holding>& held, const std::vector<Reservation>& earlier,
                                   const Gang& gang, const Job& job) {
  Trial later(topology);
  for (const auto& other : earlier) {
    for (const auto& [node, amount] : other.takes) later.take(node, amount);
  }
  GangFit fit(topology, gang);
  Reservation out{.job = &job, .start = Time{}};
  for (auto next = held.begin(); !fit.has_room(); ++next) {
    if (next == held.end()) return std::nullopt;
    if (next->job == &job && !next->is_vacating) continue;
    for (const auto& [node, requests] : next->pods) {
      later.give(node, *requests);
      fit.refresh(node);
    }
    out.start = next->ends;
  }
  const Placement found = std::get<Placement>(fit.place());
  for (const auto& name : found.nodes) {
    const auto node = static_cast<std::size_t>(topology.find_node(name));
    later.take(node, gang.requests);
    out.takes[node] += gang.requests;
  }
  for (const auto& [node, amount] : out.takes) out.leaves[node] = topology.free_on(node);
  return out;
}

bool binds(const Reservation& reservation, std::optional<Time> end) {
  return !end || !reservation.start || *end > *reservation.start;
}

}  // namespace trainyard::decide
