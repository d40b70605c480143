// The loss's terms and dropout, in every layout (docs/numerics.md).
#include <gtest/gtest.h>

#include "tests/worker/trainer/a_training.h"
#include "tests/worker/trainer/in_layouts.h"

namespace trainyard::trainer {
namespace {

using contract::Reduction;

/// small_job() with all that this file is about.
contract::TrainingJobSpec with_everything(Reduction reduction) {
  auto spec = small_job(reduction);
  spec.training.steps = 4;
  spec.training.dropout = 0.1;
  spec.training.loss = {.labelSmoothing = 0.1, .zLoss = 1e-3};
  return spec;
}

struct WayWithoutTensorRanks {
  contract::Degrees degrees;
  std::int32_t stage = 0;
  contract::PipelineSchedule schedule = {};
  contract::RecomputeMode recompute = contract::RecomputeMode::kNone;
};

std::vector<WayWithoutTensorRanks> ways_without_tensor_ranks() {
  using Name = contract::PipelineScheduleName;
  using Mode = contract::RecomputeMode;
  return {{{}, 0, {}, Mode::kFull},
          {{}, 0, {}, Mode::kSelective},
          {{.dp = 2}},
          {{.pp = 4, .dp = 2}},
          {{.pp = 2, .dp = 2}, 0, {.name = Name::kGPipe, .virtualStages = 1}, Mode::kFull},
          {{.pp = 2}, 0, {.name = Name::kInterleaved, .virtualStages = 2}, Mode::kSelective},
          {{.pp = 2}, 0, {.name = Name::kZeroBubble, .virtualStages = 1}},
          {{.dp = 2}, 1},
          {{.dp = 4}, 2, {}, Mode::kSelective},
          {{.pp = 2, .dp = 2}, 3, {}, Mode::kFull}};
}

TEST(LossTermsAndDropout, EqualOneProcessBitForBitInEveryLayoutUnderCanonical) {
  for (const auto compute : {contract::ComputePrecision::kFP32, contract::ComputePrecision::kBF16}) {
    auto spec = with_everything(Reduction::kCanonical);
    spec.training.precision.compute = compute;
    const auto alone = train(spec, {});
    for (const auto& way : ways_without_tensor_ranks()) {
      SCOPED_TRACE(testing::Message() << contract::name_of(compute) << " dp=" << way.degrees.dp << " pp=" << way.degrees.pp
                                      << " ZeRO " << way.stage << " " << contract::name_of(way.schedule.name) << " "
                                      << contract::name_of(way.recompute));
      auto mine = spec;
      mine.parallelism.zero.stage = way.stage;
      mine.parallelism.pipelineSchedule = way.schedule;
      mine.training.activationCheckpointing.mode = way.recompute;
      expect_equal_bits(train(mine, way.degrees), alone);
    }
  }
}

TEST(LossTermsAndDropout, StayCloseToOneProcessOverAHundredStepsWithTensorParallelism) {
  auto spec = longer_job(100);
  spec.training.dropout = 0.1;
  spec.training.loss = {.labelSmoothing = 0.1, .zLoss = 1e-3};
  const auto alone = train(spec, {});
  for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .dp = 2, .tp = 2}}) expect_near(train(spec, degrees), alone);
}

TEST(LossTermsAndDropout, EachChangeTheTraining) {
  auto plain = with_everything(Reduction::kCanonical);
  plain.training.dropout = 0;
  plain.training.loss = {};
  const auto reference = train(plain, {});
  auto dropout = plain, smoothing = plain, z_loss = plain;
  dropout.training.dropout = 0.1;
  smoothing.training.loss.labelSmoothing = 0.1;
  z_loss.training.loss.zLoss = 0.1;
  EXPECT_NE(train(dropout, {}).losses[0], reference.losses[0]);
  for (const auto& spec : {smoothing, z_loss}) {
    const auto found = train(spec, {});
    EXPECT_EQ(found.losses[0], reference.losses[0]) << "the loss that is told is the cross entropy";
    EXPECT_NE(found.norms[0], reference.norms[0]);
    EXPECT_NE(found.losses[2], reference.losses[2]);
  }
}

/// LICENSE, with all that this file is about, and sequences that grow on the way.
struct RecipeJob : Job {
  RecipeJob() {
    spec.parallelism.microBatchSize = 2;
    spec.training.dropout = 0.1;
    spec.training.loss = {.labelSmoothing = 0.1, .zLoss = 1e-3};
    spec.data.curriculum = contract::Curriculum{.stages = {{.untilStep = 2, .sequenceLength = 4}}};
  }
};

TEST(LossTermsAndDropout, ResumedAreTheUninterruptedTrainingBitForBitInAnotherLayoutToo) {
  const RecipeJob through;
  const auto last = run(through).progress.back().progress->loss;
  for (const std::int64_t stopped : {1, 2, 3}) {
    const RecipeJob halves;
    run(halves, {}, 1, stop_at(stopped));
    EXPECT_EQ(run(halves, {.pp = 2, .dp = 2}, 2).progress.back().progress->loss, last) << stopped;
    EXPECT_EQ(halves.tensors_of(6), through.tensors_of(6)) << stopped;
  }
}

TEST(LossTermsAndDropout, DropTheSameOfASampleWhenAResumeChangesTheBatch) {
  RecipeJob wide, changed;
  for (auto* job : {&wide, &changed}) {
    job->spec.training.optimizer.learningRate =
        1e-30;  // the weights stay as they are, so that a step's loss is one of its samples
    job->spec.training.learningRateSchedule = {.name = contract::ScheduleName::kConstant};
    job->spec.training.globalBatchSize = 8;
    job->spec.data.curriculum.reset();
  }
  wide.spec.training.steps = 3;  // samples 0, 8 and 16 on
  const auto reference = run(wide);
  changed.spec.training.globalBatchSize = 4;
  run(changed, {}, 1, stop_at(2));  // samples 0 and 4 on
  changed.spec.training.globalBatchSize = 8;
  changed.spec.training.steps = 4;
  const auto resumed = run(changed, {.dp = 2}, 2);
  ASSERT_EQ(resumed.progress.size(), 2u);
  for (const std::size_t i : {0u, 1u})
    EXPECT_EQ(resumed.progress[i].progress->loss, reference.progress[i + 1].progress->loss) << i;
}

TEST(LossTermsAndDropout, AreNoPartOfAnEvaluation) {
  RecipeJob recipe, plain;
  plain.spec.training.dropout = 0;
  plain.spec.training.loss = {};
  std::vector<double> training, validation;
  for (auto* job : {&recipe, &plain}) {
    job->spec.training.optimizer.learningRate = 1e-30;  // the weights stay as they are
    job->spec.training.learningRateSchedule = {.name = contract::ScheduleName::kConstant};
    const auto progress = run(*job).progress.back().progress.value();
    training.push_back(progress.loss.value());
    validation.push_back(progress.validationLoss.value());
  }
  EXPECT_NE(training[0], training[1]);
  EXPECT_EQ(validation[0], validation[1]);
}

}  // namespace
}  // namespace trainyard::trainer
