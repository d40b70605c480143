#pragma once
// Which layers of the model each pipeline stage holds.
//
// The layers are cut into p·v parts, where p is the number of stages and v that of the chunks that each holds: part c·p + s is chunk c
// of stage s (Narayanan et al., arXiv:2104.04473, section 2.2). Without Interleaved v is 1, and a part is a stage.

#include <cstdint>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// The layers [first, last) of a part. The first part also has the embedding, the last one the final norm and the head.
struct LayerRange {
  std::int32_t first = 0;
  std::int32_t last = 0;
  bool operator==(const LayerRange&) const = default;
};

/// Cuts the model's layers into `num_parts` contiguous ranges, so that the most loaded part has as few FLOPs as possible; the head
/// counts, since with a large vocabulary it costs as much as several layers. Of the cuts that are equally good it takes the most even
/// one, with the longer ranges first. Throws std::invalid_argument unless 1 <= num_parts <= layers.
std::vector<LayerRange> split_layers(const contract::ModelSize& size, std::int32_t num_parts);

/// The number of the part that has `layer`. Throws std::invalid_argument where none has.
std::int32_t part_of(const std::vector<LayerRange>& parts, std::int32_t layer);

/// v: virtualStages with Interleaved and more than one stage, else 1.
std::int32_t chunks_per_stage(const contract::Parallelism& parallelism);

/// The p·v parts of a job's model.
std::vector<LayerRange> parts_of(const contract::TrainingJobSpec& spec);

/// One of the chunks of a stage.
struct Chunk {
  std::int32_t index = 0;
  std::int32_t count = 1;  // of the stage
};

}  // namespace trainyard::plan
