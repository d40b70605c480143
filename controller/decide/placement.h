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
  std::int32_t room_beside = 0;            // so many more like them are to find room in the same domain
  std::vector<const NodeAmounts*> limits;  // no more than this may be taken of these nodes: what reservations leave
  std::optional<Time> back_since{};  // nodes that stopped being ready after that are taken for ready: most are again in a moment
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

/// How many pods of a gang fit where, kept up to date as others come and go. Both must outlive it.
class GangFit {
 public:
  GangFit(const Topology& topology, const Gang& gang);

  /// What is free on the node has changed. Cost: O(requested resources + levels).
  void refresh(std::size_t node);
  /// Whether place() would find a place. Cost: O(1); with pack Required O(domains of its level).
  bool has_room() const;
  std::variant<Placement, NoRoom> place() const;

 private:
  using Index = std::int32_t;
  const Domain& domain(std::size_t i) const { return topology_.domains()[i]; }
  std::int64_t needed() const { return std::int64_t{gang_.count} + gang_.room_beside; }
  std::int64_t pods_on(std::size_t node) const;
  bool is_allowed(Index i) const;
  Index best_with_room() const;
  bool is_better(Index a, Index b) const;
  bool is_in_pack(Index i) const;
  std::size_t packs_needed(Index i) const;
  std::vector<Index> parts_of(Index i) const;
  std::size_t parts_needed(Index i) const;
  void fill(Index i, std::int64_t count, std::vector<std::string>& nodes) const;
  std::int64_t group_for(const std::vector<Index>& parts, std::int64_t count) const;
  std::vector<Index>::iterator best_part(std::vector<Index>& parts, std::int64_t count, std::int64_t group) const;
  NoRoom no_room() const;

  const Topology& topology_;
  const Gang& gang_;
  enum class Allowed : char { kUnknown, kYes, kNo };
  mutable std::vector<Allowed> allowed_;  // by node; only where there is room one needs to know
  std::vector<bool> is_limited_;          // by node: what may be taken is not all that is free; empty: none is
  std::vector<std::int64_t> fit_;         // pods that fit, by domain
  Index widest_ = -1;                     // the level of pack Required
  Index preferred_ = -1;                  // the level of pack Preferred
  std::set<Index> beside_;                // domains around the gang's other workers
  std::vector<Index> widest_allowed_;     // the domains in which it would have to fit
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
