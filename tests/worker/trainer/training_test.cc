// The whole loop with data, checkpoints and reports, its ranks as threads.
#include "worker/trainer/training.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/checkpoint/faulty_storage.h"
#include "tests/worker/trainer/a_training.h"

namespace trainyard::trainer {
namespace {

TEST(Train, ReportsWhatItDid) {
  const Job job;
  const auto done = run(job);
  EXPECT_EQ(done.outcome, Outcome::kFinished);
  ASSERT_FALSE(done.progress.empty());
  const auto& last = done.progress.back().progress.value();
  EXPECT_EQ(last.step, 6);
  EXPECT_EQ(last.steps, 6);
  EXPECT_EQ(last.samples, 24);
  EXPECT_EQ(last.tokens, 24 * 16);
  EXPECT_LT(last.loss.value(), std::log(256.0));
  EXPECT_NEAR(last.validationPerplexity.value(), std::exp(last.validationLoss.value()), 1e-9);
  EXPECT_DOUBLE_EQ(last.tokensPerSecond.value(), 4 * 16 / 0.5);  // half a second between two looks at the clock
  EXPECT_EQ(last.remainingSeconds, 0);
  EXPECT_GT(last.epoch, 0);
  ASSERT_EQ(done.checkpoints.size(), 1u);
  EXPECT_EQ(done.checkpoints[0].checkpoint->step, 6);
}

TEST(Train, TellsOfARateAboveThePeakOnceAndPublishesNoShareOfIt) {
  Job job;
  job.spec.training.precision.compute = contract::ComputePrecision::kBF16;
  for (const double seconds : {0.5, 1e-12}) {
    const auto done = run(job, {}, 1, {}, nullptr, {}, {.device = "NVIDIA H200", .seconds_between_looks = seconds});
    ASSERT_EQ(done.progress.size(), 6u);
    const auto told = std::count_if(done.notices.begin(), done.notices.end(),
                                    [](const auto& report) { return report.notice->reason == "RateImpossible"; });
    EXPECT_EQ(told, seconds < 0.5 ? 1 : 0);
    for (const auto& report : done.progress) {
      EXPECT_EQ(report.progress->mfu.has_value(), seconds == 0.5);
      EXPECT_EQ(report.measures->hardwareFlopsUtilization.has_value(), seconds == 0.5);
      EXPECT_TRUE(report.progress->tokensPerSecond);
    }
    fs::remove_all(job.folder / "checkpoints");
  }
}

TEST(Train, ThatWasStoppedAndResumedIsTheUninterruptedOneBitForBit) {
  const Job through, halves;
  run(through);
  const auto first = run(halves, {}, 1, stop_at(3));
  EXPECT_EQ(first.outcome, Outcome::kStopped);
  EXPECT_EQ(first.progress.back().progress->step, 3);  // it stops at the step of its checkpoint: nothing is done twice
  ASSERT_EQ(first.checkpoints.size(), 1u);
  EXPECT_EQ(first.checkpoints[0].request, 1);
  const auto second = run(halves, {}, 2);
  EXPECT_EQ(second.outcome, Outcome::kFinished);
  ASSERT_EQ(second.notices.size(), 1u);
  EXPECT_EQ(second.notices[0].notice->reason, "Resumed");
  EXPECT_EQ(through.tensors_of(6), halves.tensors_of(6));
}

TEST(Train, ResumesInAnotherLayoutWithTheSameBits) {
  const Job through, moved;
  run(through);
  run(moved, {.dp = 2}, 1, stop_at(2));
  run(moved, {.pp = 2}, 2, stop_at(2));  // two steps further
  run(moved, {.pp = 2, .dp = 2}, 3);
  EXPECT_EQ(through.tensors_of(6), moved.tensors_of(6));
}

TEST(Train, MayKeepItsMomentsInAnotherTypeThanTheCheckpointThatItGoesOnFrom) {
  const auto in_bf16 = [](Job& job, bool is) {
    job.spec.training.optimizer.beta2 = 0.95;
    job.spec.training.precision.optimizerStates = is ? contract::OptimizerStates::kBF16 : contract::OptimizerStates::kFP32;
  };
  Job through, halves;
  for (auto* job : {&through, &halves}) in_bf16(*job, true);
  run(through);
  run(halves, {}, 1, stop_at(3));
  run(halves, {.dp = 2}, 2);
  EXPECT_EQ(through.tensors_of(6), halves.tensors_of(6));

  Job alone, moved;
  for (auto* job : {&alone, &moved}) {
    const contract::Degrees degrees = job == &alone ? contract::Degrees{} : contract::Degrees{.dp = 2};
    in_bf16(*job, false);
    run(*job, degrees, 1, stop_at(2));
    in_bf16(*job, true);
    EXPECT_EQ(run(*job, degrees, 2, stop_at(2)).notices[0].notice->reason, "ResumedWithChanges");
    in_bf16(*job, false);
    const auto last = run(*job, degrees, 3);
    EXPECT_EQ(last.outcome, Outcome::kFinished);
    EXPECT_EQ(last.notices[0].notice->reason, "ResumedWithChanges");
  }
  EXPECT_EQ(alone.tensors_of(6), moved.tensors_of(6));
  EXPECT_NE(alone.tensors_of(6), through.tensors_of(6));
}

/// Written by the one, loaded by the other: every stage and data degree, weights, moments and what comes after them.
TEST(Train, ResumesAtEveryZeroStageWhatEveryOtherWrote) {
  const auto set = [](Job& job, std::int32_t stage) {
    job.spec.model.size->hiddenSize = 96;  // so that shards cut matrices in the middle
    job.spec.parallelism.zero.stage = stage;
  };
  Job through;
  set(through, 0);
  run(through);
  const auto whole = through.tensors_of(6);
  struct Way {
    std::int32_t stage;
    contract::Degrees degrees;
  };
  const std::vector<Way> ways{{0, {}},        {0, {.dp = 2}}, {1, {.dp = 2}},          {1, {.dp = 4}},
                              {2, {.dp = 4}}, {3, {.dp = 2}}, {3, {.pp = 2, .dp = 2}}, {3, {.dp = 4}}};
  for (const auto& from : ways) {
    for (const auto& to : ways) {
      SCOPED_TRACE(testing::Message() << "from stage " << from.stage << ", dp " << from.degrees.dp << ", pp " << from.degrees.pp
                                      << " to stage " << to.stage << ", dp " << to.degrees.dp << ", pp " << to.degrees.pp);
      Job moved;
      set(moved, from.stage);
      run(moved, from.degrees, 1, stop_at(3));
      moved.spec.parallelism.zero.stage = to.stage;
      run(moved, to.degrees, 2);
      EXPECT_EQ(moved.tensors_of(6), whole);
    }
  }
}

TEST(Train, KeepsTheLastEvaluationOverAResumeInEveryLayout) {
  for (const auto& degrees : {contract::Degrees{}, {.pp = 2, .dp = 2}}) {
    const Job job;  // evaluates after steps 4 and 6
    const auto before = run(job, degrees, 1, stop_at(4)).progress.back().progress->validationLoss;
    ASSERT_TRUE(before);
    EXPECT_EQ(run(job, {}, 2, stop_at(1)).progress.back().progress->validationLoss, before);
  }
}

TEST(Train, NamesItsJobInTheManifest) {
  const Job job;
  run(job);
  std::ifstream file(fs::path(job.spec.checkpoint->path) / "step-00000006/manifest.json");
  EXPECT_EQ(contract::Json::parse(file).at("job"), "default/small");
}

TEST(Train, EndsAfterItsEpochsHoweverTheBatchChangesOnTheWay) {
  Job job;
  job.spec.training.steps.reset();
  job.spec.training.epochs = 48.0 / 700;  // LICENSE has about 700 samples of 16 tokens
  run(job, {}, 1, stop_at(3));
  job.spec.training.globalBatchSize = 8;
  const auto last = run(job, {}, 2).progress.back().progress.value();
  EXPECT_EQ(last.step, last.steps);
  EXPECT_NEAR(last.epoch, *job.spec.training.epochs, 8.0 / 700);
  EXPECT_LT(last.step, 12);
}

TEST(Train, GoesOnWhereItsDataWasMovedAndSaysSo) {
  Job job;
  run(job, {}, 1, stop_at(3));
  fs::copy_file(job.spec.data.train[0].path, job.folder / "moved");
  job.spec.data.train[0].path = job.folder / "moved";
  job.spec.data.train[0].weight = 2;
  const auto moved = run(job, {}, 2);
  std::vector<std::string> messages;
  for (const auto& report : moved.notices) messages.push_back(report.notice->reason + ": " + report.notice->message);
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_NE(messages[0].find("ResumedWithChanges: spec.data.train[0].path is " + (job.folder / "moved").string()),
            std::string::npos)
      << messages[0];
  EXPECT_NE(messages[1].find("spec.data.train[0].weight is 2.0, and was 1.0"), std::string::npos) << messages[1];
}

TEST(Train, RefusesACorpusThatHasGrown) {
  Job job;
  const auto corpus = job.folder / "corpus";
  fs::copy_file(job.spec.data.train[0].path, corpus);
  job.spec.data.train[0].path = corpus;
  run(job, {}, 1, stop_at(3));
  std::ofstream(corpus, std::ios::app) << "and more";
  try {
    run(job, {}, 2);
    FAIL();
  } catch (const contract::UserError& error) {
    EXPECT_EQ(error.reason(), "CheckpointOfAnotherJob");
    EXPECT_NE(std::string(error.what()).find("the order of the samples depends on it"), std::string::npos) << error.what();
  }
}

TEST(Train, EvaluatesTheSameInEveryLayout) {
  const Job job;
  const auto alone = run(job).progress.back().progress->validationLoss.value();
  for (const auto& degrees : {contract::Degrees{.dp = 2}, {.pp = 2}, {.pp = 2, .dp = 2}}) {
    const Job again;
    EXPECT_DOUBLE_EQ(run(again, degrees).progress.back().progress->validationLoss.value(), alone);
  }
  for (const auto& degrees : {contract::Degrees{.tp = 2}, {.pp = 2, .tp = 2}}) {  // whose sums are in another order
    const Job again;
    EXPECT_NEAR(run(again, degrees).progress.back().progress->validationLoss.value(), alone, 1e-5);
  }
}

TEST(Train, OfAFinishedJobIsDoneAtOnceAndTellsOfItsLastStep) {
  for (const auto& degrees : {contract::Degrees{}, {.pp = 2, .dp = 2}}) {
    const Job job;
    const auto before = run(job, degrees).progress.back().progress.value();
    const auto again = run(job, {}, 2);
    EXPECT_EQ(again.outcome, Outcome::kFinished);
    ASSERT_EQ(again.progress.size(), 1u);
    const auto& told = again.progress[0].progress.value();
    EXPECT_EQ(told.step, 6);
    EXPECT_EQ(told.steps, 6);
    EXPECT_EQ(told.tokens, before.tokens);
    EXPECT_EQ(told.loss, before.loss);
    EXPECT_EQ(told.validationLoss, before.validationLoss);
  }
}

TEST(Train, IsToldOfNoStepBeforeItDoesOne) {
  const Job job;
  run(job, {}, 1, stop_at(3));
  EXPECT_EQ(run(job, {}, 2).progress.front().progress->step, 4) << "a gang counts as running from the first report on";
}

TEST(Train, StopsBeforeItsFirstStepWhereItWasToldToMeanwhile) {
  const contract::RankControl stop{.checkpointRequest = 1, .stopAfter = 1};
  for (const auto& degrees : {contract::Degrees{}, {.dp = 2}}) {
    const Job job;
    run(job, {}, 1, stop_at(3));
    const auto after_reading = run(job, degrees, 2, stop_at(0));
    EXPECT_EQ(after_reading.outcome, Outcome::kStopped);
    EXPECT_TRUE(after_reading.progress.empty());
    EXPECT_EQ(after_reading.notices.front().notice->reason, "Resumed");
    const auto before_reading = run(job, degrees, 3, {}, nullptr, stop);
    EXPECT_EQ(before_reading.outcome, Outcome::kStopped);
    EXPECT_TRUE(before_reading.notices.empty());
    EXPECT_EQ(run(job, {}, 4).outcome, Outcome::kFinished) << "the checkpoint is as it was";
  }
}

TEST(Train, StopsAtOnceWhereThereAreNoCheckpoints) {
  Job job;
  job.spec.checkpoint.reset();
  const auto stopped = run(job, {.dp = 2}, 1, stop_at(2));
  EXPECT_EQ(stopped.outcome, Outcome::kStopped);
  EXPECT_EQ(stopped.progress.back().progress->step, 2);
}

TEST(Train, ActsOnAWordThatOneRankAloneHasHeard) {
  const Job job;
  std::atomic<int> calls = 0;
  const auto stopped = run(job, {.dp = 2}, 1, [&](std::int64_t asked) {
    return asked == 3 && calls++ == 0 ? contract::RankControl{.checkpointRequest = 1, .stopAfter = 1} : contract::RankControl{};
  });
  EXPECT_EQ(stopped.outcome, Outcome::kStopped);
  EXPECT_EQ(stopped.progress.back().progress->step, 3);
  EXPECT_EQ(stopped.checkpoints.front().request, 1);
}

TEST(Train, WritesACheckpointOnceForEachRequest) {
  const Job job;
  const auto done = run(job, {}, 1, [](std::int64_t asked) {
    return contract::RankControl{.checkpointRequest = asked < 2 ? 0 : asked < 4 ? 1 : 2, .stopAfter = {}};
  });
  EXPECT_EQ(done.outcome, Outcome::kFinished);
  std::vector<std::optional<std::int64_t>> requests;
  for (const auto& report : done.checkpoints) requests.push_back(report.request);
  EXPECT_EQ(requests, (std::vector<std::optional<std::int64_t>>{1, 2, std::nullopt}));
}

TEST(Train, EndsWithAUserErrorWhenNoGradientIsFiniteAnyMore) {
  Job job;
  job.spec.training.steps = 30;
  job.spec.training.optimizer.learningRate = 1e30;
  job.spec.training.learningRateSchedule = {.name = contract::ScheduleName::kConstant};
  job.spec.training.gradientClipping.reset();
  job.spec.checkpoint->everySteps = 2;
  try {
    run(job, {.dp = 2});
    FAIL();
  } catch (const contract::UserError& error) {
    EXPECT_EQ(error.reason(), "GradientNotFinite");
  }
  // No weights that give no finite gradient were saved in the place of others.
  for (const auto& entry : fs::directory_iterator(job.spec.checkpoint->path)) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("step-")) << entry.path();
  }
}

TEST(Train, TellsWhereTheTimeOfEachStepWent) {
  const Job job;
  const auto done = run(job, {.dp = 2, .tp = 2});
  ASSERT_EQ(done.progress.size(), 6u);
  for (const auto& report : done.progress) {
    ASSERT_TRUE(report.measures && report.measures->times);
    const auto& times = *report.measures->times;
    double sum = times.compute + times.data + times.checkpoint;
    for (const auto& [axis, seconds] : times.communication) sum += seconds;
    EXPECT_NEAR(sum, times.seconds, 1e-9);
    EXPECT_GT(times.compute, 0);
    EXPECT_GT(times.data, 0);
    EXPECT_GT(report.measures->memoryPeakBytes.value(), 0);
    EXPECT_FALSE(report.measures->lossZScore) << "there are too few steps before it";
  }
}

/// The steps of the checkpoints that are there.
std::vector<std::int64_t> checkpoints_of(const Job& job) {
  std::vector<std::int64_t> steps;
  for (const auto& entry : fs::directory_iterator(job.spec.checkpoint->path)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("step-")) steps.push_back(std::stoll(name.substr(5)));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

TEST(Train, KeepsTheCheckpointOfTheLowestValidationLossThroughARestart) {
  Job job;
  job.spec.evaluation = contract::Evaluation{.everySteps = 1, .batches = 2};
  job.spec.checkpoint->everySteps = 1;
  job.spec.checkpoint->keep = 1;
  job.spec.checkpoint->keepBest = 1;
  job.spec.training.steps = 4;
  auto told = run(job).progress;
  // From here on a rate that is too high makes it worse.
  job.spec.training.steps = 8;
  job.spec.training.optimizer.learningRate = 20;
  job.spec.training.gradientClipping.reset();
  const auto later = run(job, {}, 2).progress;
  told.insert(told.end(), later.begin(), later.end());
  ASSERT_EQ(told.size(), 8u);
  const auto best = std::min_element(told.begin(), told.end(), [](const auto& a, const auto& b) {
    return a.progress->validationLoss.value_or(1e300) < b.progress->validationLoss.value_or(1e300);
  });
  ASSERT_LE(best->progress->step, 4) << "of the first run";
  EXPECT_EQ(checkpoints_of(job), (std::vector<std::int64_t>{best->progress->step, 8}));
}

TEST(Train, WritesATraceOfChosenStepsFromEveryRank) {
  Job job;
  job.spec.metrics = contract::MetricFiles{.trace = contract::Trace{.steps = {2, 4}}};
  job.spec.checkpoint->everySteps = 2;
  run(job, {.pp = 2, .dp = 2});
  const auto folder = fs::path(job.spec.checkpoint->path) / "metrics" / "traces";
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 2 * 4);
  std::ifstream file(folder / "step-00000002-rank-00003.json");
  std::set<std::string> names;
  double first = 1e300, last = 0;
  const auto trace = contract::Json::parse(file);
  for (const auto& event : trace.at("traceEvents")) {
    names.insert(event.at("name").get<std::string>());
    if (event.at("ph") != "X") continue;
    EXPECT_EQ(event.at("pid"), 3);
    EXPECT_GE(event.at("dur"), 0);
    first = std::min(first, event.at("ts").get<double>());
    last = std::max(last, event.at("ts").get<double>());
  }
  for (const char* name : {"forward 0", "backward 0", "optimizer", "checkpoint", "data"})
    EXPECT_TRUE(names.contains(name)) << name;
  EXPECT_GT(first, 1.7e15) << "microseconds since 1970";
  EXPECT_LT(last - first, 60e6) << "of one step alone";
}

TEST(Train, WritesTensorBoardsFilesOfEveryStepAndGoesOnWhereItCannot) {
  Job job;
  job.spec.metrics = contract::MetricFiles{.path = (job.folder / "logs").string(), .tensorBoard = true};
  run(job, {.dp = 2});
  std::string all;
  for (const auto& entry : fs::directory_iterator(job.folder / "logs" / "tensorboard")) {
    EXPECT_TRUE(entry.path().filename().string().starts_with("events.out.tfevents."));
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    all += text.str();
  }
  std::size_t losses = 0;
  for (std::size_t at = all.find("train/loss\x15"); at != std::string::npos; at = all.find("train/loss\x15", at + 1)) ++losses;
  EXPECT_EQ(losses, 6u);
  EXPECT_NE(all.find("validation/loss"), std::string::npos);
  EXPECT_NE(all.find("time/checkpoint_blocked"), std::string::npos);

  Job wrong;
  wrong.spec.metrics =
      contract::MetricFiles{.path = "/proc/nowhere", .tensorBoard = true, .trace = contract::Trace{.steps = {1}}};
  const auto done = run(wrong);
  EXPECT_EQ(done.progress.size(), 6u);
  ASSERT_FALSE(done.notices.empty());
  EXPECT_EQ(done.notices.front().notice->reason, "MetricsNotWritten");
}

TEST(Train, SaysThatTheCorpusIsMissing) {
  Job job;
  job.spec.data.train = {{.path = "/nowhere/at/all"}};
  try {
    run(job);
    FAIL();
  } catch (const contract::UserError& error) {
    EXPECT_NE(std::string(error.what()).find("/nowhere/at/all"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace trainyard::trainer
