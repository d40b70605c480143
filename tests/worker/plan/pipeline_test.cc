#include "worker/plan/pipeline.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

using contract::PipelineScheduleName;
using Kind = PipelineOpKind;

/// How long a chunk's forward, gradient of the inputs and gradient of the weights take.
struct Durations {
  std::int64_t forward = 1, input = 1, weight = 1;
};

struct Outcome {
  bool finished = false;
  std::vector<std::int64_t> idle;            // by stage, from the start of the step to its end
  std::vector<std::int32_t> most_in_flight;  // by stage
};

bool is_receive(Kind kind) { return kind == Kind::kReceiveActivation || kind == Kind::kReceiveGradient; }
bool is_send(Kind kind) { return kind == Kind::kSendActivation || kind == Kind::kSendGradient; }
bool is_activation(Kind kind) { return kind == Kind::kReceiveActivation || kind == Kind::kSendActivation; }

/// All stages of a pipeline in virtual time. A message takes no time. Each link is a queue of which the k-th receive must be of the k-th
/// send; a send waits while kSendsOnTheirWay earlier ones of its link were not received.
class VirtualPipeline {
 public:
  VirtualPipeline(std::vector<std::vector<PipelineOp>> programs, const PipelineShape& shape, const Durations& durations = {})
      : programs_(std::move(programs)), shape_(shape), durations_(durations), stages_(programs_.size()) {}

  Outcome run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t s = 0; s < stages_.size(); ++s) {
        while (stages_[s].at < programs_[s].size() && step(static_cast<std::int32_t>(s))) moved = true;
      }
    }
    std::int64_t end = 0;
    for (const auto& stage : stages_) end = std::max(end, stage.clock);
    Outcome outcome{.finished = true, .idle = {}, .most_in_flight = {}};
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      outcome.finished &= stages_[s].at == programs_[s].size();
      outcome.idle.push_back(end - stages_[s].busy);
      outcome.most_in_flight.push_back(stages_[s].most_in_flight);
    }
    for (const auto& [ends, link] : links_) outcome.finished &= link.sent.size() == link.received.size();
    expect_one_way_links();
    return outcome;
  }

 private:
  using Work = std::pair<std::int32_t, std::int32_t>;  // micro-batch, chunk
  struct Stage {
    std::size_t at = 0;
    std::int64_t clock = 0, busy = 0;
    std::int32_t in_flight = 0, most_in_flight = 0;
    std::set<Work> activations, gradients, forwarded, backwarded;  // what is here, and what was done
  };
  struct Link {
    std::vector<std::pair<std::int32_t, std::int64_t>> sent;  // tag, when
    std::vector<std::int64_t> received;                       // when
  };

  /// Runs the next op of a stage, unless it has to wait for another stage.
  bool step(std::int32_t s) {
    auto& stage = stages_[static_cast<std::size_t>(s)];
    const auto& op = programs_[static_cast<std::size_t>(s)][stage.at];
    const bool done = is_send(op.kind) ? send(s, op) : is_receive(op.kind) ? receive(s, op) : compute(s, op);
    stage.at += done ? 1 : 0;
    return done;
  }

  bool send(std::int32_t s, const PipelineOp& op) {
    auto& stage = stages_[static_cast<std::size_t>(s)];
    const auto link = link_of(op, shape_, s);
    auto& [sent, received] = links_[{is_activation(op.kind), link.around, s, link.peer}];
    if (sent.size() >= static_cast<std::size_t>(kSendsOnTheirWay)) {
      const std::size_t oldest = sent.size() - static_cast<std::size_t>(kSendsOnTheirWay);
      if (oldest >= received.size()) return false;
      stage.clock = std::max(stage.clock, received[oldest]);
    }
    EXPECT_TRUE((is_activation(op.kind) ? stage.forwarded : stage.backwarded).contains({op.micro_batch, op.chunk}));
    sent.emplace_back(link.tag, stage.clock);
    return true;
  }

  bool receive(std::int32_t s, const PipelineOp& op) {
    auto& stage = stages_[static_cast<std::size_t>(s)];
    const auto link = link_of(op, shape_, s);
    auto& [sent, received] = links_[{is_activation(op.kind), link.around, link.peer, s}];
    if (received.size() == sent.size()) return false;
    const auto& [tag, when] = sent[received.size()];
    EXPECT_EQ(tag, link.tag);
    stage.clock = std::max(stage.clock, when);
    received.push_back(stage.clock);
    (is_activation(op.kind) ? stage.activations : stage.gradients).insert({op.micro_batch, op.chunk});
    return true;
  }

  bool compute(std::int32_t s, const PipelineOp& op) {
    auto& stage = stages_[static_cast<std::size_t>(s)];
    const Work work{op.micro_batch, op.chunk};
    std::int64_t time = 0;
    if (op.kind == Kind::kForward) {
      EXPECT_TRUE((s == 0 && op.chunk == 0) || stage.activations.contains(work)) << "its input is not here";
      EXPECT_TRUE(stage.forwarded.insert(work).second) << "twice";
      stage.most_in_flight = std::max(stage.most_in_flight, ++stage.in_flight);
      time = durations_.forward;
    } else if (op.kind == Kind::kBackwardWeight) {
      EXPECT_TRUE(stage.backwarded.contains(work));
      --stage.in_flight;
      time = durations_.weight;
    } else {
      EXPECT_TRUE(stage.forwarded.contains(work));
      EXPECT_TRUE((s == shape_.stages - 1 && op.chunk == shape_.chunks - 1) || stage.gradients.contains(work));
      EXPECT_TRUE(stage.backwarded.insert(work).second) << "twice";
      stage.in_flight -= op.kind == Kind::kBackward ? 1 : 0;
      time = durations_.input + (op.kind == Kind::kBackward ? durations_.weight : 0);
    }
    stage.clock += time;
    stage.busy += time;
    return true;
  }

  /// NCCL runs the calls of a pair of ranks in one group one after the other, so that calls both ways could wait for each other.
  void expect_one_way_links() const {
    for (const auto& [ends, link] : links_) {
      const auto& [activation, around, from, to] = ends;
      EXPECT_FALSE(links_.contains({activation, around, to, from})) << from << " and " << to << " send each other by one group";
    }
  }

  std::vector<std::vector<PipelineOp>> programs_;
  PipelineShape shape_;
  Durations durations_;
  std::vector<Stage> stages_;
  std::map<std::tuple<bool, bool, std::int32_t, std::int32_t>, Link> links_;  // activation, around, from, to
};

std::vector<std::vector<PipelineOp>> programs_of(PipelineScheduleName schedule, const PipelineShape& shape) {
  std::vector<std::vector<PipelineOp>> programs;
  for (std::int32_t stage = 0; stage < shape.stages; ++stage) programs.push_back(pipeline_program(schedule, shape, stage));
  return programs;
}

Outcome outcome_of(PipelineScheduleName schedule, const PipelineShape& shape, const Durations& durations = {}) {
  return VirtualPipeline(programs_of(schedule, shape), shape, durations).run();
}

/// Every schedule of up to 8 stages, 32 micro-batches and 4 chunks.
void for_each_schedule(const std::function<void(PipelineScheduleName, const PipelineShape&)>& body) {
  for (const auto schedule : {PipelineScheduleName::kGPipe, PipelineScheduleName::kOneForwardOneBackward,
                              PipelineScheduleName::kInterleaved, PipelineScheduleName::kZeroBubble}) {
    const bool has_chunks = schedule == PipelineScheduleName::kInterleaved;
    for (std::int32_t p = has_chunks ? 2 : 1; p <= 8; ++p) {
      for (std::int32_t v = has_chunks ? 2 : 1; v <= (has_chunks ? 4 : 1); ++v) {
        for (std::int32_t m = has_chunks ? p : 1; m <= 32; m += has_chunks ? p : 1) {
          SCOPED_TRACE(std::string(contract::name_of(schedule)) + " p=" + std::to_string(p) + " v=" + std::to_string(v) +
                       " m=" + std::to_string(m));
          body(schedule, {.stages = p, .chunks = v, .micro_batches = m});
        }
      }
    }
  }
}

/// The formulas of pipeline.h. Durations are those of a chunk: v of them make a stage's F, B and W.
std::int64_t bubble(PipelineScheduleName schedule, const PipelineShape& shape, const Durations& d) {
  const std::int64_t p = shape.stages, m = shape.micro_batches;
  if (schedule != PipelineScheduleName::kZeroBubble) return (p - 1) * (d.forward + d.input + d.weight);
  return m >= p ? (p - 1) * (d.forward + d.input - d.weight) : (p - 1) * (d.forward + d.input) - (m - 1) * d.weight;
}

TEST(PipelineProgram, IsIdleForExactlyTheBubbleOfItsFormula) {
  for_each_schedule([](PipelineScheduleName schedule, const PipelineShape& shape) {
    for (const Durations& durations :
         {Durations{1, 1, 1}, {2, 2, 1}, {2, 3, 1}, {3, 4, 2}, {4, 3, 2}, {5, 1, 1}, {1, 9, 1}, {60, 71, 59}}) {
      const Outcome outcome = outcome_of(schedule, shape, durations);
      ASSERT_TRUE(outcome.finished);
      for (const std::int64_t idle : outcome.idle) EXPECT_EQ(idle, bubble(schedule, shape, durations));
    }
  });
}

TEST(PipelineProgram, IsIdleForTheSameBubbleHoweverLongTheWeightsTakeButForZeroBubble) {
  for_each_schedule([](PipelineScheduleName schedule, const PipelineShape& shape) {
    if (schedule == PipelineScheduleName::kZeroBubble) return;
    const Durations durations{.forward = 2, .input = 1, .weight = 7};
    for (const std::int64_t idle : outcome_of(schedule, shape, durations).idle)
      EXPECT_EQ(idle, bubble(schedule, shape, durations));
  });
}

TEST(PipelineProgram, KeepsAsManyInFlightAsItsFormulaSays) {
  for_each_schedule([](PipelineScheduleName schedule, const PipelineShape& shape) {
    const Outcome outcome = outcome_of(schedule, shape);
    const std::int32_t p = shape.stages, v = shape.chunks, m = shape.micro_batches;
    for (std::int32_t s = 0; s < p; ++s) {
      const std::int32_t expected = schedule == PipelineScheduleName::kGPipe        ? m
                                    : schedule == PipelineScheduleName::kZeroBubble ? std::min(m, p)
                                    : v > 1 ? std::min(m * v, 2 * (p - 1 - s) + (v - 1) * p + 1)
                                            : std::min(m, p - s);
      EXPECT_EQ(outcome.most_in_flight[static_cast<std::size_t>(s)], expected);
      EXPECT_EQ(most_in_flight(schedule, shape, s), expected);
    }
  });
}

TEST(PipelineProgram, RunsEachMicroBatchOnceEachWayAndTakesAChunksGradientsInOrder) {
  for_each_schedule([](PipelineScheduleName schedule, const PipelineShape& shape) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(shape.micro_batches));
    std::iota(all.begin(), all.end(), 0);
    const bool splits = schedule == PipelineScheduleName::kZeroBubble;
    for (const auto& program : programs_of(schedule, shape)) {
      std::map<std::pair<Kind, std::int32_t>, std::vector<std::int32_t>> seen;  // by kind and chunk
      for (const auto& op : program) seen[{op.kind, op.chunk}].push_back(op.micro_batch);
      for (std::int32_t chunk = 0; chunk < shape.chunks; ++chunk) {
        for (const auto kind : {Kind::kForward, splits ? Kind::kBackwardInput : Kind::kBackward}) {
          EXPECT_EQ((seen[{kind, chunk}]), all);
        }
        EXPECT_EQ((seen[{Kind::kBackwardWeight, chunk}]), splits ? all : std::vector<std::int32_t>{});
        EXPECT_TRUE((seen[{splits ? Kind::kBackward : Kind::kBackwardInput, chunk}].empty()));
      }
    }
  });
}

TEST(PipelineProgram, NeverWaitsForEverThoughThereAreMoreStagesThanSendsOnTheirWay) {
  for (const std::int32_t p : {17, 40, 64}) {
    for (const std::int32_t m : {p, 3 * p}) {
      for (const std::int32_t v : {2, 5}) {
        EXPECT_TRUE(outcome_of(PipelineScheduleName::kInterleaved, {p, v, m}).finished) << p << " " << m << " " << v;
      }
      for (const auto schedule :
           {PipelineScheduleName::kGPipe, PipelineScheduleName::kOneForwardOneBackward, PipelineScheduleName::kZeroBubble}) {
        EXPECT_TRUE(outcome_of(schedule, {p, 1, m}).finished) << p << " " << m;
      }
    }
  }
}

TEST(PipelineProgram, RefusesWhatNoScheduleCanRun) {
  const auto plan = [](PipelineScheduleName schedule, const PipelineShape& shape, std::int32_t stage) {
    return pipeline_program(schedule, shape, stage);
  };
  const auto plain = PipelineScheduleName::kOneForwardOneBackward, interleaved = PipelineScheduleName::kInterleaved;
  EXPECT_THROW(plan(plain, {2, 1, 4}, 2), std::invalid_argument);
  EXPECT_THROW(plan(plain, {2, 1, 4}, -1), std::invalid_argument);
  EXPECT_THROW(plan(plain, {2, 1, 0}, 0), std::invalid_argument);
  EXPECT_THROW(plan(plain, {2, 2, 4}, 0), std::invalid_argument) << "only Interleaved has chunks";
  EXPECT_THROW(plan(interleaved, {2, 2, 5}, 0), std::invalid_argument) << "5 micro-batches on 2 stages";
  EXPECT_THROW(plan(interleaved, {1, 2, 4}, 0), std::invalid_argument) << "a stage that sends to itself";
}

TEST(ForwardOnly, IsTheSchedulesForwardsWithoutTheWayBack) {
  for_each_schedule([](PipelineScheduleName schedule, const PipelineShape& shape) {
    for (std::int32_t stage = 0; stage < shape.stages; ++stage) {
      auto expected = pipeline_program(schedule, shape, stage);
      std::erase_if(expected, [](const PipelineOp& op) {
        return op.kind != Kind::kReceiveActivation && op.kind != Kind::kForward && op.kind != Kind::kSendActivation;
      });
      EXPECT_EQ(forward_only(shape, stage), expected);
    }
  });
}

TEST(ForwardOnly, TakesAnyNumberOfMicroBatches) {
  for (std::int32_t p = 2; p <= 8; ++p) {
    for (std::int32_t m = 0; m <= 32; ++m) {
      for (std::int32_t v = 1; v <= 4; ++v) {
        const PipelineShape shape{.stages = p, .chunks = v, .micro_batches = m};
        std::vector<std::vector<PipelineOp>> programs;
        for (std::int32_t stage = 0; stage < p; ++stage) programs.push_back(forward_only(shape, stage));
        const Outcome outcome = VirtualPipeline(std::move(programs), shape).run();
        EXPECT_TRUE(outcome.finished) << p << " " << m << " " << v;
        for (const std::int32_t forwards : outcome.most_in_flight) EXPECT_EQ(forwards, m * v);
      }
    }
  }
}

}  // namespace
}  // namespace trainyard::plan
