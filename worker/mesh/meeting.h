#pragma once
// The first use of each pair of pipeline stages that exchange tensors.

#include <cstdint>
#include <vector>

#include "worker/mesh/mesh.h"

namespace trainyard::mesh {

/// Two stages that send to each other, the earlier one first.
struct StagePair {
  std::int32_t earlier = 0;
  std::int32_t later = 0;
  bool operator==(const StagePair&) const = default;
};

/// Neighbours, and where the embedding is tied the first stage and the last, which exchange its gradients. Each pair once.
std::vector<StagePair> stage_pairs(std::int32_t num_stages, bool tied_embeddings);

/// Exchanges one number within each pair that this rank's stage belongs to, by activations() and by gradients(), in one order on all
/// ranks; then, where the pipeline goes `around`, between the last stage and the first by the groups for that. NCCL makes a communicator of its own for each pair at the pair's first call, and holds both ends up until it is made: met in
/// the middle of a step, in whatever order the schedule brings, two stages could wait for each other for ever.
/// Collective over the pipeline. Throws PeerLost.
void meet_in_pairs(Mesh& mesh, bool tied_embeddings, bool around = false);

}  // namespace trainyard::mesh
