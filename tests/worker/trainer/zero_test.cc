// ZeRO equals plain data parallelism, and one process (docs/numerics.md).
#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

#include <gtest/gtest.h>

#include "tests/worker/data/scratch_folder.h"
#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/trainer/zero_jobs.h"
#include "worker/plan/cost.h"
#include "worker/plan/shards.h"
#include "worker/plan/zero_cost.h"
#include "worker/trainer/evaluation.h"

namespace trainyard::trainer {
namespace {

using contract::Reduction;

TEST(Zero, CutsMatricesOfTheseTestsInTheMiddle) {
  const auto spec = wide_job(Reduction::kFast);
  bool cut = false;
  for (const auto& unit :
       plan::shard_units(plan::llama_parameters(*spec.model.size, plan::split_layers(*spec.model.size, 1)), 1, 0, 4)) {
    for (std::int32_t rank = 0; rank < 4; ++rank) {
      for (const auto& box : unit.boxes(rank)) cut = cut || (box.sizes[0] > 0 && box.offsets[0] > 0);
    }
  }
  EXPECT_TRUE(cut);
}

TEST(Zero, UnderCanonicalEqualsOneProcessBitForBitAtEveryStage) {
  const auto spec = wide_job(Reduction::kCanonical);
  const auto alone = train(spec, {});
  for (const std::int32_t stage : {1, 2, 3}) {
    for (const auto& degrees : {contract::Degrees{.dp = 2}, {.dp = 4}, {.pp = 2, .dp = 2}, {.pp = 2, .dp = 4}}) {
      SCOPED_TRACE(text_of(degrees, stage));
      expect_equal_bits(train(at_stage(spec, stage), degrees), alone);
    }
  }
}

/// 4,480,000 numbers, of which stage 0 gathers 4 Mi at a time.
TEST(Zero, UnderCanonicalEqualsOneProcessBitForBitWithAnEmbeddingThatIsGatheredInParts) {
  auto spec = wide_job(Reduction::kCanonical, 2);
  spec.model.size = contract::ModelSize{
      .layers = 1, .hiddenSize = 64, .heads = 4, .keyValueHeads = 2, .feedForwardSize = 128, .vocabularySize = 70000};
  spec.training.globalBatchSize = 4;
  ASSERT_GT(spec.model.size->vocabularySize * spec.model.size->hiddenSize, plan::kGatheredElements);
  const auto alone = train(spec, {});
  for (const auto& over : {std::function<mesh::Mesh(mesh::Mesh&)>(), std::function<mesh::Mesh(mesh::Mesh&)>(mesh::late)}) {
    expect_equal_bits(train(spec, {.dp = 2}, {}, over), alone);
  }
}

TEST(Zero, UnderCanonicalEqualsStage0BitForBitWithThreeDataRanks) {
  auto spec = wide_job(Reduction::kCanonical);
  spec.training.globalBatchSize = 12;
  const auto plain = train(spec, {.dp = 3});
  for (const std::int32_t stage : {1, 2, 3}) {
    SCOPED_TRACE(stage);
    expect_equal_bits(train(at_stage(spec, stage), {.dp = 3}), plain);
  }
}

TEST(Zero, UnderCanonicalEqualsStage0BitForBitWithTheSameTensorParallelism) {
  const auto spec = wide_job(Reduction::kCanonical);
  for (const auto& degrees : {contract::Degrees{.dp = 2, .tp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
    const auto plain = train(spec, degrees);
    for (const std::int32_t stage : {1, 2, 3}) {
      SCOPED_TRACE(text_of(degrees, stage));
      expect_equal_bits(train(at_stage(spec, stage), degrees), plain);
    }
  }
}

TEST(Zero, UnderCanonicalEqualsOneProcessBitForBitInEveryPipelineSchedule) {
  auto spec = wide_job(Reduction::kCanonical, 3);
  spec.model.size->layers = 4;
  const auto alone = train(spec, {});
  for (const auto name : {contract::PipelineScheduleName::kGPipe, contract::PipelineScheduleName::kInterleaved,
                          contract::PipelineScheduleName::kZeroBubble}) {
    for (const std::int32_t stage : {1, 2, 3}) {
      SCOPED_TRACE(std::string(contract::name_of(name)) + ", stage " + std::to_string(stage));
      auto sharded = at_stage(spec, stage);
      sharded.parallelism.pipelineSchedule.name = name;
      sharded.parallelism.pipelineSchedule.virtualStages = name == contract::PipelineScheduleName::kInterleaved ? 2 : 1;
      expect_equal_bits(train(sharded, {.pp = 2, .dp = 2}), alone);
    }
  }
}

TEST(Zero, ATiedEmbeddingIsOneWeightInEveryLayout) {
  auto spec = wide_job(Reduction::kCanonical);
  spec.model.size->tieEmbeddings = true;
  const auto alone = train(spec, {});
  for (const std::int32_t stage : {1, 2, 3}) {
    for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2, .dp = 2}}) {
      SCOPED_TRACE(text_of(degrees, stage));
      expect_equal_bits(train(at_stage(spec, stage), degrees), alone);
    }
  }
}

TEST(Zero, WorksWithTensorsThatAreSmallerThanABlockOfTheNorm) {
  const auto spec = small_job(Reduction::kCanonical);
  const auto alone = train(spec, {});
  for (const std::int32_t stage : {1, 2, 3}) {
    SCOPED_TRACE(stage);
    expect_equal_bits(train(at_stage(spec, stage), {.dp = 8}), alone);
  }
}

TEST(Zero, UnderFastStaysCloseToOneProcessOverAHundredSteps) {
  const auto spec = longer_job(100);
  const auto alone = train(spec, {});
  for (const std::int32_t stage : {1, 2, 3}) {
    for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
      SCOPED_TRACE(text_of(degrees, stage));
      expect_near(train(at_stage(spec, stage), degrees), alone);
    }
  }
}

TEST(Zero, WithRecomputationEqualsOneProcessWithoutBitForBit) {
  const auto spec = wide_job(Reduction::kCanonical, 3);
  const auto alone = train(spec, {});
  for (const auto mode : {contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
    for (const std::int32_t stage : {1, 3}) {
      SCOPED_TRACE(std::string(contract::name_of(mode)) + ", stage " + std::to_string(stage));
      auto sharded = at_stage(spec, stage);
      sharded.training.activationCheckpointing.mode = mode;
      expect_equal_bits(train(sharded, {.pp = 2, .dp = 2}, {}, mesh::late), alone);
    }
  }
}

TEST(Zero, InFp16IsWhatStage0Is) {
  auto spec = wide_job(Reduction::kCanonical);
  spec.training.precision.compute = contract::ComputePrecision::kFP16;
  const auto alone = train(spec, {});
  for (const std::int32_t stage : {1, 2, 3}) {
    SCOPED_TRACE(stage);
    expect_equal_bits(train(at_stage(spec, stage), {.dp = 2}), alone);
  }
}

TEST(Zero, InBf16IsWhatStage0Is) {
  auto spec = wide_job(Reduction::kCanonical);
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  const auto alone = train(spec, {});
  for (const std::int32_t stage : {1, 2, 3}) {
    SCOPED_TRACE(stage);
    expect_equal_bits(train(at_stage(spec, stage), {.dp = 2}), alone);
  }
}

TEST(Zero, WithMomentsInBf16IsWhatStage0IsOffloadedToo) {
  auto spec = wide_job(Reduction::kCanonical);
  spec.training.optimizer.beta2 = 0.95;
  const auto in_fp32 = train(spec, {});
  spec.training.precision.optimizerStates = contract::OptimizerStates::kBF16;
  const auto alone = train(spec, {});
  EXPECT_NE(alone.losses, in_fp32.losses);
  expect_equal_bits_at_every_stage(spec, {{.pp = 2, .dp = 2}}, alone);
}

TEST(Zero, IsTheSameWhenAnExchangeEndsAtOnceAndWhenItEndsAtTheLastMoment) {
  for (const auto reduction : {Reduction::kCanonical, Reduction::kFast}) {
    for (const std::int32_t stage : {0, 1, 2, 3}) {
      for (const bool tied : {false, true}) {
        auto spec = at_stage(wide_job(reduction), stage);
        spec.model.size->tieEmbeddings = tied;
        for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2, .dp = 2}}) {
          SCOPED_TRACE(text_of(degrees, stage));
          expect_equal_bits(train(spec, degrees, {}, mesh::late), train(spec, degrees));
        }
      }
    }
  }
}

TEST(Zero, WithShardsInAWorkerEqualsOneProcessBitForBit) {
  for (const auto precision : {contract::ComputePrecision::kFP32, contract::ComputePrecision::kBF16}) {
    for (const bool tied : {false, true}) {
      auto spec = wide_job(Reduction::kCanonical, 4);
      spec.training.precision.compute = precision;
      spec.model.size->tieEmbeddings = tied;
      const auto alone = train(spec, {});
      for (const std::int32_t stage : {1, 2, 3}) {
        for (const auto& degrees : {contract::Degrees{.dp = 4, .shard = 2}, {.pp = 2, .dp = 4, .shard = 2}}) {
          if (tied && precision == contract::ComputePrecision::kBF16) continue;  // BF16 rounds the two leaves' gradients
          SCOPED_TRACE(text_of(degrees, stage));
          expect_equal_bits(train(at_stage(spec, stage), degrees), alone);
          expect_equal_bits(train(at_stage(spec, stage), degrees, {}, mesh::late), alone);
        }
      }
    }
  }
}

TEST(Zero, WithShardsInAWorkerStaysCloseToOneProcessUnderFast) {
  const auto spec = longer_job(100);
  const auto alone = train(spec, {});
  for (const std::int32_t stage : {1, 2, 3}) {
    SCOPED_TRACE(stage);
    auto four = at_stage(spec, stage);
    four.parallelism.microBatchSize = 2;
    expect_near(train(four, {.dp = 4, .shard = 2}), alone);
  }
}

TEST(Zero, WithShardsInAWorkerWritesEachOfThemOnce) {
  auto spec = at_stage(wide_job(Reduction::kCanonical, 1), 3);
  std::map<std::string, std::int64_t> written;
  std::mutex mutex;
  mesh::run_ranks(layout_of(spec, {.dp = 4, .shard = 2}), [&](mesh::Mesh& mesh) {
    const Engine engine(spec, mesh, 1);
    const std::lock_guard lock(mutex);
    for (const auto& shard : engine.shards()) {
      if (shard.writes) written[shard.name] += shard.local.numel();
    }
  });
  for (const auto& parameter : plan::parameters_of(spec)) {
    EXPECT_EQ(written[parameter.name], plan::num_elements(parameter.shape)) << parameter.name;
  }
}

TEST(Zero, WithOneDataRankIsStage0) {
  const auto spec = small_job();
  expect_equal_bits(train(at_stage(spec, 3), {}), train(spec, {}));
  expect_equal_bits(train(at_stage(spec, 3), {.pp = 2}), train(spec, {.pp = 2}));
}

TEST(Zero, KeepsOnEachRankOnlyWhatItsStageSaysAndThePlanForetells) {
  for (const std::int32_t stage : {0, 1, 2, 3}) {
    auto spec = at_stage(wide_job(Reduction::kFast, 1), stage);
    const auto layout = layout_of(spec, {.dp = 4});
    std::atomic<std::int64_t> moments = 0, gradients = 0, weights = 0;
    std::mutex mutex;
    std::int64_t most_moments = 0;
    mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
      Engine engine(spec, mesh, 1);
      engine.initialize();
      engine.step(made_up_input(spec, mesh, 0));
      std::int64_t mine = 0;
      for (const auto& shard : engine.shards()) {
        if (shard.name.starts_with("optimizer.exp_avg.")) mine += shard.local.numel();
      }
      moments += mine;
      for (const auto& gradient : engine.gradients()) gradients += gradient.numel();
      for (const auto& leaf : engine.parameters().leaves()) {
        weights += static_cast<std::int64_t>(leaf.variable.storage().nbytes() / sizeof(float));
      }
      const std::lock_guard lock(mutex);
      most_moments = std::max(most_moments, mine);
    });
    const auto foretold = plan::bytes_per_rank(spec, 0);
    EXPECT_EQ(8 * most_moments, foretold.optimizer) << stage;
    EXPECT_EQ(stage == 3 ? 4 * most_moments : 0, foretold.master) << stage;
    const std::int64_t model = plan::num_parameters(*spec.model.size);
    EXPECT_EQ(moments, stage >= 1 ? model : 4 * model) << stage;
    EXPECT_EQ(gradients, stage >= 1 ? model : 4 * model) << stage;
    EXPECT_EQ(weights, stage >= 3 ? 0 : 4 * model) << stage;
  }
}

TEST(Zero, KeepsUnderCanonicalTheGradientsOfItsShardAndNotWhatWasExchangedForThem) {
  const auto spec = at_stage(wide_job(Reduction::kCanonical, 1), 2);
  auto layout_spec = spec;
  std::atomic<std::int64_t> bytes = 0;
  mesh::run_ranks(layout_of(layout_spec, {.dp = 4}), [&](mesh::Mesh& mesh) {
    Engine engine(layout_spec, mesh, 1);
    engine.initialize();
    engine.step(made_up_input(layout_spec, mesh, 0));
    std::set<const void*> storages;
    for (const auto& gradient : engine.gradients()) {
      if (storages.insert(gradient.storage().data()).second) bytes += static_cast<std::int64_t>(gradient.storage().nbytes());
    }
  });
  EXPECT_LT(bytes, 4 * plan::num_parameters(*spec.model.size) * 3 / 2);  // shards of a unit are filled up to equal sizes
}

// Data ranks with a micro-batch less than the others make as many exchanges of weights.
TEST(Zero, EvaluatesAtStage3WhatADataRankAloneDoes) {
  auto spec = at_stage(wide_job(Reduction::kCanonical), 3);
  spec.model.size->vocabularySize = 256;
  const ScratchFolder folder;
  for (const std::int64_t samples : {1, 7, 8}) {
    std::string text;
    for (std::int64_t i = 0; i <= samples * spec.data.sequenceLength; ++i) text += static_cast<char>('a' + i * i % 26);
    const std::vector<contract::Source> sources{{.path = folder.write(std::to_string(samples), text)}};
    const auto loss_in = [&](contract::Degrees degrees) {
      auto mine = spec;
      const auto layout = layout_of(mine, degrees);
      std::mutex mutex;
      std::vector<double> losses;
      mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
        at::set_num_threads(1);
        const data::SampleSet set("data.validation", sources, mine.data.sequenceLength, 256);
        Engine engine(mine, mesh, 1);
        engine.initialize();
        const double loss = evaluate(mine, set, engine, mesh);
        engine.step(made_up_input(mine, mesh, 0));  // an evaluation leaves nothing that would disturb training
        const std::lock_guard lock(mutex);
        losses.push_back(loss);
      });
      for (const double loss : losses) EXPECT_EQ(loss, losses.front());
      return losses.front();
    };
    const double alone = loss_in({});
    for (const auto& degrees : {contract::Degrees{.dp = 2}, {.dp = 4}, {.pp = 2, .dp = 2}}) {
      SCOPED_TRACE(text_of(degrees, 3) + ", samples " + std::to_string(samples));
      EXPECT_NEAR(loss_in(degrees), alone, 1e-9 * alone);
    }
  }
}

}  // namespace
}  // namespace trainyard::trainer
