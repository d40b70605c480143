// What only a real backend shows: Gloo's ring adds three or more terms in an order that goes by a number's place in the tensor.
#include <gtest/gtest.h>

#include "tests/worker/mesh/gloo_ranks.h"
#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {
namespace {

Trained train_over_gloo(contract::TrainingJobSpec spec, contract::Degrees degrees) {
  const auto run = [&spec](const contract::Layout& layout, const std::function<void(mesh::Mesh&)>& train_on) {
    const auto edit = [&spec](contract::RankConfig& config) { config.spec = spec; };
    mesh::connect_ranks(layout.world_size(), edit, [&](mesh::Mesh& mesh) {
      train_on(mesh);
      mesh.leave();
    });
  };
  const auto layout = layout_of(spec, degrees);
  return train_by(run, spec, layout);
}

TEST(OverGloo, UnderCanonicalFourTensorRanksGiveTheSameBitsWithPipelineAndZero) {
  auto spec = small_job(contract::Reduction::kCanonical);
  spec.model.size->keyValueHeads = 4;
  spec.model.size->feedForwardSize = 256;  // rows of which several, and parts of all tensor ranks, are in each block of the norm
  spec.training.steps = 3;
  spec.parallelism.microBatchSize = 4;
  for (const bool sequence : {false, true}) {
    spec.parallelism.sequence = sequence;
    const auto tensor_ranks = train_over_gloo(spec, {.tp = 4});
    ASSERT_EQ(tensor_ranks.losses.size(), 3u);
    for (const auto& degrees : {contract::Degrees{.pp = 2, .tp = 4}, {.dp = 2, .tp = 4}}) {
      SCOPED_TRACE(testing::Message() << "pp " << degrees.pp << ", dp " << degrees.dp << (sequence ? ", sequence" : ""));
      auto mine = spec;
      mine.parallelism.zero.stage = degrees.dp > 1 ? 1 : 0;
      expect_equal_bits(train_over_gloo(mine, degrees), tensor_ranks);
    }
  }
}

}  // namespace
}  // namespace trainyard::trainer
