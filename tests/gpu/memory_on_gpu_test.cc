// The most memory of a GPU that a whole step takes is what the plan foretells; tests/worker/trainer/step_memory_test.cc does so of a CPU.
#ifdef TRAINYARD_CUDA

#include <c10/cuda/CUDACachingAllocator.h>
#include <torch/cuda.h>

#include <gtest/gtest.h>

#include "tests/worker/mesh/late_comm.h"
#include "tests/worker/trainer/in_layouts.h"
#include "worker/plan/cost.h"
#include "worker/trainer/measurements.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;

/// So large that workspaces of libraries matter little.
contract::TrainingJobSpec large_job(ComputePrecision precision, std::int64_t micro_batches) {
  auto spec = small_job();
  spec.model.size = contract::ModelSize{
      .layers = 4, .hiddenSize = 2048, .heads = 16, .keyValueHeads = 4, .feedForwardSize = 5632, .vocabularySize = 32000};
  spec.data.sequenceLength = 2048;
  spec.training.precision.compute = precision;
  spec.parallelism.microBatchSize = 4;
  spec.training.globalBatchSize = 4 * micro_batches;
  spec.workers.gpusPerWorker = 1;
  return spec;
}

std::int64_t measured(contract::TrainingJobSpec spec) {
  std::int64_t peak = 0;
  const auto layout = layout_of(spec, {});
  mesh::run_ranks(layout, [&](mesh::Mesh& plain) {
    mesh::Mesh mesh = mesh::late_on(plain, at::Device(at::kCUDA, 0));
    c10::cuda::CUDACachingAllocator::emptyCache();
    Engine engine(spec, mesh, 2);
    engine.initialize();
    engine.step(made_up_input(spec, mesh, 0));
    c10::cuda::CUDACachingAllocator::resetPeakStats(0);
    engine.step(made_up_input(spec, mesh, 1));
    peak = memory_peak(mesh.device()).value();
  });
  return peak;
}

class StepMemoryOnGpu : public testing::TestWithParam<ComputePrecision> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU here";
  }
};

TEST_P(StepMemoryOnGpu, OfOneRankIsForetold) {
  for (const std::int64_t micro_batches : {1, 3}) {
    for (const auto mode : {contract::RecomputeMode::kNone, contract::RecomputeMode::kFull}) {
      auto spec = large_job(GetParam(), micro_batches);
      spec.training.activationCheckpointing.mode = mode;
      const auto foretold = static_cast<double>(plan::bytes_per_rank(spec, 0).total());
      const auto found = static_cast<double>(measured(spec));
      std::printf("%ld micro-batches, recomputation %s: %.3f GiB, foretold %.3f\n", micro_batches,
                  std::string(contract::name_of(mode)).c_str(), found / (1 << 30), foretold / (1 << 30));
      EXPECT_NEAR(foretold, found, 0.03 * found) << micro_batches << " micro-batches, " << contract::name_of(mode);
    }
  }
}

TEST_P(StepMemoryOnGpu, OfOneRankIsForetoldWithItsOptimizerOffloaded) {
  for (const std::int32_t stage : {1, 2}) {
    auto spec = large_job(GetParam(), 3);
    spec.parallelism.zero = {.stage = stage, .offload = {.optimizer = true}};
    const auto foretold = static_cast<double>(plan::bytes_per_rank(spec, 0).total());
    const auto found = static_cast<double>(measured(spec));
    std::printf("offloaded at stage %d: %.3f GiB, foretold %.3f\n", stage, found / (1 << 30), foretold / (1 << 30));
    EXPECT_NEAR(foretold, found, 0.03 * found) << stage;
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, StepMemoryOnGpu,
                         testing::Values(ComputePrecision::kFP32, ComputePrecision::kBF16, ComputePrecision::kFP16),
                         [](const auto& precision) { return std::string(contract::name_of(precision.param)); });

}  // namespace
}  // namespace trainyard::trainer

#endif  // TRAINYARD_CUDA
