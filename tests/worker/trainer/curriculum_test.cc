// Sequences that grow on the way: the whole loop, its ranks as threads (docs/numerics.md).
#include <gtest/gtest.h>

#include "tests/worker/trainer/a_training.h"

namespace trainyard::trainer {
namespace {

/// 6 steps of 4 samples of 16 tokens: two steps of sequences of 4, two of 8, two of whole samples.
struct GrowingJob : Job {
  GrowingJob() {
    spec.model.size->layers = 4;
    spec.parallelism.microBatchSize = 2;
    spec.data.curriculum =
        contract::Curriculum{.stages = {{.untilStep = 2, .sequenceLength = 4}, {.untilStep = 4, .sequenceLength = 8}}};
  }
};

std::vector<std::string> changes_of_length(const Run& run) {
  std::vector<std::string> out;
  for (const auto& report : run.notices) {
    if (report.notice->reason == "SequenceLength") out.push_back(report.notice->message);
  }
  return out;
}

std::vector<double> losses_of(const Run& run) {
  std::vector<double> out;
  for (const auto& report : run.progress) out.push_back(report.progress->loss.value());
  return out;
}

TEST(Curriculum, CountsTheSameTokensAStepInEveryStageAndTellsOfEach) {
  const GrowingJob job;
  const auto done = run(job);
  ASSERT_EQ(done.progress.size(), 6u);
  for (std::int64_t step = 1; step <= 6; ++step) {
    const auto& progress = done.progress[static_cast<std::size_t>(step - 1)].progress.value();
    EXPECT_EQ(progress.steps, 6);
    EXPECT_EQ(progress.samples, 4 * step);
    EXPECT_EQ(progress.tokens, 64 * step);
    EXPECT_DOUBLE_EQ(progress.tokensPerSecond.value(), 64 / 0.5);
  }
  EXPECT_EQ(changes_of_length(done), (std::vector<std::string>{"from step 1 on sequences have 4 tokens (data.curriculum)",
                                                               "from step 3 on sequences have 8 tokens (data.curriculum)",
                                                               "from step 5 on sequences have 16 tokens (data.curriculum)"}));
}

TEST(Curriculum, ChangesWhatTokensSeeAndNothingElse) {
  GrowingJob plain;
  plain.spec.data.curriculum.reset();
  const GrowingJob growing;
  const auto whole = run(plain), cut = run(growing);
  EXPECT_NE(losses_of(whole), losses_of(cut));
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(whole.progress[i].progress->learningRate, cut.progress[i].progress->learningRate);
    EXPECT_EQ(whole.progress[i].progress->epoch, cut.progress[i].progress->epoch);
  }
}

TEST(Curriculum, EqualsOneProcessBitForBitInEveryLayoutAndSchedule) {
  const GrowingJob alone;
  const auto reference = run(alone);
  struct Way {
    contract::Degrees degrees;
    std::int32_t stage = 0;
    contract::PipelineSchedule schedule = {};
    contract::RecomputeMode recompute = contract::RecomputeMode::kNone;
  };
  using Name = contract::PipelineScheduleName;
  using Mode = contract::RecomputeMode;
  const std::vector<Way> ways{{{.dp = 2}},
                              {{.pp = 2}},
                              {{.pp = 2, .dp = 2}, 0, {.name = Name::kGPipe}, Mode::kFull},
                              {{.pp = 2}, 0, {.name = Name::kInterleaved, .virtualStages = 2}, Mode::kSelective},
                              {{.pp = 2}, 0, {.name = Name::kZeroBubble}},
                              {{.dp = 2}, 1},
                              {{.dp = 2}, 2, {}, Mode::kSelective},
                              {{.pp = 2, .dp = 2}, 3, {}, Mode::kFull}};
  for (const auto& way : ways) {
    SCOPED_TRACE(testing::Message() << "dp=" << way.degrees.dp << " pp=" << way.degrees.pp << " ZeRO " << way.stage << " "
                                    << contract::name_of(way.schedule.name));
    GrowingJob job;
    job.spec.parallelism.zero.stage = way.stage;
    job.spec.parallelism.pipelineSchedule = way.schedule;
    job.spec.training.activationCheckpointing.mode = way.recompute;
    const auto found = run(job, way.degrees);
    EXPECT_EQ(losses_of(found), losses_of(reference));
    EXPECT_EQ(job.tensors_of(6), alone.tensors_of(6));
  }
}

TEST(Curriculum, StaysCloseToOneProcessWithTensorParallelismWhoseStagesGiveTheSameBits) {
  const GrowingJob alone, tensor, both;
  const auto reference = losses_of(run(alone)), found = losses_of(run(tensor, {.tp = 2}));
  ASSERT_EQ(found.size(), reference.size());
  EXPECT_NEAR(found[0], reference[0], 1e-6 * reference[0]);
  for (std::size_t i = 1; i < found.size(); ++i) EXPECT_NEAR(found[i], reference[i], 1e-5 * reference[i]);
  EXPECT_EQ(losses_of(run(both, {.pp = 2, .tp = 2})), found);
  EXPECT_EQ(both.tensors_of(6), tensor.tensors_of(6));
}

TEST(Curriculum, ResumedWithinAStageOrAtItsEdgeIsTheUninterruptedOneBitForBit) {
  const GrowingJob through;
  const auto losses = losses_of(run(through));
  for (std::int64_t stopped = 1; stopped < 6; ++stopped) {
    for (const auto& degrees : {contract::Degrees{}, {.pp = 2, .dp = 2}}) {
      SCOPED_TRACE(testing::Message() << "stopped after step " << stopped << ", resumed with dp=" << degrees.dp);
      const GrowingJob halves;
      auto found = losses_of(run(halves, {}, 1, stop_at(stopped)));
      for (const double loss : losses_of(run(halves, degrees, 2))) found.push_back(loss);
      EXPECT_EQ(found, losses);
      EXPECT_EQ(halves.tensors_of(6), through.tensors_of(6));
    }
  }
}

TEST(Curriculum, ThatCountsTokensGoesOnWhereItWasWhenTheBatchChanges) {
  GrowingJob job;
  job.spec.training.steps.reset();
  job.spec.training.tokens = 16 * 32;
  job.spec.data.curriculum = contract::Curriculum{.stages = {{.untilTokens = 16 * 16, .sequenceLength = 4}}};
  const auto before = run(job, {}, 1, stop_at(2));  // 8 samples
  EXPECT_EQ(before.progress.back().progress->steps, 8);
  job.spec.training.globalBatchSize = 8;
  const auto after = run(job, {.dp = 2}, 2);  // one step to the stage's end, two of whole samples
  EXPECT_EQ(changes_of_length(after), (std::vector<std::string>{"from step 3 on sequences have 4 tokens (data.curriculum)",
                                                                "from step 4 on sequences have 16 tokens (data.curriculum)"}));
  const auto& last = after.progress.back().progress.value();
  EXPECT_EQ(last.step, 5);
  EXPECT_EQ(last.steps, 5);
  EXPECT_EQ(last.samples, 32);
  EXPECT_EQ(last.tokens, 16 * 32);
  std::ifstream file(fs::path(job.spec.checkpoint->path) / "step-00000005/manifest.json");
  const auto cursor = contract::Json::parse(file).at("state").at("cursor");
  EXPECT_EQ(cursor, (contract::Json{{"samples", 32}, {"tokens", 512}, {"consumed", {32}}}));
}

TEST(Curriculum, ThatLastsUntilTheTrainingEndsIsToldAtTheStart) {
  const auto warnings = [](const GrowingJob& job) {
    std::vector<std::string> out;
    for (const auto& report : run(job).notices) {
      if (report.notice->reason == "CurriculumOutlastsTraining") out.push_back(report.notice->message);
    }
    return out;
  };
  GrowingJob job;
  EXPECT_TRUE(warnings(job).empty());
  job.spec.checkpoint.reset();
  job.spec.data.curriculum = contract::Curriculum{.stages = {{.untilTokens = 5 * 64 + 1, .sequenceLength = 8}}};
  EXPECT_EQ(warnings(job),
            (std::vector<std::string>{
                "the training ends with step 6, whose sequences still have 8 tokens: none will have data.sequenceLength, 16; "
                "let data.curriculum end earlier, or train longer"}));
}

TEST(Curriculum, IsEvaluatedOnWholeSamples) {
  GrowingJob plain, growing;
  plain.spec.data.curriculum.reset();
  std::vector<double> validation;
  for (auto* job : {&plain, &growing}) {
    job->spec.evaluation->everySteps = 1;
    job->spec.training.optimizer.learningRate = 1e-30;  // the weights stay as they are
    job->spec.training.learningRateSchedule = {.name = contract::ScheduleName::kConstant};
    const auto done = run(*job);
    validation.push_back(done.progress.front().progress->validationLoss.value());
    EXPECT_EQ(done.progress.back().progress->validationLoss, validation.back());
  }
  EXPECT_EQ(validation[0], validation[1]);
}

}  // namespace
}  // namespace trainyard::trainer
