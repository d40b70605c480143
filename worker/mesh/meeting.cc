#include "worker/mesh/meeting.h"

#include <limits>

namespace trainyard::mesh {

std::vector<StagePair> stage_pairs(std::int32_t num_stages, bool tied_embeddings) {
  std::vector<StagePair> pairs;
  for (std::int32_t stage = 0; stage + 1 < num_stages; ++stage) pairs.push_back({stage, stage + 1});
  if (tied_embeddings && num_stages > 2) pairs.push_back({0, num_stages - 1});
  return pairs;
}

void meet_in_pairs(Mesh& mesh, bool tied_embeddings, bool around) {
  constexpr std::int32_t kTag = std::numeric_limits<std::int32_t>::max();  // beyond those of a step
  const std::int32_t mine = mesh.at().pp, num_stages = mesh.layout().degrees().pp;
  const auto word = [&] { return at::zeros({1}, at::TensorOptions().device(mesh.device())); };
  at::Tensor received = word();
  const auto meet = [&](const StagePair& pair, bool is_around) {
    if (mine == pair.earlier) {
      mesh.activations(is_around).send(word(), pair.later, kTag);
      mesh.gradients(is_around).receive(received, pair.later, kTag);
    } else if (mine == pair.later) {
      mesh.activations(is_around).receive(received, pair.earlier, kTag);
      mesh.gradients(is_around).send(word(), pair.earlier, kTag);
    }
  };
  for (const auto& pair : stage_pairs(num_stages, tied_embeddings)) meet(pair, false);
  if (around) meet({.earlier = num_stages - 1, .later = 0}, true);
}

}  // namespace trainyard::mesh
