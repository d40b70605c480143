#include "worker/model/sharded_weights.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/worker/mesh/late_link.h"
#include "tests/worker/mesh/ranks.h"

namespace trainyard::model {
namespace {

/// Two layers of one matrix each, 256 x 32 and 32 x 256, cut over two data ranks: two blocks of the norm each.
std::vector<plan::Parameter> two_layers() {
  return {{.name = "model.layers.0.up.weight", .shape = {256, 32}, .split_dim = {}, .stages = {0}, .chunks = {0}},
          {.name = "model.layers.1.down.weight", .shape = {32, 256}, .split_dim = {}, .stages = {0}, .chunks = {0}}};
}

at::Tensor values_of(const plan::Parameter& parameter) {
  return at::arange(plan::num_elements(parameter.shape), at::kFloat).sin().view(parameter.shape);
}

bool has_memory(const at::Tensor& variable) { return variable.storage().nbytes() > 0; }

/// A data rank's weights; `keeps`: as at stages 1 and 2.
struct Rank {
  Rank(mesh::Mesh& mesh, bool keeps, mesh::HostLink* host = nullptr) {
    auto units = plan::shard_units(two_layers(), 1, 0, mesh.data().size());
    std::vector<Gathered> gathered;
    for (std::size_t i = 0; i < 2; ++i) {
      const auto parameter = two_layers()[i];
      const auto box = plan::shard_of(units, i, mesh.at().dp);
      at::Tensor variable = keeps ? at::zeros(parameter.shape) : without_memory(parameter.shape, at::kFloat);
      gathered.push_back({values_of(parameter).narrow(0, box.offsets[0], box.sizes[0]).clone(), variable});
      variables.push_back(variable.detach().requires_grad_());
    }
    weights = std::make_unique<ShardedWeights>(std::move(units), std::move(gathered), keeps, mesh.data(), host);
    weights->refresh();
  }

  at::Tensor forward(const at::Tensor& x) {
    const UnitUses uses(*weights, {0, 1}, false);
    at::Tensor y = uses.enter(x, 0);
    y = uses.leave(at::linear(y, variables[0]).relu(), 0);
    y = uses.enter(y, 1);
    return uses.leave(at::linear(y, variables[1]), 1).sum();
  }

  std::vector<at::Tensor> variables;
  std::unique_ptr<ShardedWeights> weights;
};

TEST(ShardedWeights, GiveTheResultsAndGradientsOfWholeOnes) {
  const at::Tensor x = at::arange(64, at::kFloat).cos().view({2, 32});
  std::vector<at::Tensor> whole;
  for (const auto& parameter : two_layers()) whole.push_back(values_of(parameter).requires_grad_());
  at::Tensor expected = at::linear(at::linear(x, whole[0]).relu(), whole[1]).sum();
  expected.backward();
  for (const bool keeps : {true, false}) {
    mesh::run_ranks(contract::Layout({.dp = 2}, 2), [&](mesh::Mesh& mesh) {
      Rank rank(mesh, keeps);
      const at::Tensor result = rank.forward(x.clone().requires_grad_());
      EXPECT_TRUE(at::equal(result, expected));
      for (const auto& variable : rank.variables) EXPECT_EQ(has_memory(variable), keeps) << "after forward";
      torch::autograd::backward({result});
      for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(has_memory(rank.variables[i]), keeps) << "after backward";
        EXPECT_TRUE(at::equal(rank.variables[i].grad(), whole[i].grad())) << i;
      }
    });
  }
}

TEST(ShardedWeights, AreGatheredAheadOfTheirUse) {
  mesh::run_ranks(contract::Layout({.dp = 2}, 2), [](mesh::Mesh& mesh) {
    Rank rank(mesh, false);
    rank.weights->need(0, 1);
    EXPECT_TRUE(has_memory(rank.variables[0]));
    EXPECT_FALSE(has_memory(rank.variables[1])) << "it is on its way, and has memory once it is needed";
    rank.weights->release(0);
    rank.weights->need(1, -1);
    EXPECT_TRUE(at::equal(rank.variables[1], values_of(two_layers()[1])));
  });
}

TEST(ShardedWeights, ComeFromTheHostAheadOfTheirUse) {
  mesh::run_ranks(contract::Layout({.dp = 2}, 2), [](mesh::Mesh& mesh) {
    mesh::LateLink link;
    Rank rank(mesh, false, &link);
    const at::Tensor result = rank.forward(at::ones({2, 32}).requires_grad_());
    torch::autograd::backward({result});
    for (const auto& variable : rank.variables) EXPECT_FALSE(has_memory(variable));
    rank.weights->need(0, 1);
    rank.weights->release(0);
    EXPECT_FALSE(has_memory(rank.variables[1])) << "it is on its way";
    rank.weights->need(1, -1);
    EXPECT_TRUE(at::equal(rank.variables[1], values_of(two_layers()[1])));
    rank.weights->need(0, 1);
    rank.weights->refresh();  // calls off what was under way
    for (const auto& variable : rank.variables) EXPECT_FALSE(has_memory(variable));
  });
}

TEST(ShardedWeights, OfBeforeTheOptimizersStepAreNotUsedAfterIt) {
  mesh::run_ranks(contract::Layout({.dp = 2}, 2), [](mesh::Mesh& mesh) {
    Rank rank(mesh, false);
    rank.weights->need(0, 1);
    rank.weights->refresh();
    for (const auto& variable : rank.variables) EXPECT_FALSE(has_memory(variable));
    rank.weights->need(1, -1);
    EXPECT_TRUE(at::equal(rank.variables[1], values_of(two_layers()[1])));
  });
}

TEST(ShardedWeights, WorkWithoutAGradient) {
  mesh::run_ranks(contract::Layout({.dp = 2}, 2), [](mesh::Mesh& mesh) {
    const at::NoGradGuard no_grad;
    Rank rank(mesh, false);
    rank.forward(at::ones({2, 32}));
    for (const auto& variable : rank.variables) EXPECT_FALSE(has_memory(variable));
  });
}

}  // namespace
}  // namespace trainyard::model
