#include "worker/mesh/meeting.h"

#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"

namespace trainyard::mesh {
namespace {

using Pairs = std::vector<StagePair>;

TEST(StagePairs, AreTheNeighbours) {
  EXPECT_EQ(stage_pairs(1, false), Pairs{});
  EXPECT_EQ(stage_pairs(2, false), (Pairs{{0, 1}}));
  EXPECT_EQ(stage_pairs(4, false), (Pairs{{0, 1}, {1, 2}, {2, 3}}));
}

TEST(StagePairs, JoinTheEndsOfATiedEmbeddingUnlessTheyAreNeighbours) {
  EXPECT_EQ(stage_pairs(1, true), Pairs{});
  EXPECT_EQ(stage_pairs(2, true), (Pairs{{0, 1}}));
  EXPECT_EQ(stage_pairs(3, true), (Pairs{{0, 1}, {1, 2}, {0, 2}}));
}

/// Over pairs whose first call waits for both ends.
void on_meeting_stages(std::int32_t pp, const std::function<void(Mesh&)>& body) {
  run_ranks(contract::Layout({.pp = pp}, pp), body, {.pairs_meet = true, .timeout = std::chrono::seconds(20)});
}

TEST(MeetInPairs, ComesToAnEndHoweverManyStagesThereAre) {
  for (const std::int32_t pp : {1, 2, 3, 5, 8}) {
    for (const bool tied : {false, true}) {
      for (const bool around : {false, pp > 1}) on_meeting_stages(pp, [&](Mesh& mesh) { meet_in_pairs(mesh, tied, around); });
    }
  }
}

TEST(MeetInPairs, LeavesNoSendThatWaitsForItsReceiver) {
  on_meeting_stages(3, [](Mesh& mesh) {
    meet_in_pairs(mesh, true);
    if (mesh.at().pp == 1) return;
    // Both ends of the tied embedding send first, each by another group: a circle, were these the pair's first calls.
    const std::int32_t other = 2 - mesh.at().pp;
    Comm& mine = mesh.is_first_stage() ? mesh.activations() : mesh.gradients();
    Comm& its = mesh.is_first_stage() ? mesh.gradients() : mesh.activations();
    at::Tensor received = at::zeros({1});
    mine.send(at::full({1}, 1 + mesh.at().pp), other, 7);
    its.receive(received, other, 7);
    EXPECT_EQ(received.item<float>(), 1 + other);
  });
}

}  // namespace
}  // namespace trainyard::mesh
