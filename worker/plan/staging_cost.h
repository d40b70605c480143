#pragma once
// What a save takes of the host's memory.

#include <cstdint>

#include "crds/contract/job.h"

namespace trainyard::plan {

/// A rank copies what it saves through so much memory at the most (worker/checkpoint/staging.h): of what is more, training waits until as much
/// is on the disk. 8 ranks take 16 GiB, little of a node beside GPUs; one that writes 180 million parameters, masters and moments, waits for
/// no disk.
inline constexpr std::int64_t kStagingBytes = std::int64_t{2} << 30;

/// What a rank takes at the most while it saves, of the stage that takes most: kStagingBytes, or masters and moments, where that is less, of the
/// parameters that it keeps (of replicas at ZeRO stage 0, which share the writing, an upper bound). 0 without spec.checkpoint.
std::int64_t staging_bytes(const contract::TrainingJobSpec& spec);

}  // namespace trainyard::plan
