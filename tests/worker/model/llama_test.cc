#include "worker/model/llama.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"

namespace trainyard::model {
namespace {

contract::TrainingJobSpec small_spec() {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{
      .layers = 2, .hiddenSize = 32, .heads = 4, .keyValueHeads = 2, .feedForwardSize = 48, .vocabularySize = 64};
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  return spec;
}

/// A whole model on one rank.
class OneRank {
 public:
  explicit OneRank(const contract::TrainingJobSpec& spec)
      : meshes_(world_.make_meshes(contract::Layout({}, 1))),
        parameters(spec, *meshes_[0]),
        stage(*spec.model.size, parameters, *meshes_[0]) {
    parameters.initialize(1);
  }

 private:
  mesh::LocalWorld world_;
  std::vector<std::unique_ptr<mesh::Mesh>> meshes_;

 public:
  Parameters parameters;
  LlamaStage stage;
};

at::Tensor tokens(std::int64_t sequences, std::int64_t length) {
  return at::arange(sequences * length, at::kLong).mul(37).remainder(61).view({sequences, length});
}

TEST(LlamaStage, StartsByGuessing) {
  OneRank model(small_spec());
  const at::Tensor loss = model.stage.loss_sum(model.stage.forward(tokens(3, 10)), tokens(3, 10));
  EXPECT_NEAR(loss.item<double>() / 30, std::log(64.0), 0.05);
}

TEST(LlamaStage, DoesNotLookAhead) {
  OneRank model(small_spec());
  const at::Tensor one = tokens(1, 12);
  at::Tensor other = one.clone();
  other.select(1, 8).fill_(63);
  const at::Tensor a = model.stage.forward(one), b = model.stage.forward(other);
  EXPECT_TRUE(at::allclose(a.narrow(1, 0, 8), b.narrow(1, 0, 8), 1e-6, 1e-7));
  EXPECT_FALSE(at::allclose(a.narrow(1, 8, 4), b.narrow(1, 8, 4), 1e-3, 1e-4));
}

TEST(LlamaStage, KnowsTheOrderOfTokens) {
  OneRank model(small_spec());
  const at::Tensor forward = at::tensor({1, 2, 3}, at::kLong).view({1, 3}),
                   swapped = at::tensor({2, 1, 3}, at::kLong).view({1, 3});
  EXPECT_FALSE(at::allclose(model.stage.forward(forward).select(1, 2), model.stage.forward(swapped).select(1, 2), 1e-5, 1e-6));
}

TEST(LlamaStage, TreatsTheSequencesOfABatchApart) {
  OneRank model(small_spec());
  const at::Tensor batch = tokens(4, 10), whole = model.stage.forward(batch);
  for (std::int64_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(at::allclose(model.stage.forward(batch.narrow(0, i, 1)), whole.narrow(0, i, 1), 1e-5, 1e-6));
  }
}

TEST(LlamaStage, TakesSequencesOfAnyLengthOneAfterTheOther) {
  OneRank model(small_spec());
  const at::Tensor long_ones = model.stage.forward(tokens(1, 16));
  EXPECT_TRUE(at::allclose(model.stage.forward(tokens(1, 16).narrow(1, 0, 5)), long_ones.narrow(1, 0, 5), 1e-5, 1e-6));
}

TEST(Parameters, OfATiedEmbeddingHaveTwoLeavesAndOneMemory) {
  auto spec = small_spec();
  spec.model.size->tieEmbeddings = true;
  OneRank model(spec);
  EXPECT_EQ(model.parameters.leaves().size(), model.parameters.all().size() + 1);
  const auto& embedding = model.parameters.variable("model.embed_tokens.weight");
  EXPECT_EQ(embedding.data_ptr(), model.parameters.head().data_ptr());
  EXPECT_FALSE(embedding.is_same(model.parameters.head()));
}

TEST(Parameters, InBf16AreCopiesThatFollowTheMasters) {
  auto spec = small_spec();
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  OneRank model(spec);
  const auto& variable = model.parameters.variable("model.norm.weight");
  EXPECT_EQ(variable.scalar_type(), at::kBFloat16);
  for (auto& parameter : model.parameters.all()) parameter.master.fill_(3);
  EXPECT_EQ(variable[0].item<float>(), 1);
  model.parameters.refresh();
  EXPECT_EQ(variable[0].item<float>(), 3);
}

TEST(Parameters, NameTheOneThatAStageDoesNotHold) {
  OneRank model(small_spec());
  EXPECT_THROW(model.parameters.variable("model.layers.2.mlp.up_proj.weight"), std::out_of_range);
}

}  // namespace
}  // namespace trainyard::model
