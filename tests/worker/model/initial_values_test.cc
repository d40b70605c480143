#include "worker/model/initial_values.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "worker/plan/stages.h"

namespace trainyard::model {
namespace {

plan::Parameter matrix(std::string name = "model.layers.0.mlp.up_proj.weight", plan::Initial initial = plan::Initial::kNormal) {
  return {.name = std::move(name), .shape = {96, 64}, .initial = initial, .split_dim = 0, .stages = {0}};
}

at::Tensor filled(const plan::Parameter& parameter, const plan::Box& box, std::int64_t seed = 1) {
  at::Tensor out = at::empty(box.sizes);
  fill_initial_values(out, parameter, box, seed, 8);
  return out;
}
at::Tensor filled(const plan::Parameter& parameter, std::int64_t seed = 1) {
  return filled(parameter, plan::box_of(parameter, 1, 0), seed);
}

TEST(InitialValues, OfAPartAreThoseOfTheWhole) {
  for (const std::int64_t dim : {0, 1}) {
    auto parameter = matrix();
    parameter.split_dim = dim;
    const at::Tensor whole = filled(parameter);
    for (std::int32_t rank = 0; rank < 4; ++rank) {
      const auto box = plan::box_of(parameter, 4, rank);
      const auto size = box.sizes[static_cast<std::size_t>(dim)];
      EXPECT_TRUE(at::equal(filled(parameter, box), whole.narrow(dim, rank * size, size)));
    }
  }
}

TEST(InitialValues, DependOnSeedAndName) {
  const at::Tensor values = filled(matrix());
  EXPECT_TRUE(at::equal(values, filled(matrix())));
  EXPECT_FALSE(at::equal(values, filled(matrix(), 2)));
  EXPECT_FALSE(at::equal(values, filled(matrix("model.layers.1.mlp.up_proj.weight"))));
}

TEST(InitialValues, DoNotDependOnTheNumberOfThreads) {
  const plan::Parameter parameter{.name = "w", .shape = {1001, 300}, .stages = {0}};
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor alone = filled(parameter);
  at::set_num_threads(3);
  const at::Tensor together = filled(parameter);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(together, alone));
}

TEST(InitialValues, AreNormalWithTheStatedDeviation) {
  double sum = 0, squares = 0, fourth = 0;
  constexpr std::int64_t kCount = 100'000;
  const auto key = key_of(1, "x");
  for (std::int64_t i = 0; i < kCount; ++i) {
    const double value = normal_value(key, i);
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.02);
  EXPECT_NEAR(squares / kCount, 1, 0.02);
  EXPECT_NEAR(fourth / kCount, 3, 0.15);
  EXPECT_NEAR(filled(matrix()).std().item<double>(), 0.02, 0.001);
}

TEST(InitialValues, OutputsToTheResidualStreamAreSmallerByTheNumberOfTheirLayers) {
  EXPECT_DOUBLE_EQ(standard_deviation(plan::Initial::kResidualNormal, 8), 0.02 / 4);
  const auto residual = matrix("model.layers.0.mlp.up_proj.weight", plan::Initial::kResidualNormal);
  EXPECT_TRUE(at::allclose(filled(residual) * 4, filled(matrix()), 1e-6));
}

TEST(InitialValues, OfNormsAreOne) {
  const plan::Parameter norm{.name = "model.norm.weight", .shape = {64}, .initial = plan::Initial::kOnes, .stages = {0}};
  EXPECT_TRUE(at::equal(filled(norm), at::ones({64})));
}

TEST(InitialValues, LeaveTheGlobalGeneratorAlone) {
  at::manual_seed(7);
  const at::Tensor expected = at::rand({4});
  at::manual_seed(7);
  filled(matrix());
  EXPECT_TRUE(at::equal(at::rand({4}), expected));
}

}  // namespace
}  // namespace trainyard::model
