#include "worker/model/tensor_parallel.h"

#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"
#include "tests/worker/model/four_tensor_ranks.h"
#include "worker/model/head_loss.h"
#include "worker/plan/parameters.h"

namespace trainyard::model {
namespace {

TEST(EnterParallel, PassesOnAndSumsGradients) {
  mesh::run_ranks(four_tensor_ranks(), [](mesh::Mesh& mesh) {
    const at::Tensor x = at::ones({3}).requires_grad_();
    const at::Tensor y = enter_parallel(x, mesh.tensor());
    EXPECT_TRUE(at::equal(y, x));
    (y * (mesh.rank() + 1)).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::full({3}, 10.0)));
  });
}

TEST(LeaveParallel, SumsAndPassesGradientsOn) {
  mesh::run_ranks(four_tensor_ranks(), [](mesh::Mesh& mesh) {
    const at::Tensor x = at::full({3}, mesh.rank() + 1.0).requires_grad_();
    const at::Tensor y = leave_parallel(x * 1, mesh.tensor());
    EXPECT_TRUE(at::equal(y, at::full({3}, 10.0)));
    (y * 2).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::full({3}, 2.0)));
  });
}

TEST(VocabularyParallelEmbedding, SummedOverTheRanksIsTheEmbedding) {
  const at::Tensor whole = at::arange(8 * 3, at::kFloat).view({8, 3}),
                   tokens = at::tensor({0, 7, 3, 3, 5}, at::kLong).view({1, 5});
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    const at::Tensor mine = whole.narrow(0, mesh.rank() * 2, 2).clone().requires_grad_();
    const at::Tensor out = leave_parallel(vocabulary_parallel_embedding(tokens, mine, mesh.rank() * 2), mesh.tensor());
    EXPECT_TRUE(at::equal(out, at::embedding(whole, tokens)));
    out.sum().backward();
    const at::Tensor counts = at::bincount(tokens.flatten(), {}, 8).narrow(0, mesh.rank() * 2, 2);
    EXPECT_TRUE(at::equal(mine.grad(), counts.unsqueeze(1).expand({2, 3}).to(at::kFloat)));
  });
}

TEST(VocabularyParallelCrossEntropy, AndItsGradientAreThoseOfTheWhole) {
  const at::Tensor logits = at::arange(6 * 12, at::kFloat).mul(0.7).sin().mul(30).view({6, 12});
  const at::Tensor targets = at::tensor({0, 11, 5, 2, 8, 3}, at::kLong);
  const at::Tensor reference = logits.clone().requires_grad_();
  const at::Tensor expected = at::cross_entropy_loss(reference, targets, {}, at::Reduction::Sum);
  (expected * 0.5).backward();
  mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
    const at::Tensor mine = logits.narrow(1, mesh.rank() * 3, 3).clone().requires_grad_();
    const at::Tensor loss = vocabulary_parallel_cross_entropy(mine, targets, mesh.rank() * 3, 12, mesh.tensor());
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-4);
    (loss * 0.5).backward();
    EXPECT_TRUE(at::allclose(mine.grad(), reference.grad().narrow(1, mesh.rank() * 3, 3), 1e-5, 1e-7));
  });
}

TEST(VocabularyParallelCrossEntropy, HasTheGradientOfTheWholeLossWithItsTermsAndTheValueOfTheCrossEntropy) {
  const at::Tensor logits = at::arange(6 * 14, at::kFloat).mul(0.7).sin().mul(10).view({6, 14});
  const at::Tensor targets = at::tensor({0, 11, 5, 2, 8, 3}, at::kLong);
  const at::Tensor plain = at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum);
  for (const auto& terms : {contract::Loss{.labelSmoothing = 0.1, .zLoss = 0}, contract::Loss{.labelSmoothing = 0, .zLoss = 0.05},
                            contract::Loss{.labelSmoothing = 0.1, .zLoss = 0.05}}) {
    const at::Tensor reference = logits.clone().requires_grad_();
    (loss_of_logits(reference, targets, terms) * 0.5).backward();
    mesh::run_ranks(four_tensor_ranks(), [&](mesh::Mesh& mesh) {
      const auto classes = plan::classes_of(14, 4, mesh.rank());  // not as many on every rank
      const at::Tensor mine = logits.narrow(1, classes.first, classes.count).clone().requires_grad_();
      const at::Tensor loss = vocabulary_parallel_cross_entropy(mine, targets, classes.first, 14, mesh.tensor(), terms);
      EXPECT_NEAR(loss.item<double>(), plain.item<double>(), 1e-4);
      (loss * 0.5).backward();
      EXPECT_TRUE(at::allclose(mine.grad(), reference.grad().narrow(1, classes.first, classes.count), 1e-5, 1e-6))
          << terms.labelSmoothing << " " << terms.zLoss;
    });
  }
}

}  // namespace
}  // namespace trainyard::model
