// Training in FP8: how far it is from BF16, and that its layouts still compute the same numbers.
#include <cmath>
#include <mutex>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"
#include "tests/worker/trainer/small_job.h"
#include "worker/trainer/engine.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;
using contract::Fp8Recipe;

contract::TrainingJobSpec job_with_fp8_recipe(std::int64_t steps, std::optional<Fp8Recipe> recipe) {
  auto spec = small_job(contract::Reduction::kCanonical);
  spec.model.size->layers = 2;
  spec.model.size->hiddenSize = 64;
  spec.model.size->feedForwardSize = 128;
  spec.training.steps = steps;
  spec.training.precision.compute = recipe ? ComputePrecision::kFP8 : ComputePrecision::kBF16;
  if (recipe) spec.training.precision.fp8 = contract::Fp8{.recipe = *recipe};
  return spec;
}

std::vector<double> losses(contract::TrainingJobSpec spec, contract::Degrees degrees = {}) {
  const auto layout = layout_of(spec, degrees);
  std::mutex mutex;
  std::vector<double> out;
  mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    Engine engine(spec, mesh, *spec.training.steps);
    engine.initialize();
    for (std::int64_t step = 0; step < *spec.training.steps; ++step) {
      const auto metrics = engine.step(made_up_input(spec, mesh, step));
      const std::lock_guard lock(mutex);
      if (mesh.rank() == 0) out.push_back(metrics.loss);
    }
  });
  return out;
}

TEST(Fp8Training, FollowsThatInBf16) {
  const auto wanted = losses(job_with_fp8_recipe(100, {}));
  for (const auto recipe : {Fp8Recipe::kTensorwise, Fp8Recipe::kRowwise, Fp8Recipe::kBlockwise}) {
    const auto found = losses(job_with_fp8_recipe(100, recipe));
    EXPECT_NE(found, wanted) << contract::name_of(recipe);
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i], wanted[i], 0.02 * wanted[i]) << contract::name_of(recipe) << " step " << i + 1;
    }
    EXPECT_LT(found.back(), 0.8 * found.front());
  }
}

TEST(Fp8Training, IsTheSameBitsWithDataAndPipelineParallelismAsAlone) {
  for (const auto recipe : {Fp8Recipe::kTensorwise, Fp8Recipe::kRowwise, Fp8Recipe::kBlockwise}) {
    const auto alone = losses(job_with_fp8_recipe(6, recipe));
    for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2}, {.pp = 2, .dp = 4}}) {
      EXPECT_EQ(losses(job_with_fp8_recipe(6, recipe), degrees), alone) << contract::name_of(recipe) << degrees.pp << degrees.dp;
    }
  }
}

}  // namespace
}  // namespace trainyard::trainer
