// What lies in the host's memory computes the same numbers, whatever it is combined with (docs/numerics.md).
#include <atomic>
#include <mutex>

#include <gtest/gtest.h>

#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/trainer/a_training.h"
#include "tests/worker/trainer/zero_jobs.h"
#include "worker/plan/cost.h"
#include "worker/plan/offload_cost.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;
using contract::Degrees;
using contract::RecomputeMode;
using contract::TrainingJobSpec;

enum class What { kNothing, kOptimizer, kParameters };

TrainingJobSpec offloading(TrainingJobSpec spec, What what, std::int32_t stage) {
  spec.parallelism.zero = {.stage = stage,
                           .offload = {.parameters = what == What::kParameters, .optimizer = what != What::kNothing}};
  return spec;
}

/// wide_job() of few steps. It is wide enough, too, that the optimizer's step has several blocks of LateLink's.
TrainingJobSpec short_wide_job(std::int64_t steps = 4, ComputePrecision precision = ComputePrecision::kFP32,
                               contract::Reduction reduction = contract::Reduction::kCanonical) {
  auto spec = wide_job(reduction, steps);
  spec.training.precision.compute = precision;
  return spec;
}

const std::vector<Degrees>& some_layouts() {
  static const std::vector<Degrees> layouts{
      {}, {.dp = 2}, {.pp = 2}, {.tp = 2}, {.pp = 2, .dp = 2}, {.dp = 2, .tp = 2}, {.pp = 2, .dp = 2, .tp = 2}};
  return layouts;
}

TEST(Offload, OfTheOptimizerEqualsNoneBitForBitInEveryLayoutAtEveryStage) {
  const auto spec = short_wide_job();
  for (const auto& degrees : some_layouts()) {
    const auto plain = train(spec, degrees);
    for (const std::int32_t stage : {1, 2, 3}) {
      SCOPED_TRACE(text_of(degrees, stage));
      expect_equal_bits(train(offloading(spec, What::kOptimizer, stage), degrees), plain);
    }
  }
}

TEST(Offload, OfTheParametersEqualsNoneBitForBitInEveryLayout) {
  const auto spec = short_wide_job();
  for (const auto& degrees : some_layouts()) {
    SCOPED_TRACE(text_of(degrees, 3));
    expect_equal_bits(train(offloading(spec, What::kParameters, 3), degrees), train(spec, degrees));
  }
}

TEST(Offload, IsTheSameWhenACopyEndsAtOnceAndWhenItEndsAtTheLastMoment) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    const auto spec = short_wide_job(4, precision);
    for (const auto& degrees : {Degrees{}, {.dp = 2}, {.pp = 2, .dp = 2}}) {
      const auto plain = train(spec, degrees);
      for (const std::int32_t stage : {1, 2, 3}) {
        SCOPED_TRACE(text_of(degrees, stage));
        expect_equal_bits(train(offloading(spec, What::kOptimizer, stage), degrees, {}, mesh::late), plain);
      }
      SCOPED_TRACE(text_of(degrees, 3));
      expect_equal_bits(train(offloading(spec, What::kParameters, 3), degrees, {}, mesh::late), plain);
    }
  }
}

TEST(Offload, EqualsNoneBitForBitInEveryPrecision) {
  for (const auto precision : {ComputePrecision::kBF16, ComputePrecision::kFP16, ComputePrecision::kFP8}) {
    auto spec = short_wide_job(4, precision);
    spec.model.size->feedForwardSize = 192;  // what FP8 multiplies
    for (const auto& degrees : {Degrees{}, {.dp = 2}}) {
      SCOPED_TRACE(std::string(contract::name_of(precision)) + ", " + text_of(degrees, 3));
      const auto plain = train(spec, degrees);
      expect_equal_bits(train(offloading(spec, What::kOptimizer, 3), degrees), plain);
      expect_equal_bits(train(offloading(spec, What::kOptimizer, 1), degrees), plain);
      expect_equal_bits(train(offloading(spec, What::kParameters, 3), degrees), plain);
    }
  }
}

TEST(Offload, KeepsATiedEmbeddingOneWeight) {
  auto spec = short_wide_job();
  spec.model.size->tieEmbeddings = true;
  for (const auto& degrees : {Degrees{}, {.dp = 2}, {.pp = 2}, {.pp = 2, .dp = 2}}) {
    const auto plain = train(spec, degrees);
    for (const std::int32_t stage : {1, 3}) {
      SCOPED_TRACE(text_of(degrees, stage));
      expect_equal_bits(train(offloading(spec, What::kOptimizer, stage), degrees, {}, mesh::late), plain);
    }
    expect_equal_bits(train(offloading(spec, What::kParameters, 3), degrees, {}, mesh::late), plain);
  }
}

TEST(Offload, EqualsNoneBitForBitWithEveryPipelineSchedule) {
  auto spec = short_wide_job(3);
  spec.model.size->layers = 4;
  for (const auto name : {contract::PipelineScheduleName::kGPipe, contract::PipelineScheduleName::kInterleaved,
                          contract::PipelineScheduleName::kZeroBubble}) {
    SCOPED_TRACE(contract::name_of(name));
    spec.parallelism.pipelineSchedule = {.name = name,
                                         .virtualStages = name == contract::PipelineScheduleName::kInterleaved ? 2 : 1};
    const auto plain = train(spec, {.pp = 2, .dp = 2});
    expect_equal_bits(train(offloading(spec, What::kOptimizer, 2), {.pp = 2, .dp = 2}, {}, mesh::late), plain);
    expect_equal_bits(train(offloading(spec, What::kParameters, 3), {.pp = 2, .dp = 2}, {}, mesh::late), plain);
  }
}

/// The same stage, so that sums are taken in the same order. A second step, which nothing of the first may be left in. Every precision with every
/// stage on one and two ranks; on more ranks each meets each once over the layouts.
TEST(Offload, UnderFastEqualsNoneBitForBitAtEveryStage) {
  const std::vector<ComputePrecision> precisions{ComputePrecision::kFP32, ComputePrecision::kBF16, ComputePrecision::kFP16};
  const std::vector<Degrees> layouts{{}, {.dp = 2}, {.pp = 2, .dp = 2}, {.dp = 4, .shard = 2}, {.pp = 2, .dp = 2, .tp = 2}};
  for (std::size_t layout = 0; layout < layouts.size(); ++layout) {
    for (const std::int32_t stage : {1, 2, 3}) {
      for (std::size_t i = 0; i < precisions.size(); ++i) {
        if (layout >= 2 && (layout + static_cast<std::size_t>(stage)) % precisions.size() != i) continue;
        const auto& degrees = layouts[layout];
        SCOPED_TRACE(std::string(contract::name_of(precisions[i])) + ", " + text_of(degrees, stage));
        const auto spec = short_wide_job(2, precisions[i], contract::Reduction::kFast);
        const auto plain = train(offloading(spec, What::kNothing, stage), degrees);
        expect_equal_bits(train(offloading(spec, What::kOptimizer, stage), degrees, {}, mesh::late), plain);
        if (layout == 1 || layout == 3) expect_equal_bits(train(offloading(spec, What::kOptimizer, stage), degrees), plain);
        if (stage == 3) expect_equal_bits(train(offloading(spec, What::kParameters, stage), degrees, {}, mesh::late), plain);
      }
    }
  }
}

TEST(Offload, UnderFastKeepsATiedEmbeddingOneWeightWithEverySchedule) {
  auto spec = short_wide_job(3, ComputePrecision::kBF16, contract::Reduction::kFast);
  spec.model.size->tieEmbeddings = true;
  spec.model.size->layers = 4;
  for (const auto& degrees : {Degrees{}, {.dp = 2}, {.pp = 2, .dp = 2}}) {
    for (const auto name : {contract::PipelineScheduleName::kGPipe, contract::PipelineScheduleName::kInterleaved,
                            contract::PipelineScheduleName::kZeroBubble}) {
      if (degrees.pp == 1 && name != contract::PipelineScheduleName::kGPipe) continue;
      SCOPED_TRACE(std::string(contract::name_of(name)) + ", " + text_of(degrees, 2));
      spec.parallelism.pipelineSchedule = {.name = name,
                                           .virtualStages = name == contract::PipelineScheduleName::kInterleaved ? 2 : 1};
      const auto plain = train(offloading(spec, What::kNothing, 2), degrees);
      expect_equal_bits(train(offloading(spec, What::kOptimizer, 2), degrees, {}, mesh::late), plain);
    }
  }
}

TEST(Offload, LeavesTheGradientsOnTheHostAsTheyAreWithout) {
  auto spec = short_wide_job(1, ComputePrecision::kBF16, contract::Reduction::kFast);
  spec.training.gradientClipping.reset();  // gradients() have it in them only where nothing is offloaded
  for (const std::int32_t stage : {1, 2, 3}) {
    SCOPED_TRACE(text_of({.dp = 2}, stage));
    const auto plain = train(offloading(spec, What::kNothing, stage), {.dp = 2});
    const auto offloaded = train(offloading(spec, What::kOptimizer, stage), {.dp = 2}, {}, mesh::late);
    for (const auto& [name, gradient] : plain.first_gradients) {
      EXPECT_TRUE(at::equal(offloaded.first_gradients.at(name), gradient)) << name;
    }
  }
}

TEST(Offload, UnderFastStaysCloseToOneProcessOverAHundredSteps) {
  auto spec = longer_job(100);
  spec.training.gradientClipping.reset();  // gradients() have it in them only where nothing is offloaded
  const auto alone = train(spec, {});
  expect_near(train(offloading(spec, What::kOptimizer, 2), {.dp = 2}), alone);
  expect_near(train(offloading(spec, What::kParameters, 3), {.pp = 2, .dp = 2, .tp = 2}), alone);
}

// On several cores: pieces of a tensor are done by whoever is free.
TEST(Offload, DoesNotDependOnHowManyCoresUpdate) {
  const auto spec = offloading(short_wide_job(), What::kOptimizer, 1);
  const auto updated_by = [&](int cores) {
    auto mine = spec;
    std::map<std::string, at::Tensor> weights;
    mesh::run_ranks(layout_of(mine, {}), [&](mesh::Mesh& mesh) {
      at::set_num_threads(cores);
      Engine engine(mine, mesh, 4);
      at::set_num_threads(1);
      engine.initialize();
      for (std::int64_t step = 0; step < 4; ++step) engine.step(made_up_input(mine, mesh, step));
      for (const auto& parameter : engine.parameters().all()) weights[parameter.global.name] = parameter.master.clone();
    });
    return weights;
  };
  const auto one = updated_by(1), three = updated_by(3);
  for (const auto& [name, weight] : one) EXPECT_TRUE(at::equal(weight, three.at(name))) << name;
}

/// The loss scale is too high at first, and so the first steps are skipped; by the norm, which is of gradients on the host.
TEST(Offload, InFp16SkipsTheStepsThatOverflowAndNoOther) {
  const auto spec = short_wide_job(1, ComputePrecision::kFP16, contract::Reduction::kFast);
  const auto skipped = [&](What what) {
    auto mine = offloading(spec, what, 2);
    std::vector<bool> steps;
    std::mutex mutex;
    mesh::run_ranks(layout_of(mine, {.dp = 2}), [&](mesh::Mesh& plain) {
      at::set_num_threads(1);
      auto mesh = mesh::late(plain);
      Engine engine(mine, mesh, 8);
      engine.initialize();
      auto state = engine.state();
      state.loss_scale->scale = 0x1p24F;
      engine.resume(state);
      for (std::int64_t step = 0; step < 8; ++step) {
        const bool is_skipped = engine.step(made_up_input(mine, mesh, step)).skipped;
        const std::lock_guard lock(mutex);
        if (mesh.rank() == 0) steps.push_back(is_skipped);
      }
    });
    return steps;
  };
  const auto plain = skipped(What::kNothing);
  EXPECT_TRUE(plain.front());
  EXPECT_FALSE(plain.back());
  EXPECT_EQ(skipped(What::kOptimizer), plain);
}

TEST(Offload, OfASkippedStepChangesNothing) {
  for (const auto what : {What::kNothing, What::kOptimizer, What::kParameters}) {
    auto spec = offloading(short_wide_job(), what, 3);
    mesh::run_ranks(layout_of(spec, {.dp = 2}), [&](mesh::Mesh& mesh) {
      at::set_num_threads(1);
      Engine engine(spec, mesh, 4);
      engine.initialize();
      EXPECT_FALSE(engine.step(made_up_input(spec, mesh, 0)).skipped);
      std::vector<at::Tensor> before;
      for (const auto& shard : engine.shards()) before.push_back(shard.local.clone());
      auto bad = made_up_input(spec, mesh, 1);
      bad.loss_tokens = 0;
      EXPECT_TRUE(engine.step(bad).skipped);
      for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(engine.shards()[i].local, before[i]));
      EXPECT_FALSE(engine.step(made_up_input(spec, mesh, 2)).skipped);
    });
  }
}

TEST(Offload, MayBeTurnedOnAndOffWhenATrainingIsResumed) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    Job through;
    through.spec.training.precision.compute = precision;
    run(through);
    for (const bool first : {true, false}) {
      for (const auto what : {What::kOptimizer, What::kParameters}) {
        Job halves;
        halves.spec.training.precision.compute = precision;
        const auto plain = halves.spec;
        const auto checkpoints = halves.spec.checkpoint;
        halves.spec = first ? offloading(plain, what, 3) : plain;
        run(halves, {.dp = 2}, 1, stop_at(3));
        halves.spec = first ? plain : offloading(plain, what, 3);
        halves.spec.checkpoint = checkpoints;
        run(halves, {.pp = 2}, 2);
        EXPECT_EQ(through.tensors_of(6), halves.tensors_of(6)) << first << ' ' << static_cast<int>(what);
      }
    }
  }
}

TrainingJobSpec with_activations(TrainingJobSpec spec, RecomputeMode mode, bool offload) {
  spec.training.activationCheckpointing = {.mode = mode, .offload = offload};
  return spec;
}

TEST(Offload, OfTheActivationsEqualsNoneBitForBitInEveryLayout) {
  const auto spec = short_wide_job(3);
  for (const auto& degrees : some_layouts()) {
    const auto plain = train(spec, degrees);
    for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kFull, RecomputeMode::kSelective}) {
      for (const bool late : {false, true}) {
        SCOPED_TRACE(std::string(contract::name_of(mode)) + ", " + text_of(degrees, 0) + (late ? ", late" : ""));
        const auto over = late ? mesh::late : std::function<mesh::Mesh(mesh::Mesh&)>{};
        expect_equal_bits(train(with_activations(spec, mode, true), degrees, {}, over), plain);
      }
    }
  }
}

TEST(Offload, OfTheActivationsEqualsNoneBitForBitInEveryPrecision) {
  for (const auto precision : {ComputePrecision::kBF16, ComputePrecision::kFP16, ComputePrecision::kFP8}) {
    auto spec = short_wide_job(3, precision);
    spec.model.size->feedForwardSize = 192;
    const auto plain = train(spec, {});
    for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kFull, RecomputeMode::kSelective}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(precision) << ' ' << contract::name_of(mode));
      expect_equal_bits(train(with_activations(spec, mode, true), {}, {}, mesh::late), plain);
    }
  }
}

TEST(Offload, OfTheActivationsEqualsNoneBitForBitWithEveryPipelineSchedule) {
  auto spec = short_wide_job(3);
  spec.model.size->layers = 6;
  for (const auto name : {contract::PipelineScheduleName::kGPipe, contract::PipelineScheduleName::kInterleaved,
                          contract::PipelineScheduleName::kZeroBubble}) {
    spec.parallelism.pipelineSchedule = {.name = name,
                                         .virtualStages = name == contract::PipelineScheduleName::kInterleaved ? 2 : 1};
    const auto plain = train(spec, {.pp = 2, .tp = 2});
    for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kFull, RecomputeMode::kSelective}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(name) << ' ' << contract::name_of(mode));
      expect_equal_bits(train(with_activations(spec, mode, true), {.pp = 2, .tp = 2}, {}, mesh::late), plain);
    }
  }
}

TEST(Offload, OfEverythingAtOnceEqualsNoneBitForBit) {
  auto spec = short_wide_job(3, ComputePrecision::kBF16);
  spec.model.size->layers = 5;
  for (const auto& degrees : {Degrees{}, {.dp = 2}, {.pp = 2, .dp = 2}, {.pp = 2, .dp = 2, .tp = 2}, {.dp = 4, .shard = 2}}) {
    const auto plain = train(spec, degrees);
    for (const auto mode : {RecomputeMode::kNone, RecomputeMode::kFull, RecomputeMode::kSelective}) {
      SCOPED_TRACE(std::string(contract::name_of(mode)) + ", " + text_of(degrees, 3));
      const auto all = with_activations(offloading(spec, What::kParameters, 3), mode, true);
      expect_equal_bits(train(all, degrees, {}, mesh::late), plain);
      expect_equal_bits(train(all, degrees), plain);
    }
  }
}

/// Bytes that an engine's states and staging take of the host, on the rank with the most, after a step.
std::int64_t host_bytes(TrainingJobSpec spec, const Degrees& degrees) {
  const auto layout = layout_of(spec, degrees);
  std::atomic<std::int64_t> most = 0;
  mesh::run_ranks(layout, [&](mesh::Mesh& plain) {
    at::set_num_threads(1);
    std::atomic<std::int64_t> bytes = 0;
    auto mesh = mesh::late_on(plain, at::kCPU, std::make_unique<mesh::LateLink>(plan::kOffloadBlock, &bytes));
    {
      Engine engine(spec, mesh, 1);
      engine.initialize();
      engine.step(made_up_input(spec, mesh, 0));
      for (std::int64_t seen = most; seen < bytes && !most.compare_exchange_weak(seen, bytes);) continue;
    }
    EXPECT_EQ(bytes, 0);
  });
  return most;
}

TEST(Offload, TakesOfTheHostWhatThePlanForetells) {
  for (const auto precision : {ComputePrecision::kFP32, ComputePrecision::kBF16}) {
    for (const auto& degrees : {Degrees{}, {.dp = 4}}) {
      for (const auto what : {What::kOptimizer, What::kParameters}) {
        for (const std::int32_t stage : {1, 3}) {
          if (what == What::kParameters && stage != 3) continue;
          SCOPED_TRACE(text_of(degrees, stage));
          auto spec = offloading(short_wide_job(1, precision), what, stage);
          spec.model.size->tieEmbeddings = stage == 1;
          layout_of(spec, degrees);
          spec.workers.gpusPerWorker = 1;
          EXPECT_EQ(host_bytes(spec, degrees), plan::bytes_per_rank(spec, 0).host);
        }
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::trainer
