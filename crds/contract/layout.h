#pragma once
// How the ranks of a job are arranged on the mesh's axes. Everybody who numbers, places or connects ranks uses this one class.

#include <cstdint>
#include <string>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::contract {

/// The degrees of parallelism. tp tensor, cp context, pp pipeline, dp data; ep, expert, re-uses the ranks of dp, cp and tp.
struct Degrees {
  std::int32_t pp = 1, dp = 1, cp = 1, ep = 1, tp = 1;
  std::int32_t shard = 0;  // neighbouring ranks of dp over which ZeRO shards, with copies among such groups; 0: all of dp
  bool operator==(const Degrees&) const = default;
};

/// The degrees of a job whose spec was accepted; `data` left out is what remains of the ranks. Where the ranks do not divide, or
/// `data` contradicts them, the product differs from world_size(spec), and validate() says so.
Degrees degrees(const TrainingJobSpec& spec);

enum class Axis { kDp, kPp, kCp, kTp };
constexpr auto enum_names(Axis) { return std::to_array<std::string_view>({"dp", "pp", "cp", "tp"}); }

struct Coordinate {
  std::int32_t dp = 0, pp = 0, cp = 0, tp = 0;
  auto operator<=>(const Coordinate&) const = default;
};

/// Ranks in the order dp (slowest), pp, cp, tp (fastest): a tensor-parallel group has neighbouring ranks, which placement keeps on
/// one node; then come pipeline neighbours; the replicas of a data-parallel ring are furthest apart, as they talk least often.
class Layout {
 public:
  /// Throws std::invalid_argument unless every degree is at least 1, pp·dp·cp·tp = world_size, ep divides dp·cp·tp and shard dp.
  Layout(Degrees degrees, std::int32_t world_size);

  /// `shard` is resolved: at least 1.
  const Degrees& degrees() const { return degrees_; }
  std::int32_t world_size() const { return degrees_.pp * degrees_.dp * degrees_.cp * degrees_.tp; }
  std::int32_t size(Axis axis) const;
  Coordinate coordinate_of(std::int32_t rank) const;
  std::int32_t rank_of(const Coordinate& at) const;
  /// The ranks that differ from `rank` along `axis` alone, `rank` among them, in the order of their place on it.
  std::vector<std::int32_t> group(Axis axis, std::int32_t rank) const;
  /// Of the data-parallel group of `rank`: those that it shards with, and those that have copies of what it keeps; in the order of dp.
  std::vector<std::int32_t> shard_group(std::int32_t rank) const;
  std::vector<std::int32_t> replica_group(std::int32_t rank) const;

 private:
  Degrees degrees_;
};

}  // namespace trainyard::contract
