#pragma once
// What the workers of a gang send each other, and over which levels of the topology: the score of a placement.

#include <cstdint>
#include <string>
#include <vector>

#include "controller/decide/placement.h"

namespace trainyard::decide {

/// Numbers of consecutive workers that talk much: a replica of the model (its pipeline), then a tensor group.
std::vector<std::int32_t> groups_of(const contract::TrainingJobSpec& spec);

/// The bytes between two workers in a step, both ways together; a < b.
struct Link {
  std::int32_t a = 0;
  std::int32_t b = 0;
  std::int64_t bytes = 0;
  bool operator==(const Link&) const = default;
};

/// By plan::traffic_per_step(), between ranks of different workers. Empty with the engine Custom, of whose layout nothing is known, and
/// where the spec is not valid.
std::vector<Link> links_of(const contract::TrainingJobSpec& spec);

/// The bytes of a step that go from one domain of a level to another: levels from the widest to the narrowest, and last those between
/// nodes. What crosses a level crosses the narrower ones as well.
using Crossings = std::vector<std::int64_t>;

/// Of a gang with worker i on nodes[i]. Cost: O(links x levels).
Crossings crossings(const Topology& topology, const std::vector<Link>& links, const std::vector<std::string>& nodes);

/// The seconds that this takes at least, by level: those of the domain with most to send and receive for each of its workers, which each have
/// `bytes_per_second` each way.
std::vector<double> crossing_seconds(const Topology& topology, const std::vector<Link>& links,
                                     const std::vector<std::string>& nodes, double bytes_per_second);

/// The gang's nodes, so that few bytes cross the widest level, then few the next one, and so on. Begins with `found`, with the
/// fewest nodes, and with what place_gang() finds where it keeps other numbers of consecutive workers together; from each it exchanges the
/// nodes of two workers, or gives one another node with room, what helps most first, as long as that helps; and takes the best. It goes no wider than `found`: no domain that is wider, and no
/// more of the domains that pack names.
///
/// The least is NP-hard to find (it holds graph partitioning). Of gangs of more than kRefinedAtMost workers the best of the beginnings is taken,
/// with nothing exchanged: there are those that keep a replica's workers together, and those that keep together the workers that have the same
/// part of the model in all replicas. Cost: O(workers x (workers + domains) x links a worker x levels) a pass, for each divisor of the workers'
/// number, and of larger gangs that of a few place_gang() and crossings(); nothing where every order of the workers is as good, as with one
/// worker on each of the nodes of one narrowest domain.
std::vector<std::string> least_traffic(const Topology& topology, const Gang& gang, const std::vector<Link>& links,
                                       std::vector<std::string> found);
inline constexpr std::size_t kRefinedAtMost = 64;

/// The crossings for the status. Empty with the engine Custom.
std::vector<contract::LevelTraffic> traffic_status(const Topology& topology, const contract::TrainingJobSpec& spec,
                                                   const std::vector<Link>& links, const std::vector<std::string>& nodes);

}  // namespace trainyard::decide
