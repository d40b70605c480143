#include "worker/mesh/meeting.h"

namespace trainyard::mesh {

std::vector<StagePair> stage_pairs(std::int32_t num_stages, bool tied_embeddings) {
  std::vector<StagePair> pairs;
  for (std::int32_t stage = 0; stage + 1 < num_stages; ++stage) pairs.push_back({stage, stage + 1});
  if (tied_embeddings && num_stages > 2) pairs.push_back({0, num_stages - 1});
  return pairs;
}

void meet_in_pairs(Mesh& mesh, bool tied_embeddings) {
  constexpr std::int32_t kTag = (1 << 20) + 1;  // beyond those of a step
  const std::int32_t mine = mesh.at().pp;
  const auto word = [&] { return at::zeros({1}, at::TensorOptions().device(mesh.device())); };
  at::Tensor received = word();
  for (const auto& [earlier, later] : stage_pairs(mesh.layout().degrees().pp, tied_embeddings)) {
    if (mine == earlier) {
      mesh.activations().send(word(), later, kTag);
      mesh.gradients().receive(received, later, kTag);
    } else if (mine == later) {
      mesh.activations().receive(received, earlier, kTag);
      mesh.gradients().send(word(), earlier, kTag);
    }
  }
}

}  // namespace trainyard::mesh
