#include "worker/plan/stages.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

contract::ModelSize model_of_layers(std::int32_t layers, std::int32_t vocabulary = 256) {
  return {.layers = layers, .hiddenSize = 64, .heads = 4, .feedForwardSize = 192, .vocabularySize = vocabulary};
}

TEST(SplitLayers, GivesEveryLayerToOneStageAndEveryStageALayer) {
  for (std::int32_t layers = 1; layers <= 32; ++layers) {
    for (std::int32_t num_stages = 1; num_stages <= std::min(8, layers); ++num_stages) {
      const auto stages = split_layers(model_of_layers(layers), num_stages);
      ASSERT_EQ(stages.size(), static_cast<std::size_t>(num_stages));
      EXPECT_EQ(stages.front().first, 0);
      EXPECT_EQ(stages.back().last, layers);
      for (std::size_t i = 0; i < stages.size(); ++i) {
        EXPECT_LT(stages[i].first, stages[i].last);
        EXPECT_TRUE(i == 0 || stages[i].first == stages[i - 1].last);
      }
    }
  }
}

TEST(SplitLayers, IsEvenWhereTheHeadIsSmall) {
  EXPECT_EQ(split_layers(model_of_layers(4, 1), 2), (std::vector<LayerRange>{{0, 2}, {2, 4}}));
  EXPECT_EQ(split_layers(model_of_layers(5, 1), 2), (std::vector<LayerRange>{{0, 3}, {3, 5}}));
}

TEST(SplitLayers, TakesLayersOffTheStageOfALargeHead) {
  // A head of 1,600 x 64 elements costs as much as two layers of 4·64·64 + 3·64·192.
  const auto stages = split_layers(model_of_layers(10, 1664), 4);
  EXPECT_EQ(stages, (std::vector<LayerRange>{{0, 3}, {3, 6}, {6, 9}, {9, 10}}));
}

TEST(SplitLayers, RefusesMoreStagesThanLayers) {
  EXPECT_THROW(split_layers(model_of_layers(2), 3), std::invalid_argument);
  EXPECT_THROW(split_layers(model_of_layers(2), 0), std::invalid_argument);
}

TEST(PartOf, FindsThePartThatHasTheLayer) {
  const auto parts = split_layers(model_of_layers(8, 1), 4);
  for (std::int32_t layer = 0; layer < 8; ++layer) EXPECT_EQ(part_of(parts, layer), layer / 2);
  EXPECT_THROW(part_of(parts, 8), std::invalid_argument);
}

TEST(ChunksPerStage, AreVirtualStagesWhereThePipelineGoesAround) {
  contract::TrainingJobSpec spec;
  spec.model.size = model_of_layers(8, 1);
  spec.parallelism.pipelineSchedule.virtualStages = 4;
  for (const std::int32_t pipeline : {1, 2}) {
    spec.parallelism.pipeline = pipeline;
    for (const auto name :
         {contract::PipelineScheduleName::kOneForwardOneBackward, contract::PipelineScheduleName::kInterleaved}) {
      spec.parallelism.pipelineSchedule.name = name;
      const bool around = pipeline == 2 && name == contract::PipelineScheduleName::kInterleaved;
      EXPECT_EQ(chunks_per_stage(spec.parallelism), around ? 4 : 1);
      EXPECT_EQ(parts_of(spec).size(), around ? 8u : static_cast<std::size_t>(pipeline));
    }
  }
}

TEST(PartsOf, BalanceSevenLayersOnTwoStagesOfOneOrTwoChunks) {
  contract::TrainingJobSpec spec;
  spec.model.size = model_of_layers(7, 1);
  spec.parallelism.pipeline = 2;
  EXPECT_EQ(parts_of(spec), (std::vector<LayerRange>{{0, 4}, {4, 7}}));
  spec.parallelism.pipelineSchedule = {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 2};
  EXPECT_EQ(parts_of(spec), (std::vector<LayerRange>{{0, 2}, {2, 4}, {4, 6}, {6, 7}}));
}

}  // namespace
}  // namespace trainyard::plan
