#pragma once
// Which layers of the model each pipeline stage holds.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// The layers [first, last) of a stage. The first stage also has the embedding, the last one the final norm and the head.
struct LayerRange {
  std::int32_t first = 0;
  std::int32_t last = 0;
  bool operator==(const LayerRange&) const = default;
};

/// Cuts the model's layers into `num_stages` contiguous ranges, so that the most loaded stage has as few FLOPs as possible; the head
/// counts, since with a large vocabulary it costs as much as several layers. Of the cuts that are equally good it takes the most even
/// one, with the longer ranges first. Throws std::invalid_argument unless 1 <= num_stages <= layers.
std::vector<LayerRange> split_layers(const contract::ModelSize& size, std::int32_t num_stages);

/// The stage whose range has `layer`. Throws std::invalid_argument where none has.
std::int32_t stage_of(const std::vector<LayerRange>& stages, std::int32_t layer);

}  // namespace trainyard::plan
