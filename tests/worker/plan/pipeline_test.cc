#include "worker/plan/pipeline.h"

#include <algorithm>
#include <deque>
#include <map>
#include <stdexcept>

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

struct Simulation {
  bool finished = false;
  std::vector<std::int32_t> most_in_flight;  // a stage
};

/// Runs all stages, one op of each stage a round, over buffered channels in which the k-th receive takes the k-th send.
Simulation simulate(std::int32_t num_stages, std::int32_t num_micro_batches) {
  std::vector<std::vector<PipelineOp>> programs;
  for (std::int32_t stage = 0; stage < num_stages; ++stage) {
    programs.push_back(one_forward_one_backward(num_stages, num_micro_batches, stage));
  }
  std::map<std::pair<std::int32_t, std::int32_t>, std::deque<std::int32_t>> channels;  // (from, to) -> micro-batches
  const auto p = static_cast<std::size_t>(num_stages);
  std::vector<std::size_t> at(p, 0);
  std::vector<std::int32_t> in_flight(p, 0), held(p, -1);
  Simulation run{.finished = false, .most_in_flight = std::vector<std::int32_t>(p, 0)};
  const auto step = [&](std::int32_t stage) {
    const auto s = static_cast<std::size_t>(stage);
    if (at[s] == programs[s].size()) return false;
    const auto [kind, micro_batch] = programs[s][at[s]];
    const bool receives = kind == PipelineOpKind::kReceiveActivation || kind == PipelineOpKind::kReceiveGradient;
    if (receives) {
      auto& channel = channels[{kind == PipelineOpKind::kReceiveActivation ? stage - 1 : stage + 1, stage}];
      if (channel.empty()) return false;
      EXPECT_EQ(channel.front(), micro_batch);
      channel.pop_front();
      held[s] = micro_batch;
    } else if (kind == PipelineOpKind::kForward) {
      EXPECT_TRUE(stage == 0 || held[s] == micro_batch);
      run.most_in_flight[s] = std::max(run.most_in_flight[s], ++in_flight[s]);
    } else if (kind == PipelineOpKind::kBackward) {
      EXPECT_TRUE(stage == num_stages - 1 || held[s] == micro_batch);
      --in_flight[s];
    } else {
      channels[{stage, kind == PipelineOpKind::kSendActivation ? stage + 1 : stage - 1}].push_back(micro_batch);
    }
    ++at[s];
    return true;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (std::int32_t stage = 0; stage < num_stages; ++stage) moved |= step(stage);
  }
  run.finished = true;
  for (std::size_t s = 0; s < p; ++s) run.finished &= at[s] == programs[s].size();
  for (const auto& [ends, channel] : channels) run.finished &= channel.empty();
  return run;
}

TEST(OneForwardOneBackward, NeverWaitsForEverAndKeepsAsFewInFlightAsItPromises) {
  for (std::int32_t p = 1; p <= 8; ++p) {
    for (std::int32_t m = 1; m <= 32; ++m) {
      const Simulation run = simulate(p, m);
      EXPECT_TRUE(run.finished) << "p=" << p << " m=" << m;
      for (std::int32_t stage = 0; stage < p; ++stage) {
        EXPECT_EQ(run.most_in_flight[static_cast<std::size_t>(stage)], std::min(p - stage, m)) << "p=" << p << " m=" << m;
      }
    }
  }
}

TEST(OneForwardOneBackward, RunsEachMicroBatchOnceEachWayInOrder) {
  for (std::int32_t p = 1; p <= 8; ++p) {
    for (std::int32_t m = 1; m <= 32; ++m) {
      for (std::int32_t stage = 0; stage < p; ++stage) {
        std::map<PipelineOpKind, std::vector<std::int32_t>> seen;
        for (const auto& op : one_forward_one_backward(p, m, stage)) seen[op.kind].push_back(op.micro_batch);
        std::vector<std::int32_t> all;
        for (std::int32_t i = 0; i < m; ++i) all.push_back(i);
        const std::vector<std::int32_t> none;
        EXPECT_EQ(seen[PipelineOpKind::kForward], all);
        EXPECT_EQ(seen[PipelineOpKind::kBackward], all);
        EXPECT_EQ(seen[PipelineOpKind::kReceiveActivation], stage > 0 ? all : none);
        EXPECT_EQ(seen[PipelineOpKind::kSendGradient], stage > 0 ? all : none);
        EXPECT_EQ(seen[PipelineOpKind::kSendActivation], stage < p - 1 ? all : none);
        EXPECT_EQ(seen[PipelineOpKind::kReceiveGradient], stage < p - 1 ? all : none);
      }
    }
  }
}

TEST(OneForwardOneBackward, RefusesAStageOutsideOfThePipeline) {
  EXPECT_THROW(one_forward_one_backward(2, 4, 2), std::invalid_argument);
  EXPECT_THROW(one_forward_one_backward(2, 4, -1), std::invalid_argument);
  EXPECT_THROW(one_forward_one_backward(2, 0, 0), std::invalid_argument);
}

TEST(ForwardOnly, IsOneForwardOneBackwardWithoutTheWayBack) {
  for (std::int32_t p = 1; p <= 8; ++p) {
    for (std::int32_t m = 1; m <= 32; ++m) {
      for (std::int32_t stage = 0; stage < p; ++stage) {
        auto expected = one_forward_one_backward(p, m, stage);
        std::erase_if(expected, [](const PipelineOp& op) {
          return op.kind == PipelineOpKind::kReceiveGradient || op.kind == PipelineOpKind::kBackward ||
                 op.kind == PipelineOpKind::kSendGradient;
        });
        EXPECT_EQ(forward_only(p, m, stage), expected);
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::plan
