// What is offloaded from a GPU computes the same numbers. One rank: threads that share a GPU have one thread of autograd.
#ifdef TRAINYARD_CUDA

#include <torch/cuda.h>

#include <gtest/gtest.h>

#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;

contract::TrainingJobSpec deep_job(ComputePrecision precision) {
  auto spec = small_job(contract::Reduction::kCanonical);
  spec.model.size = contract::ModelSize{
      .layers = 6, .hiddenSize = 128, .heads = 2, .keyValueHeads = 1, .feedForwardSize = 320, .vocabularySize = 160};
  spec.data.sequenceLength = 128;
  spec.training.steps = 6;
  spec.training.precision.compute = precision;
  return spec;
}

Trained train_on_gpu(const contract::TrainingJobSpec& spec) {
  return train(spec, {}, {}, [](mesh::Mesh& mesh) { return mesh::late_on(mesh, at::Device(at::kCUDA, 0)); });
}

class OffloadOnGpu : public testing::TestWithParam<ComputePrecision> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  }
};

TEST_P(OffloadOnGpu, OfTheActivationsEqualsNoneBitForBit) {
  auto spec = deep_job(GetParam());
  const auto plain = train_on_gpu(spec);
  for (const auto mode : {contract::RecomputeMode::kNone, contract::RecomputeMode::kFull, contract::RecomputeMode::kSelective}) {
    SCOPED_TRACE(contract::name_of(mode));
    spec.training.activationCheckpointing = {.mode = mode, .offload = true};
    expect_equal_bits(train_on_gpu(spec), plain);
  }
}

TEST_P(OffloadOnGpu, OfTheParametersEqualsThatOfTheOptimizerAloneBitForBit) {
  auto spec = deep_job(GetParam());
  spec.parallelism.zero = {.stage = 1, .offload = {.optimizer = true}};
  const auto optimizer = train_on_gpu(spec);
  spec.parallelism.zero = {.stage = 3, .offload = {.parameters = true, .optimizer = true}};
  expect_equal_bits(train_on_gpu(spec), optimizer);
}

// The CPU's step rounds within an ulp of the GPU's.
TEST_P(OffloadOnGpu, OfTheOptimizerFollowsTheGpusOwn) {
  auto spec = deep_job(GetParam());
  const auto plain = train_on_gpu(spec);
  spec.parallelism.zero = {.stage = 1, .offload = {.optimizer = true}};
  const auto offloaded = train_on_gpu(spec);
  EXPECT_EQ(offloaded.losses.front(), plain.losses.front());
  EXPECT_EQ(offloaded.norms.front(), plain.norms.front());
  for (std::size_t i = 0; i < plain.losses.size(); ++i) EXPECT_NEAR(offloaded.losses[i], plain.losses[i], 1e-3 * plain.losses[i]);
}

// At stage 2 each of eight micro-batches is added to what comes up from the host; at stage 1 their sum goes down once.
TEST_P(OffloadOnGpu, OfTheGradientsEqualsNoneBitForBit) {
  auto spec = deep_job(GetParam());
  for (const auto reduction : {contract::Reduction::kFast, contract::Reduction::kCanonical}) {
    spec.training.reduction = reduction;
    spec.parallelism.zero = {};
    const auto plain = train_on_gpu(spec);
    for (const std::int32_t stage : {1, 2}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(reduction) << ", stage " << stage);
      spec.parallelism.zero = {.stage = stage, .offload = {.optimizer = true}};
      const auto offloaded = train_on_gpu(spec);
      EXPECT_EQ(offloaded.losses.front(), plain.losses.front());
      EXPECT_EQ(offloaded.norms.front(), plain.norms.front());
      for (const auto& [name, gradient] : plain.first_gradients) {
        EXPECT_TRUE(at::equal(offloaded.first_gradients.at(name), gradient)) << name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, OffloadOnGpu,
                         testing::Values(ComputePrecision::kFP32, ComputePrecision::kBF16, ComputePrecision::kFP16),
                         [](const auto& precision) { return std::string(contract::name_of(precision.param)); });

}  // namespace
}  // namespace trainyard::trainer

#endif  // TRAINYARD_CUDA
