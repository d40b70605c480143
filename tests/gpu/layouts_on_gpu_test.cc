// Layouts equal one process also where their ranks compute on a GPU: threads that share one, over LocalComm. One thread of autograd serves a
// GPU, and both ranks of an exchange that it waits for would be its own, for ever. So layouts whose backward pass waits (tensor parallelism,
// ZeRO, and data ranks of more than two units a stage under Canonical, which has two exchanges under way at the most) need a process and a
// GPU a rank: training_test.py. Here calls are started in backward and end later (late_comm.h), on the ranks' own threads.
#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>

#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/trainer/in_layouts.h"
#include "worker/model/fp8.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;
using Name = contract::PipelineScheduleName;

/// Heads and rows as wide as the fused kernels want them.
contract::TrainingJobSpec wide_job(ComputePrecision precision) {
  auto spec = small_job(contract::Reduction::kCanonical);
  spec.model.size = contract::ModelSize{
      .layers = 4, .hiddenSize = 128, .heads = 2, .keyValueHeads = 1, .feedForwardSize = 320, .vocabularySize = 160};
  spec.training.steps = 4;
  spec.training.precision.compute = precision;
  return spec;
}

/// So that each stage of two has two units: a layer, and the embedding or the head.
contract::TrainingJobSpec of_two_layers(contract::TrainingJobSpec spec) {
  spec.model.size->layers = 2;
  return spec;
}

Trained train_on_gpu(const contract::TrainingJobSpec& spec, const contract::Degrees& degrees) {
  return train(spec, degrees, {}, [](mesh::Mesh& mesh) { return mesh::late_on(mesh, at::Device(at::kCUDA, 0)); });
}

class LayoutsOnGpu : public testing::TestWithParam<ComputePrecision> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
    if (GetParam() != ComputePrecision::kFP8) return;
    try {
      model::check_fp8(at::Device(at::kCUDA, 0), contract::Fp8Recipe::kTensorwise);
    } catch (const contract::UserError& error) {
      GTEST_SKIP() << error.what();
    }
  }
  /// FP8's products do not split their backward.
  static bool can_run(Name schedule) { return GetParam() != ComputePrecision::kFP8 || schedule != Name::kZeroBubble; }
};

TEST_P(LayoutsOnGpu, UnderCanonicalDataAndPipelineParallelEqualOneProcessBitForBit) {
  const auto spec = of_two_layers(wide_job(GetParam()));
  const auto alone = train_on_gpu(spec, {});
  for (const auto& degrees : {contract::Degrees{.pp = 2}, {.pp = 2, .dp = 2}}) {
    SCOPED_TRACE("dp=" + std::to_string(degrees.dp) + " pp=" + std::to_string(degrees.pp));
    expect_equal_bits(train_on_gpu(spec, degrees), alone);
  }
}

/// Whose exchange of any number of units comes after the backward pass.
TEST_P(LayoutsOnGpu, UnderCanonicalDataRanksWithZeroBubbleEqualOneProcessBitForBit) {
  if (!can_run(Name::kZeroBubble)) GTEST_SKIP() << "its backward is not split";
  auto spec = wide_job(GetParam());
  const auto alone = train_on_gpu(spec, {});
  spec.parallelism.pipelineSchedule.name = Name::kZeroBubble;
  expect_equal_bits(train_on_gpu(spec, {.pp = 2, .dp = 2}), alone);
}

/// Which have any number of exchanges under way. Of two micro-batches there is one sum, whoever adds it up.
TEST_P(LayoutsOnGpu, UnderFastTwoDataRanksOfOneMicroBatchEachEqualOneProcessBitForBit) {
  auto spec = wide_job(GetParam());
  spec.training.reduction = contract::Reduction::kFast;
  spec.training.globalBatchSize = 2;
  const auto alone = train_on_gpu(spec, {});
  expect_equal_bits(train_on_gpu(spec, {.dp = 2}), alone);
  if (can_run(Name::kZeroBubble)) spec.parallelism.pipelineSchedule.name = Name::kZeroBubble;
  expect_equal_bits(train_on_gpu(spec, {.pp = 2, .dp = 2}), alone);
}

TEST_P(LayoutsOnGpu, EveryPipelineScheduleEqualsOneProcessBitForBit) {
  auto spec = wide_job(GetParam());
  const auto alone = train_on_gpu(spec, {});
  for (const auto name : {Name::kGPipe, Name::kInterleaved, Name::kZeroBubble}) {
    if (!can_run(name)) continue;
    SCOPED_TRACE(contract::name_of(name));
    spec.parallelism.pipelineSchedule.name = name;
    spec.parallelism.pipelineSchedule.virtualStages = name == Name::kInterleaved ? 2 : 1;
    expect_equal_bits(train_on_gpu(spec, {.pp = 2}), alone);
  }
}

TEST_P(LayoutsOnGpu, RecomputationEqualsNoneBitForBit) {
  auto spec = wide_job(GetParam());
  const auto kept = train_on_gpu(spec, {});
  for (const auto mode : {contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
    spec.training.activationCheckpointing.mode = mode;
    expect_equal_bits(train_on_gpu(spec, {}), kept);
  }
}

TEST_P(LayoutsOnGpu, WithDropoutAndTheLossesTermsEqualOneProcessBitForBit) {
  auto spec = of_two_layers(wide_job(GetParam()));
  spec.training.dropout = 0.1;
  spec.training.loss = {.labelSmoothing = 0.1, .zLoss = 1e-3};
  const auto alone = train_on_gpu(spec, {});
  for (const auto name : {Name::kOneForwardOneBackward, Name::kZeroBubble}) {
    if (!can_run(name)) continue;
    SCOPED_TRACE(contract::name_of(name));
    spec.parallelism.pipelineSchedule.name = name;
    expect_equal_bits(train_on_gpu(spec, {.pp = 2, .dp = 2}), alone);
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, LayoutsOnGpu,
                         testing::Values(ComputePrecision::kFP32, ComputePrecision::kBF16, ComputePrecision::kFP16,
                                         ComputePrecision::kFP8),
                         [](const auto& precision) { return std::string(contract::name_of(precision.param)); });

}  // namespace
}  // namespace trainyard::trainer

#endif  // TRAINYARD_CUDA
