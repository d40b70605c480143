#include "worker/schedule/step.h"

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"

namespace trainyard::schedule {
namespace {

/// All schedules of a pipeline, with chunks where it has them.
std::vector<contract::PipelineSchedule> schedules() {
  using Name = contract::PipelineScheduleName;
  return {{.name = Name::kOneForwardOneBackward, .virtualStages = 1},
          {.name = Name::kGPipe, .virtualStages = 1},
          {.name = Name::kInterleaved, .virtualStages = 2},
          {.name = Name::kZeroBubble, .virtualStages = 1}};
}

contract::TrainingJobSpec small_spec() {
  contract::TrainingJobSpec spec;
  spec.model.size = contract::ModelSize{.layers = 4, .hiddenSize = 16, .heads = 2, .feedForwardSize = 24, .vocabularySize = 32};
  spec.training.precision.compute = contract::ComputePrecision::kFP32;
  return spec;
}

at::Tensor rows(std::int64_t first, std::int64_t count) {
  return (at::arange(count * 7, at::kLong) + first * 7).mul(13).remainder(31).view({count, 7});
}

/// Eight sequences of six tokens, in micro-batches of `size`.
StepInput input_of(std::int64_t size) {
  return {.micro_batches = static_cast<std::int32_t>(8 / size),
          .micro_batch_size = size,
          .sequence_length = 6,
          .loss_tokens = 8 * 6,
          .read = [size](std::int32_t i) {
            const at::Tensor all = rows(i * size, size);
            return MicroBatch{.tokens_BT = all.narrow(1, 0, 6), .targets_BT = all.narrow(1, 1, 6)};
          }};
}

/// Calls `body` with a runner on every rank of a pipeline.
void on_pipeline(std::int32_t pp, const std::function<void(StepRunner&, model::Parameters&, mesh::Mesh&)>& body,
                 const contract::PipelineSchedule& schedule = {}) {
  auto spec = small_spec();
  spec.parallelism.pipeline = pp;
  spec.parallelism.pipelineSchedule = schedule;
  mesh::run_ranks(contract::Layout({.pp = pp}, pp), [&](mesh::Mesh& mesh) {
    model::Parameters parameters(spec, mesh);
    parameters.initialize(1);
    auto chunks = model::llama_chunks(spec, parameters, mesh);
    StepRunner runner(spec, parameters, chunks, mesh);
    body(runner, parameters, mesh);
  });
}

TEST(StepRunner, GivesTheSameGradientHoweverTheBatchIsCut) {
  on_pipeline(1, [](StepRunner& runner, model::Parameters&, mesh::Mesh&) {
    const auto whole = runner.run(input_of(8));
    for (const std::int64_t size : {1, 2, 4}) {
      const auto cut = runner.run(input_of(size));
      EXPECT_NEAR(cut.loss.item<double>(), whole.loss.item<double>(), 1e-6);
      for (std::size_t i = 0; i < whole.gradients.size(); ++i) {
        EXPECT_TRUE(at::allclose(cut.gradients[i], whole.gradients[i], 1e-4, 1e-7)) << i;
      }
    }
  });
}

TEST(StepRunner, LeavesNothingBehindThatTheNextStepWouldAdd) {
  const auto body = [](StepRunner& runner, model::Parameters& parameters, mesh::Mesh&) {
    const auto first = runner.run(input_of(2)), second = runner.run(input_of(2));
    for (std::size_t i = 0; i < first.gradients.size(); ++i) EXPECT_TRUE(at::equal(first.gradients[i], second.gradients[i]));
    for (const auto& leaf : parameters.leaves()) EXPECT_FALSE(leaf.variable.grad().defined());
  };
  for (const auto& schedule : schedules()) on_pipeline(2, body, schedule);
}

TEST(StepRunner, ReadsForTheFirstAndTheLastPartOfTheModelAlone) {
  std::mutex mutex;
  std::vector<std::int32_t> reads;
  const auto body = [&](StepRunner& runner, model::Parameters&, mesh::Mesh& mesh) {
    auto input = input_of(2);
    input.read = [&, read = input.read](std::int32_t i) {
      const std::lock_guard lock(mutex);
      ++reads[static_cast<std::size_t>(mesh.rank())];
      return read(i);
    };
    runner.run(input);
  };
  reads.assign(4, 0);
  on_pipeline(4, body);
  EXPECT_EQ(reads, (std::vector<std::int32_t>{4, 0, 0, 4}));
  reads.assign(2, 0);
  on_pipeline(2, body, {.name = contract::PipelineScheduleName::kInterleaved, .virtualStages = 2});
  EXPECT_EQ(reads, (std::vector<std::int32_t>{4, 4}));
}

TEST(StepRunner, GivesTheSameBitsInEverySchedule) {
  for (const std::int64_t size : {1, 2, 4}) {
    std::map<std::string, at::Tensor> expected;
    for (const auto& schedule : schedules()) {
      std::mutex mutex;
      std::map<std::string, at::Tensor> gradients;
      const auto body = [&](StepRunner& runner, model::Parameters& parameters, mesh::Mesh&) {
        const auto result = runner.run(input_of(size));
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < result.gradients.size(); ++i) {
          gradients[parameters.all()[i].global.name] = result.gradients[i];
        }
      };
      on_pipeline(2, body, schedule);
      if (expected.empty()) expected = gradients;
      SCOPED_TRACE(contract::name_of(schedule.name));
      ASSERT_EQ(gradients.size(), expected.size());
      for (const auto& [name, gradient] : gradients) EXPECT_TRUE(at::equal(gradient, expected.at(name))) << name;
    }
  }
}

TEST(StepRunner, EvaluatesWhatItTrainsOnAndTouchesNoGradient) {
  const auto body = [](StepRunner& runner, model::Parameters& parameters, mesh::Mesh& mesh) {
    const double sum = runner.loss_sum(input_of(2));
    for (const auto& leaf : parameters.leaves()) EXPECT_FALSE(leaf.variable.grad().defined());
    const double loss = runner.run(input_of(2)).loss.item<double>();
    EXPECT_NEAR(sum / 48, loss, 1e-6);
    EXPECT_EQ(loss != 0, mesh.is_last_stage());
  };
  for (const std::int32_t pp : {1, 2, 4}) on_pipeline(pp, body);
  for (const auto& schedule : schedules()) on_pipeline(2, body, schedule);
}

}  // namespace
}  // namespace trainyard::schedule
