#include "worker/plan/shards.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "tests/worker/plan/llama3_8b.h"
#include "worker/plan/norm_block.h"

namespace trainyard::plan {
namespace {

/// No size is a power of two, and the vocabulary is GPT-2's.
contract::ModelSize odd() {
  return {.layers = 3, .hiddenSize = 60, .heads = 6, .keyValueHeads = 2, .feedForwardSize = 198, .vocabularySize = 50258};
}

std::vector<Parameter> of_stage(const contract::ModelSize& size, std::int32_t pp, std::int32_t stage) {
  std::vector<Parameter> mine;
  for (const auto& parameter : llama_parameters(size, split_layers(size, pp))) {
    if (parameter.is_on(stage)) mine.push_back(parameter);
  }
  return mine;
}

TEST(ShardUnits, AreTheEmbeddingThenTheLayersThenTheHead) {
  const auto mine = of_stage(odd(), 1, 0);
  const auto units = shard_units(mine, 1, 0, 2);
  ASSERT_EQ(units.size(), 5u);
  EXPECT_EQ(mine[units[0].parameters.at(0)].name, "model.embed_tokens.weight");
  for (std::size_t layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(units[layer + 1].parameters.size(), 9u);
    for (const auto place : units[layer + 1].parameters) {
      EXPECT_TRUE(mine[place].name.starts_with("model.layers." + std::to_string(layer) + "."));
    }
  }
  EXPECT_EQ(units[4].parameters.size(), 2u);
}

TEST(ShardUnits, OfMoreThanTenLayersComeInTheOrderOfTheirNumbers) {
  const auto mine = of_stage(llama3_8b(), 1, 0);
  const auto units = shard_units(mine, 1, 0, 8);
  EXPECT_TRUE(mine[units[11].parameters[0]].name.starts_with("model.layers.10."));
}

TEST(ShardUnits, HaveEachElementOnceAndEveryBlockOfTheNormOnOneDataRank) {
  for (const auto& size : {odd(), llama3_8b()}) {
    for (const std::int32_t pp : {1, 2}) {
      for (const std::int32_t tp : {1, 2}) {
        for (const std::int32_t dp : {1, 2, 3, 8}) {
          for (std::int32_t rank = 0; rank < pp * tp; ++rank) {
            const auto mine = of_stage(size, pp, rank / tp);
            const auto units = shard_units(mine, tp, rank % tp, dp);
            std::set<std::size_t> seen;
            for (const auto& unit : units) {
              ASSERT_EQ(unit.data_ranks(), dp);
              std::int64_t sum = 0;
              for (std::int32_t r = 0; r < dp; ++r) {
                sum += unit.kept(r);
                EXPECT_LE(unit.kept(r), unit.part_elements);
              }
              EXPECT_EQ(sum, unit.elements());
              for (std::size_t i = 0; i < unit.parameters.size(); ++i) {
                const auto& parameter = mine[unit.parameters[i]];
                EXPECT_TRUE(seen.insert(unit.parameters[i]).second);
                const Box whole = box_of(parameter, tp, rank % tp);
                const std::int64_t row = num_elements(parameter.shape) / parameter.shape[0];
                std::int64_t next = whole.offsets[0];
                for (std::int32_t r = 0; r < dp; ++r) {
                  Box rows = unit.boxes(r)[i];
                  EXPECT_EQ(rows.offsets[0], next);
                  next += rows.sizes[0];
                  const bool inner = rows.sizes[0] > 0 && next < whole.offsets[0] + whole.sizes[0];
                  EXPECT_TRUE(!inner || next * row % kNormBlock == 0) << parameter.name;
                  rows.offsets[0] = whole.offsets[0];
                  rows.sizes[0] = whole.sizes[0];
                  EXPECT_EQ(rows, whole) << "more than rows was cut";
                }
                EXPECT_EQ(next, whole.offsets[0] + whole.sizes[0]);
              }
            }
            EXPECT_EQ(seen.size(), mine.size());
          }
        }
      }
    }
  }
}

TEST(ShardUnits, GiveTheRanksOfALargeModelEqualSharesWithinAThousandth) {
  const auto mine = of_stage(llama3_8b(), 1, 0);
  for (const auto& unit : shard_units(mine, 1, 0, 8)) {
    EXPECT_LT(static_cast<double>(unit.part_elements) * 8, 1.001 * static_cast<double>(unit.elements()));
  }
}

TEST(ZeroStage, IsNoneWithOneDataRankThatOffloadsNothing) {
  contract::TrainingJobSpec spec;
  spec.parallelism.zero.stage = 3;
  EXPECT_EQ(zero_stage(spec), 0);
  spec.parallelism.zero.offload.optimizer = true;
  EXPECT_EQ(zero_stage(spec), 2) << "gradients leave unit by unit; weights need not come so";
  spec.parallelism.zero.offload.parameters = true;
  EXPECT_EQ(zero_stage(spec), 3);
  spec.parallelism.zero.offload = {};
  spec.workers.count = 2;
  EXPECT_EQ(zero_stage(spec), 3);
}

TEST(UncutElementsKept, AreTheNormsAndTheSameBesideEveryTensorRankOfASensibleVocabulary) {
  contract::TrainingJobSpec spec;
  spec.workers.count = 12;
  spec.model.size = odd();
  spec.model.size->vocabularySize = 50257;  // one class more on one tensor rank
  spec.parallelism.tensor = 2;
  spec.parallelism.zero.stage = 1;
  const auto kept = uncut_elements_kept(spec, 0, 0);
  ASSERT_EQ(kept.size(), 6u);
  EXPECT_EQ(std::accumulate(kept.begin(), kept.end(), std::int64_t{0}), (2 * 3 + 1) * 60);
  EXPECT_EQ(uncut_elements_kept(spec, 0, 1), kept);
  spec.workers.count = 10;
  spec.model.size->vocabularySize = 3;
  EXPECT_NE(uncut_elements_kept(spec, 0, 1), uncut_elements_kept(spec, 0, 0));
}

}  // namespace
}  // namespace trainyard::plan
