#include "controller/decide/reservation.h"

namespace trainyard::decide {
std::optional<Reservation> reserve(const Topology& topology, const std::vector<Holding>& held,
                                   const std::vector<Reservation>& earlier, const Gang& gang, const Job& job) {
  Topology later = topology;
  for (const auto& other : earlier) {
    for (const auto& [node, amount] : other.takes) later.take(node, amount);
  }
  GangFit fit(later, gang);
  Reservation out{.job = &job, .start = Time{}};
  for (auto next = held.begin(); !fit.has_room(); ++next) {
    if (next == held.end()) return std::nullopt;
    if (next->job == &job && !next->is_vacating) continue;
    release(later, *next);
    for (const auto& [node, requests] : next->pods) fit.refresh(node);
    out.start = next->ends;
  }
  const Placement found = std::get<Placement>(fit.place());
  for (const auto& name : found.nodes) {
    const auto node = static_cast<std::size_t>(later.find_node(name));
    later.take(node, gang.requests);
    out.takes[node] += gang.requests;
  }
  for (const auto& [node, amount] : out.takes) out.leaves[node] = later.free_on(node);
  return out;
}

bool binds(const Reservation& reservation, std::optional<Time> end) {
  return !end || !reservation.start || *end > *reservation.start;
}

}  // namespace trainyard::decide
