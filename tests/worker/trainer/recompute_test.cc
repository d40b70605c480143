// Recomputation changes no bit, whatever it is combined with.
#include <map>
#include <mutex>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"
#include "tests/worker/trainer/a_training.h"
#include "worker/trainer/engine.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;
using contract::RecomputeMode;

/// Of one rank.
struct LossTrace {
  std::vector<double> losses, norms;
  std::vector<at::Tensor> masters;
};

std::map<std::int32_t, LossTrace> train_with_recomputation(contract::TrainingJobSpec spec, contract::Degrees degrees,
                                                           RecomputeMode mode) {
  spec.training.activationCheckpointing.mode = mode;
  const auto layout = layout_of(spec, degrees);
  std::mutex mutex;
  std::map<std::int32_t, LossTrace> traces;
  mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    Engine engine(spec, mesh, *spec.training.steps);
    engine.initialize();
    LossTrace trace;
    for (std::int64_t step = 0; step < *spec.training.steps; ++step) {
      const auto metrics = engine.step(made_up_input(spec, mesh, step));
      trace.losses.push_back(metrics.loss);
      trace.norms.push_back(metrics.gradient_norm);
    }
    for (const auto& parameter : engine.parameters().all()) trace.masters.push_back(parameter.master.clone());
    const std::lock_guard lock(mutex);
    traces[mesh.rank()] = std::move(trace);
  });
  return traces;
}

TEST(Recomputation, GivesTheSameBitsInEveryLayoutAndPrecision) {
  for (const auto precision :
       {ComputePrecision::kFP32, ComputePrecision::kBF16, ComputePrecision::kFP16, ComputePrecision::kFP8}) {
    for (const auto& degrees : {contract::Degrees{}, {.dp = 2}, {.pp = 2}, {.tp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
      auto spec = small_job(contract::Reduction::kCanonical);
      spec.training.precision.compute = precision;
      spec.training.steps = 4;
      spec.model.size->tieEmbeddings = degrees.pp == 2;
      const auto kept = train_with_recomputation(spec, degrees, RecomputeMode::kNone);
      for (const auto mode : {RecomputeMode::kFull, RecomputeMode::kSelective}) {
        SCOPED_TRACE(testing::Message() << contract::name_of(mode) << ' ' << contract::name_of(precision) << " pp=" << degrees.pp
                                        << " dp=" << degrees.dp << " tp=" << degrees.tp);
        const auto again = train_with_recomputation(spec, degrees, mode);
        for (const auto& [rank, wanted] : kept) {
          const auto& found = again.at(rank);
          EXPECT_EQ(found.losses, wanted.losses);
          EXPECT_EQ(found.norms, wanted.norms);
          for (std::size_t i = 0; i < wanted.masters.size(); ++i) EXPECT_TRUE(at::equal(found.masters[i], wanted.masters[i]));
        }
      }
    }
  }
}

TEST(Recomputation, GivesTheSameBitsWithEveryPipelineSchedule) {
  using contract::PipelineScheduleName;
  for (const auto schedule :
       {PipelineScheduleName::kGPipe, PipelineScheduleName::kInterleaved, PipelineScheduleName::kZeroBubble}) {
    auto spec = small_job(contract::Reduction::kCanonical);
    spec.training.steps = 3;
    spec.parallelism.pipelineSchedule = {.name = schedule,
                                         .virtualStages = schedule == PipelineScheduleName::kInterleaved ? 2 : 1};
    const contract::Degrees degrees{.pp = 2, .tp = 2};
    const auto kept = train_with_recomputation(spec, degrees, RecomputeMode::kNone);
    for (const auto mode : {RecomputeMode::kFull, RecomputeMode::kSelective}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(mode) << ' ' << contract::name_of(schedule));
      const auto again = train_with_recomputation(spec, degrees, mode);
      for (const auto& [rank, wanted] : kept) {
        EXPECT_EQ(again.at(rank).losses, wanted.losses);
        for (std::size_t i = 0; i < wanted.masters.size(); ++i)
          EXPECT_TRUE(at::equal(again.at(rank).masters[i], wanted.masters[i]));
      }
    }
  }
}

TEST(Recomputation, GivesTheSameBitsWithEveryStageOfZeRo) {
  for (const std::int32_t zero : {1, 2, 3}) {
    auto spec = small_job(contract::Reduction::kCanonical);
    spec.training.steps = 3;
    spec.parallelism.zero.stage = zero;
    const auto kept = train_with_recomputation(spec, {.dp = 2}, RecomputeMode::kNone);
    for (const auto mode : {RecomputeMode::kFull, RecomputeMode::kSelective}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(mode) << " stage " << zero);
      const auto again = train_with_recomputation(spec, {.dp = 2}, mode);
      for (const auto& [rank, wanted] : kept) {
        EXPECT_EQ(again.at(rank).losses, wanted.losses);
        for (std::size_t i = 0; i < wanted.masters.size(); ++i)
          EXPECT_TRUE(at::equal(again.at(rank).masters[i], wanted.masters[i]));
      }
    }
  }
}

TEST(Recomputation, MayBeTurnedOnWhenATrainingIsResumed) {
  Job through, halves;
  run(through);
  run(halves, {}, 1, stop_at(3));
  halves.spec.training.activationCheckpointing.mode = RecomputeMode::kFull;
  run(halves, {.pp = 2}, 2);
  EXPECT_EQ(through.tensors_of(6), halves.tensors_of(6));
}

}  // namespace
}  // namespace trainyard::trainer
