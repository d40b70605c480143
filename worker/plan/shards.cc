#include "worker/plan/shards.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>

#include "crds/contract/layout.h"
#include "worker/plan/norm_block.h"

namespace trainyard::plan {
namespace {

/// Where a parameter's unit comes in forward.
std::int64_t place_of(const std::string& name) {
  constexpr std::string_view kLayers = "model.layers.";
  constexpr std::int64_t kLast = std::int64_t{1} << 40;
  if (name == "model.embed_tokens.weight") return -1;
  if (!name.starts_with(kLayers)) return kLast;
  return std::stoll(name.substr(kLayers.size()));
}

std::int64_t row_elements(const std::vector<std::int64_t>& shape) {
  return num_elements(shape) / std::max<std::int64_t>(1, shape[0]);
}

/// Where the elements of a unit's parameter are, when they lie one behind the other.
struct Held {
  std::int64_t first_row = 0, last_row = 0;  // in the unsharded tensor
  std::int64_t row_elements = 1;             // on this tensor-parallel rank
  std::int64_t rows_between = 1;             // cuts
  std::int64_t first_element = 0;
};

/// The element nearest to `wanted` at which the parameters may be cut.
std::int64_t cut_near(const std::vector<Held>& all, std::int64_t wanted) {
  const auto behind = std::find_if(all.begin(), all.end(), [&](const Held& held) { return held.first_element > wanted; });
  const Held& held = *std::prev(behind);
  const std::int64_t row = held.first_row + (wanted - held.first_element) / held.row_elements;
  const std::int64_t nearest = (row + held.rows_between / 2) / held.rows_between * held.rows_between;
  const auto distance = [&](std::int64_t at) { return at < row ? row - at : at - row; };
  std::int64_t best = std::clamp(nearest, held.first_row, held.last_row);
  for (const std::int64_t end : {held.first_row, held.last_row}) {
    if (distance(end) < distance(best)) best = end;
  }
  return held.first_element + (best - held.first_row) * held.row_elements;
}

ShardUnit cut(const std::vector<Parameter>& mine, std::vector<std::size_t> places, std::int32_t tp, std::int32_t tp_rank,
              std::int32_t dp) {
  ShardUnit unit{.parameters = std::move(places), .wholes = {}, .cuts = {0}};
  std::vector<Held> all;
  std::int64_t elements = 0;
  for (const auto place : unit.parameters) {
    const Box box = box_of(mine[place], tp, tp_rank);
    all.push_back({.first_row = box.offsets[0],
                   .last_row = box.offsets[0] + box.sizes[0],
                   .row_elements = row_elements(box.sizes),
                   .rows_between = rows_between_cuts(mine[place]),
                   .first_element = elements});
    elements += num_elements(box.sizes);
    unit.wholes.push_back(box);
  }
  for (std::int64_t rank = 1; rank <= dp; ++rank) {
    unit.cuts.push_back(rank == dp ? elements : cut_near(all, elements * rank / dp));
    unit.part_elements = std::max(unit.part_elements, unit.cuts.back() - *std::prev(unit.cuts.end(), 2));
  }
  return unit;
}

}  // namespace

std::int32_t shard_ranks(const contract::TrainingJobSpec& spec) {
  const auto degrees = contract::degrees(spec);
  return degrees.shard == 0 ? degrees.dp : degrees.shard;
}

std::int32_t zero_stage(const contract::TrainingJobSpec& spec) {
  const auto& zero = spec.parallelism.zero;
  if (shard_ranks(spec) > 1 || zero.offload.parameters) return zero.stage;
  return zero.offload.optimizer ? std::min(zero.stage, 2) : 0;
}

std::int64_t ShardUnit::kept(std::int32_t dp_rank) const {
  return cuts.at(static_cast<std::size_t>(dp_rank) + 1) - cuts.at(static_cast<std::size_t>(dp_rank));
}

std::vector<Box> ShardUnit::boxes(std::int32_t dp_rank) const {
  const std::int64_t begin = cuts.at(static_cast<std::size_t>(dp_rank)), end = cuts.at(static_cast<std::size_t>(dp_rank) + 1);
  std::vector<Box> out;
  for (std::int64_t first = 0; Box box : wholes) {
    const std::int64_t row = row_elements(box.sizes), count = num_elements(box.sizes);
    const auto rows_before = [&](std::int64_t at) { return std::clamp(at - first, std::int64_t{0}, count) / row; };
    box.offsets[0] += rows_before(begin);
    box.sizes[0] = rows_before(end) - rows_before(begin);
    first += count;
    out.push_back(std::move(box));
  }
  return out;
}

std::int64_t rows_between_cuts(const Parameter& parameter) {
  return kNormBlock / std::gcd(kNormBlock, row_elements(parameter.shape));
}

Box shard_of(const std::vector<ShardUnit>& units, std::size_t place, std::int32_t dp_rank) {
  for (const auto& unit : units) {
    const auto found = std::find(unit.parameters.begin(), unit.parameters.end(), place);
    if (found == unit.parameters.end()) continue;
    return unit.boxes(dp_rank).at(static_cast<std::size_t>(found - unit.parameters.begin()));
  }
  throw std::out_of_range("find the shard of parameter " + std::to_string(place) + ": no unit has it");
}

std::vector<ShardUnit> shard_units(const std::vector<Parameter>& mine, std::int32_t tp, std::int32_t tp_rank, std::int32_t dp) {
  std::map<std::int64_t, std::vector<std::size_t>> by_place;
  for (std::size_t i = 0; i < mine.size(); ++i) by_place[place_of(mine[i].name)].push_back(i);
  std::vector<ShardUnit> units;
  for (auto& [place, parameters] : by_place) units.push_back(cut(mine, std::move(parameters), tp, tp_rank, dp));
  return units;
}

std::vector<std::int64_t> uncut_elements_kept(const contract::TrainingJobSpec& spec, std::int32_t stage, std::int32_t tp_rank) {
  const std::int32_t ranks = shard_ranks(spec);
  const auto mine = stage_parameters(spec, stage);
  std::vector<std::int64_t> kept(static_cast<std::size_t>(ranks), 0);
  for (const auto& unit : shard_units(mine.parameters, spec.parallelism.tensor, tp_rank, ranks)) {
    for (std::int32_t rank = 0; rank < ranks; ++rank) {
      const auto boxes = unit.boxes(rank);
      for (std::size_t i = 0; i < boxes.size(); ++i) {
        const auto& parameter = mine.parameters[unit.parameters[i]];
        if (parameter.split_dim) continue;
        kept[static_cast<std::size_t>(rank)] += mine.count_of(parameter) * num_elements(boxes[i].sizes);
      }
    }
  }
  return kept;
}

}  // namespace trainyard::plan
