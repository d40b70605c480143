#include "worker/trainer/skipped_steps.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <mutex>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "crds/contract/user_error.h"
#include "tests/worker/mesh/ranks.h"
#include "tests/worker/trainer/a_training.h"
#include "worker/trainer/engine.h"
#include "worker/trainer/resume_state.h"

namespace trainyard::trainer {
namespace {

using contract::ComputePrecision;

TEST(SkippedSteps, EndTheTrainingOnlyWhereThereWereManyInARow) {
  EXPECT_NO_THROW(end_if_none_is_finite({.steps = 500, .skipped = 400, .skipped_in_a_row = 9}, ComputePrecision::kBF16));
  EXPECT_NO_THROW(end_if_none_is_finite({.steps = 31, .skipped = 31, .skipped_in_a_row = 31}, ComputePrecision::kFP16));
  try {
    end_if_none_is_finite({.steps = 17, .skipped = 12, .skipped_in_a_row = 10}, ComputePrecision::kBF16);
    FAIL();
  } catch (const contract::UserError& error) {
    EXPECT_EQ(error.reason(), "GradientNotFinite");
    EXPECT_NE(std::string(error.what()).find("10 steps in a row, the last of them step 17"), std::string::npos) << error.what();
  }
  EXPECT_THROW(end_if_none_is_finite({.steps = 32, .skipped = 32, .skipped_in_a_row = 32}, ComputePrecision::kFP16),
               contract::UserError);
}

TEST(SkippedSteps, AreNoTrainingWhereThereWereNoOthers) {
  EXPECT_THROW(end_if_all_were_skipped({.steps = 3, .skipped = 3, .skipped_in_a_row = 3}, ComputePrecision::kFP16),
               contract::UserError);
  EXPECT_NO_THROW(end_if_all_were_skipped({.steps = 3, .skipped = 2, .skipped_in_a_row = 2}, ComputePrecision::kFP16));
  EXPECT_NO_THROW(end_if_all_were_skipped({}, ComputePrecision::kFP32));
}

TEST(SkippedSteps, AreToldOfEverMoreSeldomAndNotAtAllWithFp16) {
  std::vector<std::int64_t> told;
  for (std::int64_t skipped = 1; skipped <= 40; ++skipped) {
    if (notice_of_skipped({.steps = 100, .skipped = skipped}, ComputePrecision::kFP32)) told.push_back(skipped);
    EXPECT_FALSE(notice_of_skipped({.steps = 100, .skipped = skipped}, ComputePrecision::kFP16));
  }
  EXPECT_EQ(told, (std::vector<std::int64_t>{1, 2, 4, 8, 16, 32}));
}

TEST(SkippedSteps, AreKeptOverAResume) {
  const EngineState state{.steps = 9, .skipped = 4, .skipped_in_a_row = 2};
  const auto json = contract::encode(resume_state_of({}, {}, {}, state));
  EXPECT_EQ(engine_state_of(contract::decode<ResumeState>(json, "state").value, 9), state);
}

/// Of one rank, after each step.
struct SkipTrace {
  std::vector<bool> skipped;
  std::vector<double> rates, norms;
  std::vector<at::Tensor> masters;  // after the last
};

/// Trains with an infinite weight on the ranks that `is_struck` says, in steps 2 and 5 alone.
std::map<std::int32_t, SkipTrace> train_struck(contract::TrainingJobSpec spec, contract::Degrees degrees,
                                               const std::function<bool(const mesh::Mesh&)>& is_struck) {
  const auto layout = layout_of(spec, degrees);
  std::mutex mutex;
  std::map<std::int32_t, SkipTrace> traces;
  mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    Engine engine(spec, mesh, *spec.training.steps);
    engine.initialize();
    SkipTrace trace;
    for (std::int64_t step = 0; step < *spec.training.steps; ++step) {
      const auto& all = engine.parameters().all();
      at::Tensor victim = std::find_if(all.begin(), all.end(), [](const auto& one) { return one.master.numel() > 0; })->master;
      const at::Tensor kept = victim.clone();
      const bool strikes = (step == 1 || step == 4) && is_struck(mesh);
      if (strikes) victim.fill_(std::numeric_limits<float>::infinity());
      std::vector<at::Tensor> before;
      for (const auto& shard : engine.shards()) before.push_back(shard.local.clone());
      const auto metrics = engine.step(made_up_input(spec, mesh, step));
      if (metrics.skipped) {
        for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(before[i], engine.shards()[i].local));
      }
      if (strikes) victim.copy_(kept);
      trace.skipped.push_back(metrics.skipped);
      trace.rates.push_back(metrics.learning_rate);
      trace.norms.push_back(metrics.gradient_norm);
    }
    EXPECT_EQ(engine.state(), (EngineState{.steps = *spec.training.steps, .skipped = 2, .skipped_in_a_row = 0}));
    for (const auto& parameter : engine.parameters().all()) trace.masters.push_back(parameter.master.clone());
    const std::lock_guard lock(mutex);
    traces[mesh.rank()] = std::move(trace);
  });
  return traces;
}

TEST(Skipping, IsDoneByAllRanksAlikeWhoeverWasStruck) {
  auto spec = small_job(contract::Reduction::kCanonical);
  const std::vector<bool> wanted{false, true, false, false, true, false, false, false, false, false, false, false};
  const auto alone = train_struck(spec, {}, [](const mesh::Mesh&) { return true; }).at(0);
  ASSERT_EQ(alone.skipped, wanted);
  for (const auto& [degrees, zero] : std::vector<std::pair<contract::Degrees, std::int32_t>>{{{.dp = 2}, 0},
                                                                                             {{.dp = 2}, 1},
                                                                                             {{.dp = 2}, 2},
                                                                                             {{.dp = 2}, 3},
                                                                                             {{.pp = 2}, 0},
                                                                                             {{.tp = 2}, 0},
                                                                                             {{.pp = 2, .dp = 2}, 3},
                                                                                             {{.pp = 2, .tp = 2}, 0}}) {
    spec.parallelism.zero.stage = zero;
    for (std::int32_t struck = 0; struck < degrees.pp * degrees.dp * degrees.tp; ++struck) {
      SCOPED_TRACE("pp=" + std::to_string(degrees.pp) + " dp=" + std::to_string(degrees.dp) +
                   " tp=" + std::to_string(degrees.tp) + " zero=" + std::to_string(zero) + " struck=" + std::to_string(struck));
      const auto traces = train_struck(spec, degrees, [struck](const mesh::Mesh& mesh) { return mesh.rank() == struck; });
      for (const auto& [rank, trace] : traces) {
        EXPECT_EQ(trace.skipped, wanted) << "rank " << rank;
        EXPECT_EQ(trace.rates, alone.rates) << "rank " << rank;
        EXPECT_NEAR(trace.norms.back(), alone.norms.back(), degrees.tp == 1 ? 0.0 : 1e-4) << "rank " << rank;
      }
    }
  }
}

TEST(Skipping, MovesTheLearningRateOnButNotTheCorrectionOfTheMoments) {
  auto spec = small_job(contract::Reduction::kCanonical);
  const auto struck = train_struck(spec, {}, [](const mesh::Mesh&) { return true; }).at(0);
  // The same by hand: an optimizer that never hears of the steps 2 and 5, at the rates of the steps that it does.
  const auto layout = layout_of(spec, {});
  mesh::run_ranks(layout, [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    model::Parameters parameters(spec, mesh);
    parameters.initialize(spec.training.seed);
    auto chunks = model::llama_chunks(spec, parameters, mesh);
    schedule::StepRunner runner(spec, parameters, chunks, mesh);
    std::vector<optim::Trained> trained;
    for (const auto& parameter : parameters.all()) trained.push_back({parameter.master, parameter.global.decays});
    optim::AdamW optimizer(spec.training.optimizer, trained);
    for (const std::int64_t step : {0, 2, 3, 5, 6, 7, 8, 9, 10, 11}) {
      const auto at = static_cast<std::size_t>(step);
      const auto result = runner.run(made_up_input(spec, mesh, step));
      optim::scale(result.gradients, optim::clip_coefficient(struck.norms[at], spec.training.gradientClipping->maxNorm));
      optimizer.step(result.gradients, struck.rates[at]);
    }
    for (std::size_t i = 0; i < trained.size(); ++i) EXPECT_TRUE(at::equal(trained[i].master, struck.masters[i])) << i;
  });
}

std::string many_times(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Fp16, TellsOfItsLossScaleAndOfWhatItSkippedWhichTheResumeKeeps) {
  Job through, halves;
  for (auto* job : {&through, &halves}) {
    job->spec.training.precision.compute = ComputePrecision::kFP16;
    job->spec.training.steps = 12;
    // Nearly always the same letter: the errors of all tokens add up in the head's gradient, beyond what FP16 holds.
    std::ofstream(job->folder / "monotonous") << many_times("aaaaaaaaaaaaaaab", 500);
    job->spec.data.train = {{.path = job->folder / "monotonous"}};
    job->spec.parallelism.microBatchSize = 2;
  }
  const auto all = run(through, {.dp = 2});
  std::int64_t skipped = 0;
  for (const auto& report : all.progress) {
    const auto& told = report.progress.value();
    const bool was_skipped = told.skippedSteps.value_or(0) > skipped;
    skipped += was_skipped ? 1 : 0;
    EXPECT_EQ(told.skippedSteps.value_or(0), skipped);
    EXPECT_EQ(told.gradientNorm.has_value(), !was_skipped) << told.step;
    EXPECT_EQ(told.lossScale, std::ldexp(65536.0, -static_cast<int>(skipped))) << told.step;
  }
  EXPECT_GT(skipped, 0);
  EXPECT_LT(skipped, 12);
  EXPECT_TRUE(all.notices.empty());
  run(halves, {.dp = 2}, 1, stop_at(1));
  run(halves, {.pp = 2}, 2, stop_at(3));
  run(halves, {}, 3);
  EXPECT_EQ(through.tensors_of(12), halves.tensors_of(12));
}

}  // namespace
}  // namespace trainyard::trainer
