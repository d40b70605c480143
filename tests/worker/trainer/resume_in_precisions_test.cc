// Resumed equals uninterrupted, bit for bit, in every format that products are computed in.
#include <fstream>
#include <optional>

#include <gtest/gtest.h>

#include "tests/worker/trainer/a_training.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;
using contract::Fp8Recipe;

TEST(ATrainingResumed, IsTheUninterruptedOneInEachPrecisionAndLayout) {
  for (const auto precision :
       {ComputePrecision::kBF16, ComputePrecision::kFP16, ComputePrecision::kFP8, ComputePrecision::kFP32}) {
    for (const auto& degrees : {contract::Degrees{}, {.tp = 2}, {.pp = 2, .dp = 2}, {.pp = 2, .tp = 2}}) {
      SCOPED_TRACE(testing::Message() << contract::name_of(precision) << " pp=" << degrees.pp << " dp=" << degrees.dp
                                      << " tp=" << degrees.tp);
      Job through, halves;
      for (auto* job : {&through, &halves}) job->spec.training.precision.compute = precision;
      const auto uninterrupted = run(through, degrees).progress.back().progress.value();
      EXPECT_EQ(run(halves, degrees, 1, stop_at(3)).outcome, Outcome::kStopped);
      const auto resumed = run(halves, degrees, 2).progress.back().progress.value();
      EXPECT_EQ(through.tensors_of(6), halves.tensors_of(6));
      EXPECT_EQ(resumed.loss, uninterrupted.loss);
      EXPECT_EQ(resumed.lossScale, uninterrupted.lossScale);
      EXPECT_EQ(resumed.skippedSteps, uninterrupted.skippedSteps);
      EXPECT_EQ(resumed.validationLoss, uninterrupted.validationLoss);
    }
  }
}

/// FP16 skips steps at first, while its loss scale falls.
TEST(ATrainingResumed, IsTheUninterruptedOneAfterWhicheverStepItWasStoppedInEachPrecision) {
  struct Way {
    ComputePrecision compute;
    std::optional<Fp8Recipe> recipe = std::nullopt;
  };
  for (const auto& way : {Way{ComputePrecision::kFP32}, Way{ComputePrecision::kBF16}, Way{ComputePrecision::kFP16},
                          Way{ComputePrecision::kFP8, Fp8Recipe::kTensorwise}, Way{ComputePrecision::kFP8, Fp8Recipe::kRowwise},
                          Way{ComputePrecision::kFP8, Fp8Recipe::kBlockwise}}) {
    const auto edit = [&way](Job& job) {
      auto& precision = job.spec.training.precision;
      precision.compute = way.compute;
      if (way.recipe) precision.fp8 = contract::Fp8{.recipe = *way.recipe};
      job.spec.evaluation.reset();
      if (way.compute != ComputePrecision::kFP16) return;
      job.spec.training.steps = 12;
      // Nearly always the same letter: the errors of all tokens add up in the head's gradient, beyond what FP16 holds.
      std::ofstream corpus(job.folder / "monotonous");
      for (int i = 0; i < 500; ++i) corpus << "aaaaaaaaaaaaaaab";
      job.spec.data.train = {{.path = job.folder / "monotonous"}};
      job.spec.parallelism.microBatchSize = 2;
    };
    Job through;
    edit(through);
    const std::int64_t steps = *through.spec.training.steps;
    const auto uninterrupted = run(through).progress.back().progress.value();
    EXPECT_EQ(uninterrupted.skippedSteps.value_or(0) > 0, way.compute == ComputePrecision::kFP16);
    for (std::int64_t stopped = 1; stopped < 6; ++stopped) {
      SCOPED_TRACE(testing::Message() << contract::name_of(way.compute) << " "
                                      << (way.recipe ? contract::name_of(*way.recipe) : "") << " after step " << stopped);
      Job halves;
      edit(halves);
      EXPECT_EQ(run(halves, {}, 1, stop_at(stopped)).outcome, Outcome::kStopped);
      const auto resumed = run(halves, {}, 2).progress.back().progress.value();
      EXPECT_EQ(through.tensors_of(steps), halves.tensors_of(steps));
      EXPECT_EQ(resumed.loss, uninterrupted.loss);
      EXPECT_EQ(resumed.gradientNorm, uninterrupted.gradientNorm);
      EXPECT_EQ(resumed.samples, uninterrupted.samples);
      EXPECT_EQ(resumed.lossScale, uninterrupted.lossScale);
      EXPECT_EQ(resumed.skippedSteps, uninterrupted.skippedSteps);
    }
  }
}

}  // namespace
}  // namespace trainyard::trainer
