#pragma once
// Finds nodes for a gang: for all of its pods or for none.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "controller/decide/node_filter.h"
#include "controller/decide/topology.h"

namespace trainyard::decide {

/// Pods that are alike and start together.
struct Gang {
  std::int32_t count = 0;
  Resources requests;  // of each pod, "pods": 1 included
  NodeRules rules;
  std::optional<contract::Pack> pack;
  /// Numbers of consecutive workers that talk much, from many to few: a data-parallel replica (its pipeline), a tensor group. Where
  /// the gang must be cut, it is cut between such groups.
  std::vector<std::int32_t> groups;
  std::set<std::string> beside;            // nodes of the gang's other workers: new ones go as near to them as there is room
  std::set<std::string> avoid;             // nodes that rejected a pod a moment ago
  std::vector<const NodeAmounts*> limits;  // no more than this may be taken of these nodes: what reservations leave
};

/// The node of each pod, in the order of the workers; consecutive workers are near each other.
struct Placement {
  std::vector<std::string> nodes;
  bool operator==(const Placement&) const = default;
};

/// There is no room for all of them now. explain() (no_room.h) makes words of it.
struct NoRoom {
  std::int64_t fit_now = 0;  // how many would fit, wherever pack allows them
  std::string best_domain;   // where those are, with pack Required
  bool operator==(const NoRoom&) const = default;
};

/// Tries the narrowest domains first: one node, one rack, one block …; among domains of a level the one in which the gang is cut
/// least and then the one with the least room left, so that a small gang does not break the last free rack. pack Required goes no
/// wider than its level; nodes without that level's label don't count for it. With pack Preferred the gang lies in as few domains of
/// that level as can be, whatever lies around those. The same cluster gives the same nodes.
/// Cost: O(nodes × requested resources + domains).
std::variant<Placement, NoRoom> place_gang(const Topology& topology, const Gang& gang);

/// What pods of the gang may take of the node.
Resources room_for(const Gang& gang, const Topology& topology, std::size_t node);
/// How many pods fit into `room`.
std::int64_t fit_into(const Resources& room, const Resources& requests);
/// What keeps pods of the gang off the node, room aside.
std::optional<Obstacle> obstacle_for(const Gang& gang, const Node& node);

}  // namespace trainyard::decide
