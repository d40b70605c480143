#include "worker/plan/parameters.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

contract::ModelSize four_layer_model(bool tied = false) {
  return {.layers = 4,
          .hiddenSize = 64,
          .heads = 8,
          .keyValueHeads = 4,
          .feedForwardSize = 160,
          .vocabularySize = 256,
          .tieEmbeddings = tied};
}

std::map<std::string, Parameter> by_name(const std::vector<Parameter>& parameters) {
  std::map<std::string, Parameter> out;
  for (const auto& parameter : parameters) out.emplace(parameter.name, parameter);
  return out;
}

TEST(LlamaParameters, OfChunksLieOnTheStagesInTurn) {
  const auto parameters = by_name(llama_parameters(four_layer_model(true), split_layers(four_layer_model(true), 4), 2));
  const auto expect_at = [&](const std::string& name, const std::vector<std::int32_t>& stages, std::int32_t stage,
                             std::int32_t chunk) {
    EXPECT_EQ(parameters.at(name).stages, stages) << name;
    EXPECT_EQ(parameters.at(name).chunk_on(stage), chunk) << name;
  };
  expect_at("model.layers.0.mlp.up_proj.weight", {0}, 0, 0);
  expect_at("model.layers.1.mlp.up_proj.weight", {1}, 1, 0);
  expect_at("model.layers.2.mlp.up_proj.weight", {0}, 0, 1);
  expect_at("model.layers.3.mlp.up_proj.weight", {1}, 1, 1);
  expect_at("model.norm.weight", {1}, 1, 1);
  expect_at("model.embed_tokens.weight", {0, 1}, 0, 0);
  expect_at("model.embed_tokens.weight", {0, 1}, 1, 1);
  EXPECT_THROW(parameters.at("model.norm.weight").chunk_on(0), std::invalid_argument);
}

TEST(LlamaParameters, HaveTheNamesAndShapesOfHuggingFace) {
  const auto parameters = by_name(llama_parameters(four_layer_model(), split_layers(four_layer_model(), 1)));
  ASSERT_EQ(parameters.size(), 4u * 9 + 3);
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> expected = {
      {"model.embed_tokens.weight", {256, 64}},
      {"model.layers.3.input_layernorm.weight", {64}},
      {"model.layers.3.self_attn.q_proj.weight", {64, 64}},
      {"model.layers.3.self_attn.k_proj.weight", {32, 64}},
      {"model.layers.3.self_attn.v_proj.weight", {32, 64}},
      {"model.layers.3.self_attn.o_proj.weight", {64, 64}},
      {"model.layers.3.post_attention_layernorm.weight", {64}},
      {"model.layers.3.mlp.gate_proj.weight", {160, 64}},
      {"model.layers.3.mlp.up_proj.weight", {160, 64}},
      {"model.layers.3.mlp.down_proj.weight", {64, 160}},
      {"model.norm.weight", {64}},
      {"lm_head.weight", {256, 64}}};
  for (const auto& [name, shape] : expected) {
    ASSERT_TRUE(parameters.contains(name)) << name;
    EXPECT_EQ(parameters.at(name).shape, shape) << name;
  }
}

TEST(LlamaParameters, StandInNameOrder) {
  const auto parameters = llama_parameters(four_layer_model(), split_layers(four_layer_model(), 2));
  EXPECT_TRUE(std::is_sorted(parameters.begin(), parameters.end(), [](const auto& a, const auto& b) { return a.name < b.name; }));
}

TEST(LlamaParameters, DecayAsMatricesAndNotAsNorms) {
  for (const auto& parameter : llama_parameters(four_layer_model(), split_layers(four_layer_model(), 1))) {
    EXPECT_EQ(parameter.decays, parameter.shape.size() == 2) << parameter.name;
    EXPECT_EQ(parameter.split_dim.has_value(), parameter.shape.size() == 2) << parameter.name;
  }
}

TEST(LlamaParameters, LieOnTheStageOfTheirLayer) {
  const auto stages = split_layers(four_layer_model(), 4);
  const auto parameters = by_name(llama_parameters(four_layer_model(), stages));
  EXPECT_EQ(parameters.at("model.embed_tokens.weight").stages, (std::vector<std::int32_t>{0}));
  EXPECT_EQ(parameters.at("model.layers.2.mlp.up_proj.weight").stages, (std::vector<std::int32_t>{2}));
  EXPECT_EQ(parameters.at("model.norm.weight").stages, (std::vector<std::int32_t>{3}));
  EXPECT_EQ(parameters.at("lm_head.weight").stages, (std::vector<std::int32_t>{3}));
}

TEST(LlamaParameters, ATiedEmbeddingLiesOnTheFirstAndTheLastStage) {
  const auto parameters = by_name(llama_parameters(four_layer_model(true), split_layers(four_layer_model(true), 4)));
  EXPECT_FALSE(parameters.contains("lm_head.weight"));
  EXPECT_EQ(parameters.at("model.embed_tokens.weight").stages, (std::vector<std::int32_t>{0, 3}));
  const auto alone = by_name(llama_parameters(four_layer_model(true), split_layers(four_layer_model(true), 1)));
  EXPECT_EQ(alone.at("model.embed_tokens.weight").stages, (std::vector<std::int32_t>{0}));
}

TEST(BoxOf, CutsEachTensorIntoPartsThatCoverItOnce) {
  for (const std::int32_t tp : {1, 2, 4}) {
    for (const auto& parameter : llama_parameters(four_layer_model(), split_layers(four_layer_model(), 1))) {
      std::int64_t covered = 0;
      for (std::int32_t rank = 0; rank < tp; ++rank) {
        const Box box = box_of(parameter, tp, rank);
        covered += num_elements(box.sizes);
        if (parameter.split_dim) {
          const auto dim = static_cast<std::size_t>(*parameter.split_dim);
          EXPECT_EQ(box.offsets[dim], rank * box.sizes[dim]) << parameter.name;
        }
      }
      EXPECT_EQ(covered, num_elements(parameter.shape) * (parameter.split_dim ? 1 : tp)) << parameter.name;
    }
  }
}

TEST(ClassesOf, AVocabularyOfAnySizeAreAsManyAsAnyOtherRankHasOrOneMore) {
  for (const std::int64_t vocabulary : {8, 9, 11, 50'257}) {
    for (const std::int32_t tp : {1, 2, 3, 4, 8}) {
      std::int64_t next = 0;
      for (std::int32_t rank = 0; rank < tp; ++rank) {
        const Range classes = classes_of(vocabulary, tp, rank);
        EXPECT_EQ(classes.first, next);
        EXPECT_GE(classes.count, vocabulary / tp);
        EXPECT_LE(classes.count, classes_of(vocabulary, tp, 0).count);
        EXPECT_LE(classes.count, vocabulary / tp + 1);
        next += classes.count;
      }
      EXPECT_EQ(next, vocabulary);
    }
  }
}

TEST(BoxOf, NamesTheTensorThatDoesNotDivide) {
  const auto parameters = by_name(llama_parameters(four_layer_model(), split_layers(four_layer_model(), 1)));
  try {
    box_of(parameters.at("model.layers.0.mlp.up_proj.weight"), 3, 0);
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "cut model.layers.0.mlp.up_proj.weight: dimension 0 of size 160 does not divide by tensor 3");
  }
}

TEST(StageParameters, StandForAllThatTheStageHas) {
  for (const bool tied : {false, true}) {
    for (const std::int32_t pipeline : {1, 2, 3}) {
      contract::TrainingJobSpec spec;
      spec.model.size = contract::ModelSize{.layers = 12,
                                            .hiddenSize = 64,
                                            .heads = 4,
                                            .keyValueHeads = 2,
                                            .feedForwardSize = 96,
                                            .vocabularySize = 1000,
                                            .tieEmbeddings = tied};
      spec.parallelism.pipeline = pipeline;
      if (pipeline == 3) {
        spec.parallelism.pipelineSchedule = {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 2};
      }
      for (std::int32_t stage = 0; stage < pipeline; ++stage) {
        std::map<std::vector<std::int64_t>, std::int64_t> expected, found;  // how many of each shape
        for (const auto& parameter : parameters_of(spec)) {
          if (parameter.is_on(stage)) ++expected[parameter.shape];
        }
        const auto mine = stage_parameters(spec, stage);
        for (const auto& parameter : mine.parameters) found[parameter.shape] += mine.count_of(parameter);
        EXPECT_EQ(found, expected) << "stage " << stage << " of " << pipeline << (tied ? ", tied" : "");
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::plan
