// Parallel equals serial: every layout against the one process that trains alone (docs/numerics.md).
#include <cmath>
#include <map>
#include <mutex>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"
#include "tests/worker/trainer/small_job.h"
#include "worker/trainer/engine.h"

namespace trainyard::trainer {
namespace {

using contract::Reduction;

struct Training {
  std::vector<double> losses;
  std::vector<double> norms;
  std::map<std::string, at::Tensor> first_gradients;  // whole tensors
  std::map<std::string, at::Tensor> weights;          // at the end
};

/// Adds this rank's box of each tensor to the whole ones.
void collect(const Engine& engine, const std::vector<at::Tensor>& parts, std::map<std::string, at::Tensor>& wholes) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [global, box, master] = engine.parameters().all()[i];
    auto& whole = wholes.try_emplace(global.name, at::zeros(global.shape)).first->second;
    at::Tensor inside = whole;
    for (std::size_t dim = 0; dim < box.sizes.size(); ++dim) {
      inside = inside.narrow(static_cast<std::int64_t>(dim), box.offsets[dim], box.sizes[dim]);
    }
    inside.copy_(parts[i]);
  }
}

Training train(contract::TrainingJobSpec spec, contract::Degrees degrees, mesh::LocalWorld::Manners manners = {}) {
  at::set_num_threads(1);
  const auto layout = layout_of(spec, degrees);
  std::mutex mutex;
  Training out;
  const auto body = [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    Engine engine(spec, mesh, *spec.training.steps);
    engine.initialize();
    const bool reports = mesh.is_last_stage() && mesh.at().dp == 0 && mesh.at().tp == 0;
    for (std::int64_t step = 0; step < *spec.training.steps; ++step) {
      const auto metrics = engine.step(made_up_input(spec, mesh, step));
      const std::lock_guard lock(mutex);
      if (step == 0) collect(engine, engine.gradients(), out.first_gradients);
      if (!reports) continue;
      out.losses.push_back(metrics.loss);
      out.norms.push_back(metrics.gradient_norm);
    }
    std::vector<at::Tensor> masters;
    for (const auto& parameter : engine.parameters().all()) masters.push_back(parameter.master);
    const std::lock_guard lock(mutex);
    collect(engine, masters, out.weights);
  };
  mesh::run_ranks(layout, body, manners);
  return out;
}

void expect_equal_bits(const Training& a, const Training& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (const auto& [name, weight] : a.weights) EXPECT_TRUE(at::equal(weight, b.weights.at(name))) << name;
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).to(at::kDouble).norm() / b.to(at::kDouble).norm()).item<double>();
}

void expect_near(const Training& a, const Training& b) {
  ASSERT_EQ(a.losses.size(), b.losses.size());
  EXPECT_NEAR(a.losses.front(), b.losses.front(), 1e-6 * b.losses.front());
  for (std::size_t i = 0; i < a.losses.size(); ++i) EXPECT_NEAR(a.losses[i], b.losses[i], 1e-5) << "step " << i + 1;
  EXPECT_NEAR(a.norms.front(), b.norms.front(), 1e-6 * b.norms.front());
  for (const auto& [name, gradient] : b.first_gradients) {
    EXPECT_LT(relative_difference(a.first_gradients.at(name), gradient), 1e-6) << name;
  }
}

/// Two layers and two micro-batches: for many steps.
contract::TrainingJobSpec longer_job(std::int64_t steps) {
  auto spec = small_job();
  spec.model.size->layers = 2;
  spec.training.globalBatchSize = 8;
  spec.parallelism.microBatchSize = 4;
  spec.training.steps = steps;
  return spec;
}

TEST(Training, LearnsTheMadeUpText) {
  const auto spec = longer_job(150);
  const auto alone = train(spec, {});
  EXPECT_NEAR(alone.losses.front(), std::log(64.0), 0.05);
  EXPECT_LT(alone.losses.back(), 2.5);
}

TEST(Training, IsTheSameTwice) { expect_equal_bits(train(small_job(), {}), train(small_job(), {})); }

TEST(Training, DependsOnTheSeed) {
  auto other = small_job();
  other.training.seed = 2;
  EXPECT_NE(train(small_job(), {}).losses, train(other, {}).losses);
}

TEST(Canonical, DataAndPipelineParallelEqualOneProcessBitForBit) {
  const auto spec = small_job(Reduction::kCanonical);
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.dp = 2}, {.dp = 4}, {.pp = 2}, {.pp = 4, .dp = 2}}) {
    SCOPED_TRACE("dp=" + std::to_string(degrees.dp) + " pp=" + std::to_string(degrees.pp));
    expect_equal_bits(train(spec, degrees), alone);
  }
}

TEST(Canonical, ATiedEmbeddingIsOneWeightInEveryLayout) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->tieEmbeddings = true;
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2}, {.pp = 4}}) {
    SCOPED_TRACE("dp=" + std::to_string(degrees.dp) + " pp=" + std::to_string(degrees.pp));
    expect_equal_bits(train(spec, degrees), alone);
  }
}

/// Every schedule that cuts the model of small_job() into at least two stages.
std::vector<std::pair<contract::PipelineSchedule, std::int32_t>> schedules_and_stages() {
  using Name = contract::PipelineScheduleName;
  return {{{.name = Name::kGPipe, .virtualStages = 1}, 2},       {{.name = Name::kGPipe, .virtualStages = 1}, 4},
          {{.name = Name::kInterleaved, .virtualStages = 2}, 2}, {{.name = Name::kInterleaved, .virtualStages = 3}, 2},
          {{.name = Name::kInterleaved, .virtualStages = 2}, 4}, {{.name = Name::kZeroBubble, .virtualStages = 1}, 2},
          {{.name = Name::kZeroBubble, .virtualStages = 1}, 4}};
}

TEST(Canonical, EveryScheduleEqualsOneProcessBitForBit) {
  for (const bool tied : {false, true}) {
    auto spec = small_job(Reduction::kCanonical);
    spec.model.size->layers = 9;  // no schedule cuts them evenly
    spec.model.size->tieEmbeddings = tied;
    spec.training.steps = 6;
    const auto alone = train(spec, {});
    for (const auto& [schedule, pp] : schedules_and_stages()) {
      for (const std::int32_t dp : {1, 2}) {
        SCOPED_TRACE(std::string(contract::name_of(schedule.name)) + " of " + std::to_string(schedule.virtualStages) +
                     ", pp=" + std::to_string(pp) + " dp=" + std::to_string(dp) + (tied ? ", tied" : ""));
        spec.parallelism.pipelineSchedule = schedule;
        expect_equal_bits(train(spec, {.pp = pp, .dp = dp}), alone);
      }
    }
  }
}

TEST(Bf16, EveryScheduleEqualsOneProcessBitForBit) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->layers = 8;
  spec.training.steps = 4;
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  const auto alone = train(spec, {});
  for (const auto& [schedule, pp] : schedules_and_stages()) {
    SCOPED_TRACE(std::string(contract::name_of(schedule.name)) + ", pp=" + std::to_string(pp));
    spec.parallelism.pipelineSchedule = schedule;
    expect_equal_bits(train(spec, {.pp = pp}), alone);
  }
}

TEST(TensorParallel, EveryScheduleGivesTheSameBits) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->layers = 8;
  spec.training.steps = 4;
  const auto one_stage = train(spec, {.tp = 2});
  for (const auto& [schedule, pp] : schedules_and_stages()) {
    SCOPED_TRACE(std::string(contract::name_of(schedule.name)) + ", pp=" + std::to_string(pp));
    spec.parallelism.pipelineSchedule = schedule;
    expect_equal_bits(train(spec, {.pp = pp, .tp = 2}), one_stage);
  }
}

TEST(Pipeline, NeedsNoMeetingBeforehandWhereTheFirstCallOfAPairWaitsForBoth) {
  auto spec = small_job(Reduction::kCanonical);
  spec.model.size->tieEmbeddings = true;
  const auto alone = train(spec, {});
  for (const std::int32_t pp : {2, 3, 4}) {
    SCOPED_TRACE("pp=" + std::to_string(pp));
    expect_equal_bits(train(spec, {.pp = pp}, {.pairs_meet = true, .timeout = std::chrono::seconds(20)}), alone);
  }
}

TEST(Fast, EveryLayoutStaysCloseToOneProcessOverAHundredSteps) {
  const auto spec = longer_job(100);
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.tp = 2}, {.dp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) {
    SCOPED_TRACE("dp=" + std::to_string(degrees.dp) + " pp=" + std::to_string(degrees.pp) + " tp=" + std::to_string(degrees.tp));
    expect_near(train(spec, degrees), alone);
  }
}

TEST(Fast, ATiedEmbeddingIsCutByTensorParallelism) {
  auto spec = small_job();
  spec.model.size->tieEmbeddings = true;
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .tp = 2}}) expect_near(train(spec, degrees), alone);
}

TEST(Bf16, TrainsAsWellAsFullPrecision) {
  auto spec = longer_job(40);
  const auto full = train(spec, {});
  spec.training.precision.compute = contract::ComputePrecision::kBF16;
  for (const auto& degrees : {contract::Degrees{}, {.pp = 2, .tp = 2}}) {
    const auto half = train(spec, degrees);
    EXPECT_NEAR(half.losses.front(), full.losses.front(), 0.02);
    EXPECT_NEAR(half.losses.back(), full.losses.back(), 0.1);
    EXPECT_EQ(half.weights.begin()->second.scalar_type(), at::kFloat);
  }
}

}  // namespace
}  // namespace trainyard::trainer
