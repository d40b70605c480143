#pragma once
// What if: which gangs would have to move so that another finds room, where what is free lies in pieces.

#include <optional>
#include <string>
#include <vector>

#include "controller/decide/holdings.h"
#include "controller/decide/placement.h"

namespace trainyard::decide {

struct Move {
  const Job* job = nullptr;
  std::vector<std::string> nodes;  // where its workers would go, in their order
};

/// Of a gang that finds no room: whole gangs that would have room elsewhere once it has its own. With pack Required, those that free a domain
/// of its level, for the domain where the fewest devices move; of those of one domain, each is needed. Nothing where no such moves are
/// found: not all are tried, only the kDomainsTried domains with the most room, and gangs in the order of their devices, at most kGangsMoved.
/// Cost: kDomainsTried times that of place_gang() for each gang that moves.
std::optional<std::vector<Move>> moves_for(const Cluster& cluster, const Topology& topology, const std::vector<Holding>& held,
                                           const Gang& gang);
inline constexpr std::size_t kDomainsTried = 4;
inline constexpr std::size_t kGangsMoved = 16;

/// "If default/a (2 workers) moved to rack-1, there would be room." `level`: what the places are called by.
std::string to_text(const Topology& topology, const std::vector<Move>& moves, std::int32_t level);

}  // namespace trainyard::decide
