#include "crds/contract/layout.h"

#include <stdexcept>

namespace trainyard::contract {

Degrees degrees(const TrainingJobSpec& spec) {
  const auto& parallelism = spec.parallelism;
  Degrees out{.pp = parallelism.pipeline, .dp = 1, .cp = parallelism.context, .ep = parallelism.expert, .tp = parallelism.tensor};
  const std::int64_t others = std::int64_t{out.pp} * out.cp * out.tp;
  out.dp =
      parallelism.data.value_or(others > 0 ? static_cast<std::int32_t>(std::max<std::int64_t>(1, world_size(spec) / others)) : 1);
  // Data-parallel ranks of a worker, where replicas lie wholly in it.
  const std::int64_t in_worker = processes_per_worker(spec);
  if (parallelism.zero.shardGroup == ShardGroup::kNode && others > 0 && in_worker >= others && in_worker % others == 0) {
    const auto shard = static_cast<std::int32_t>(in_worker / others);
    if (out.dp % shard == 0) out.shard = shard;
  }
  return out;
}

Layout::Layout(Degrees degrees, std::int32_t world_size) : degrees_(degrees) {
  auto& d = degrees_;
  if (d.pp < 1 || d.dp < 1 || d.cp < 1 || d.ep < 1 || d.tp < 1) throw std::invalid_argument("every degree must be at least 1");
  if (std::int64_t{d.pp} * d.dp * d.cp * d.tp != world_size) {
    throw std::invalid_argument("pipeline x data x context x tensor must be the number of ranks, " + std::to_string(world_size));
  }
  if (std::int64_t{d.dp} * d.cp * d.tp % d.ep != 0) throw std::invalid_argument("expert must divide data x context x tensor");
  if (d.shard == 0) d.shard = d.dp;
  if (d.shard < 0 || d.dp % d.shard != 0) throw std::invalid_argument("the ranks that shard together must divide data");
}

std::int32_t Layout::size(Axis axis) const {
  switch (axis) {
    case Axis::kDp: return degrees_.dp;
    case Axis::kPp: return degrees_.pp;
    case Axis::kCp: return degrees_.cp;
    case Axis::kTp: return degrees_.tp;
  }
  throw std::invalid_argument("no such axis");
}

Coordinate Layout::coordinate_of(std::int32_t rank) const {
  if (rank < 0 || rank >= world_size()) throw std::invalid_argument("rank outside the layout");
  Coordinate at;
  at.tp = rank % degrees_.tp;
  rank /= degrees_.tp;
  at.cp = rank % degrees_.cp;
  rank /= degrees_.cp;
  at.pp = rank % degrees_.pp;
  at.dp = rank / degrees_.pp;
  return at;
}

std::int32_t Layout::rank_of(const Coordinate& at) const {
  return ((at.dp * degrees_.pp + at.pp) * degrees_.cp + at.cp) * degrees_.tp + at.tp;
}

std::vector<std::int32_t> Layout::shard_group(std::int32_t rank) const {
  const auto all = group(Axis::kDp, rank);
  const auto first = all.begin() + coordinate_of(rank).dp / degrees_.shard * degrees_.shard;
  return {first, first + degrees_.shard};
}

std::vector<std::int32_t> Layout::replica_group(std::int32_t rank) const {
  const auto all = group(Axis::kDp, rank);
  std::vector<std::int32_t> ranks;
  for (std::int32_t dp = coordinate_of(rank).dp % degrees_.shard; dp < degrees_.dp; dp += degrees_.shard) {
    ranks.push_back(all[static_cast<std::size_t>(dp)]);
  }
  return ranks;
}

std::vector<std::int32_t> Layout::group(Axis axis, std::int32_t rank) const {
  Coordinate at = coordinate_of(rank);
  std::int32_t& moving = axis == Axis::kDp ? at.dp : axis == Axis::kPp ? at.pp : axis == Axis::kCp ? at.cp : at.tp;
  std::vector<std::int32_t> ranks;
  for (std::int32_t i = 0; i < size(axis); ++i) {
    moving = i;
    ranks.push_back(rank_of(at));
  }
  return ranks;
}

}  // namespace trainyard::contract
