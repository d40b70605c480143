#include "crds/contract/layout.h"

#include <stdexcept>

namespace trainyard::contract {

Degrees degrees(const TrainingJobSpec& spec) {
  const auto& parallelism = spec.parallelism;
  Degrees out{.pp = parallelism.pipeline, .dp = 1, .cp = parallelism.context, .ep = parallelism.expert, .tp = parallelism.tensor};
  const std::int64_t others = std::int64_t{out.pp} * out.cp * out.tp;
  out.dp =
      parallelism.data.value_or(others > 0 ? static_cast<std::int32_t>(std::max<std::int64_t>(1, world_size(spec) / others)) : 1);
  return out;
}

Layout::Layout(Degrees degrees, std::int32_t world_size) : degrees_(degrees) {
  const auto& d = degrees_;
  if (d.pp < 1 || d.dp < 1 || d.cp < 1 || d.ep < 1 || d.tp < 1) throw std::invalid_argument("every degree must be at least 1");
  if (std::int64_t{d.pp} * d.dp * d.cp * d.tp != world_size) {
    throw std::invalid_argument("pipeline x data x context x tensor must be the number of ranks, " + std::to_string(world_size));
  }
  if (std::int64_t{d.dp} * d.cp * d.tp % d.ep != 0) throw std::invalid_argument("expert must divide data x context x tensor");
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
