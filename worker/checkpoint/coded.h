#pragma once
// Tensors whose numbers may be kept as codes of 8 bits with a scale a block: how they lie in a checkpoint, and how one is read into what
// is kept otherwise. So a resume may change precision.optimizerStates.

#include <vector>

#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/tensor_shard.h"

namespace trainyard::checkpoint {

/// The shards, each of codes with its scales behind it, a shard of their own: what files have.
std::vector<TensorShard> with_scales(const std::vector<TensorShard>& shards);

/// `shards`, but of those that the checkpoint has in another floating-point type, or in codes and the shard not, or the other way round,
/// tensors on the CPU as the checkpoint has them, to be handed to take(): what was written is what hashes are of.
std::vector<TensorShard> as_stored(const Manifest& manifest, const std::vector<TensorShard>& shards);

/// Copies what was read into a tensor of as_stored() to the one that is kept: rounded, decoded or coded. Nothing where they are the same.
void take(const TensorShard& stored, const TensorShard& kept);

}  // namespace trainyard::checkpoint
