#include "worker/schedule/step.h"

#include <mutex>
#include <vector>

#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"

namespace trainyard::schedule {
namespace {

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
void on_pipeline(std::int32_t pp, const std::function<void(StepRunner&, model::Parameters&, mesh::Mesh&)>& body) {
  const auto spec = small_spec();
  mesh::run_ranks(contract::Layout({.pp = pp}, pp), [&](mesh::Mesh& mesh) {
    model::Parameters parameters(spec, mesh);
    parameters.initialize(1);
    model::LlamaStage stage(*spec.model.size, parameters, mesh);
    StepRunner runner(spec, parameters, stage, mesh);
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
  on_pipeline(2, [](StepRunner& runner, model::Parameters& parameters, mesh::Mesh&) {
    const auto first = runner.run(input_of(2)), second = runner.run(input_of(2));
    for (std::size_t i = 0; i < first.gradients.size(); ++i) EXPECT_TRUE(at::equal(first.gradients[i], second.gradients[i]));
    for (const auto& leaf : parameters.leaves()) EXPECT_FALSE(leaf.variable.grad().defined());
  });
}

TEST(StepRunner, ReadsOnTheFirstAndTheLastStageAlone) {
  std::mutex mutex;
  std::vector<std::int32_t> reads(4, 0);
  on_pipeline(4, [&](StepRunner& runner, model::Parameters&, mesh::Mesh& mesh) {
    auto input = input_of(2);
    input.read = [&, read = input.read](std::int32_t i) {
      const std::lock_guard lock(mutex);
      ++reads[static_cast<std::size_t>(mesh.rank())];
      return read(i);
    };
    runner.run(input);
  });
  EXPECT_EQ(reads, (std::vector<std::int32_t>{4, 0, 0, 4}));
}

TEST(StepRunner, EvaluatesWhatItTrainsOnAndTouchesNoGradient) {
  for (const std::int32_t pp : {1, 2, 4}) {
    on_pipeline(pp, [](StepRunner& runner, model::Parameters& parameters, mesh::Mesh& mesh) {
      const double sum = runner.loss_sum(input_of(2));
      for (const auto& leaf : parameters.leaves()) EXPECT_FALSE(leaf.variable.grad().defined());
      const double loss = runner.run(input_of(2)).loss.item<double>();
      EXPECT_NEAR(sum / 48, loss, 1e-6);
      EXPECT_EQ(loss != 0, mesh.is_last_stage());
    });
  }
}

}  // namespace
}  // namespace trainyard::schedule
