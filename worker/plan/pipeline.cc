#include "worker/plan/pipeline.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace trainyard::plan {
namespace {

using contract::PipelineScheduleName;
using Kind = PipelineOpKind;
using Ops = std::vector<PipelineOp>;

/// Puts the sends and receives around a stage's computations: a receive just before what needs it, a send just after what made it.
class Program {
 public:
  Program(const PipelineShape& shape, std::int32_t stage)
      : shape_(shape), stage_(stage), last_chunk_(shape.chunks - 1), is_first_(stage == 0), is_last_(stage == shape.stages - 1) {}

  void forward(std::int32_t micro_batch, std::int32_t chunk = 0) {
    if (!is_first_ || chunk > 0) add(Kind::kReceiveActivation, micro_batch, chunk);
    add(Kind::kForward, micro_batch, chunk);
    if (!is_last_ || chunk < last_chunk_) add(Kind::kSendActivation, micro_batch, chunk);
  }
  void backward(std::int32_t micro_batch, std::int32_t chunk = 0) { back(Kind::kBackward, micro_batch, chunk); }
  void backward_input(std::int32_t micro_batch) { back(Kind::kBackwardInput, micro_batch, 0); }
  void backward_weight(std::int32_t micro_batch) { add(Kind::kBackwardWeight, micro_batch, 0); }

  const PipelineShape& shape() const { return shape_; }
  std::int32_t stage() const { return stage_; }
  Ops take() { return std::move(ops_); }

 private:
  void back(Kind kind, std::int32_t micro_batch, std::int32_t chunk) {
    if (!is_last_ || chunk < last_chunk_) add(Kind::kReceiveGradient, micro_batch, chunk);
    add(kind, micro_batch, chunk);
    if (!is_first_ || chunk > 0) add(Kind::kSendGradient, micro_batch, chunk);
  }
  void add(Kind kind, std::int32_t micro_batch, std::int32_t chunk) { ops_.push_back({kind, micro_batch, chunk}); }

  const PipelineShape& shape_;
  std::int32_t stage_, last_chunk_;
  bool is_first_, is_last_;
  Ops ops_;
};

void gpipe(Program& program) {
  for (std::int32_t i = 0; i < program.shape().micro_batches; ++i) program.forward(i);
  for (std::int32_t i = 0; i < program.shape().micro_batches; ++i) program.backward(i);
}

/// `warm_up` forwards, then one forward and one backward in turn, then the backwards that remain.
template <class Forward, class Backward>
void alternate(std::int32_t warm_up, std::int32_t count, Forward&& forward, Backward&& backward) {
  warm_up = std::min(warm_up, count);
  for (std::int32_t i = 0; i < warm_up; ++i) forward(i);
  for (std::int32_t i = warm_up; i < count; ++i) {
    forward(i);
    backward(i - warm_up);
  }
  for (std::int32_t i = count - warm_up; i < count; ++i) backward(i);
}

/// The forwards of a stage before its first backward.
std::int32_t warm_up(const PipelineShape& shape, std::int32_t stage) {
  const std::int32_t behind = shape.stages - 1 - stage;
  return shape.chunks == 1 ? behind : 2 * behind + (shape.chunks - 1) * shape.stages;
}

/// The micro-batch of the `position`-th forward, and of the `position`-th backward.
std::int32_t micro_batch_at(const PipelineShape& shape, std::int32_t position) {
  return position / (shape.stages * shape.chunks) * shape.stages + position % shape.stages;
}

void interleaved(Program& program) {
  const auto& shape = program.shape();
  alternate(
      warm_up(shape, program.stage()), shape.micro_batches * shape.chunks,
      [&](std::int32_t i) { program.forward(micro_batch_at(shape, i), chunk_of_forward(shape, i)); },
      [&](std::int32_t i) { program.backward(micro_batch_at(shape, i), shape.chunks - 1 - chunk_of_forward(shape, i)); });
}

void one_forward_one_backward(Program& program) {
  alternate(
      warm_up(program.shape(), program.stage()), program.shape().micro_batches, [&](std::int32_t i) { program.forward(i); },
      [&](std::int32_t i) { program.backward(i); });
}

/// Stage s keeps the weights' gradients of s micro-batches for later, so that all stages hold p; the last ones fill the end.
void zero_bubble(Program& program) {
  const std::int32_t late = program.stage(), count = program.shape().micro_batches;
  alternate(
      warm_up(program.shape(), program.stage()), count, [&](std::int32_t i) { program.forward(i); },
      [&](std::int32_t i) {
        program.backward_input(i);
        if (i >= late) program.backward_weight(i - late);
      });
  for (std::int32_t i = std::max(0, count - late); i < count; ++i) program.backward_weight(i);
}

void check(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("plan a pipeline: ") + what);
}

void check_stage(const PipelineShape& shape, std::int32_t stage) {
  check(shape.stages >= 1 && shape.chunks >= 1, "it needs at least one stage of at least one chunk");
  check(stage >= 0 && stage < shape.stages, "no such stage");
  check(shape.chunks == 1 || shape.stages > 1, "chunks need at least two stages");
}

}  // namespace

std::vector<PipelineOp> pipeline_program(PipelineScheduleName schedule, const PipelineShape& shape, std::int32_t stage) {
  check_stage(shape, stage);
  check(shape.micro_batches >= 1, "it needs at least one micro-batch");
  check(shape.chunks == 1 || schedule == PipelineScheduleName::kInterleaved, "chunks are for Interleaved alone");
  check(shape.chunks == 1 || shape.micro_batches % shape.stages == 0, "with chunks the stages must divide the micro-batches");
  Program program(shape, stage);
  switch (schedule) {
    case PipelineScheduleName::kGPipe: gpipe(program); break;
    case PipelineScheduleName::kOneForwardOneBackward: one_forward_one_backward(program); break;
    case PipelineScheduleName::kInterleaved: interleaved(program); break;
    case PipelineScheduleName::kZeroBubble: zero_bubble(program); break;
  }
  return program.take();
}

std::vector<PipelineOp> forward_only(const PipelineShape& shape, std::int32_t stage) {
  check_stage(shape, stage);
  Program program(shape, stage);
  for (std::int32_t first = 0; first < shape.micro_batches; first += shape.stages) {
    const std::int32_t end = std::min(first + shape.stages, shape.micro_batches);
    for (std::int32_t chunk = 0; chunk < shape.chunks; ++chunk) {
      for (std::int32_t i = first; i < end; ++i) program.forward(i, chunk);
    }
  }
  return program.take();
}

std::int32_t most_in_flight(PipelineScheduleName schedule, const PipelineShape& shape, std::int32_t stage) {
  const std::int32_t all = shape.micro_batches * shape.chunks;
  switch (schedule) {
    case PipelineScheduleName::kGPipe: return all;
    case PipelineScheduleName::kZeroBubble: return std::min(all, shape.stages);
    case PipelineScheduleName::kOneForwardOneBackward:
    case PipelineScheduleName::kInterleaved: break;
  }
  return std::min(all, warm_up(shape, stage) + 1);
}

std::int32_t chunk_of_forward(const PipelineShape& shape, std::int32_t forward) {
  return forward % (shape.stages * shape.chunks) / shape.stages;
}

PipelineLink link_of(const PipelineOp& op, const PipelineShape& shape, std::int32_t stage) {
  const bool up = op.kind == Kind::kReceiveActivation || op.kind == Kind::kSendGradient;  // at the link to the part before
  const std::int32_t last = shape.stages - 1;
  PipelineLink link{.peer = up ? stage - 1 : stage + 1, .around = up ? stage == 0 : stage == last, .tag = 0};
  if (link.around) link.peer = up ? last : 0;
  const std::int32_t earlier = up && link.around ? op.chunk - 1 : op.chunk;  // the chunk of the part before the link
  link.tag = op.micro_batch * shape.chunks + earlier;
  return link;
}

}  // namespace trainyard::plan
