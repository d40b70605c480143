// The wall clock of the pipeline schedules: their programs run by threads that send each other tensors and sleep where a stage would
// compute, so that no processor's load matters. `idle` is what a stage waited of the step, `bubble` what worker/plan/pipeline.h foretells.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "worker/mesh/local_comm.h"
#include "worker/plan/pipeline.h"

namespace trainyard::plan {
namespace {

using contract::PipelineScheduleName;
using Clock = std::chrono::steady_clock;

constexpr std::int32_t kStages = 4, kMicroBatches = 8;
constexpr std::chrono::milliseconds kOneWay{24};  // each of F, B and W of a micro-batch on a whole stage

void run_stage(const std::vector<PipelineOp>& program, const PipelineShape& shape, mesh::Mesh& mesh) {
  const auto one = std::chrono::duration_cast<Clock::duration>(kOneWay) / shape.chunks;
  at::Tensor tensor = at::zeros({1});
  auto end = Clock::now();  // of the op that is going on; kept from drifting with how long sleeps take to wake
  for (const auto& op : program) {
    const auto link = link_of(op, shape, mesh.at().pp);
    const auto compute = [&](int times) { std::this_thread::sleep_until(end += times * one); };
    const auto receive = [&](mesh::Comm& comm) {
      comm.receive(tensor, link.peer, link.tag);
      end = std::max(end, Clock::now());
    };
    switch (op.kind) {
      case PipelineOpKind::kReceiveActivation: receive(mesh.activations(link.around)); break;
      case PipelineOpKind::kReceiveGradient: receive(mesh.gradients(link.around)); break;
      case PipelineOpKind::kSendActivation: mesh.activations(link.around).send(tensor, link.peer, link.tag); break;
      case PipelineOpKind::kSendGradient: mesh.gradients(link.around).send(tensor, link.peer, link.tag); break;
      case PipelineOpKind::kBackward: compute(2); break;
      default: compute(1);
    }
  }
}

/// `bubble`: in thirds of a micro-batch's time on a stage.
void step(benchmark::State& state, PipelineScheduleName schedule, std::int32_t chunks, double bubble) {
  const PipelineShape shape{.stages = kStages, .chunks = chunks, .micro_batches = kMicroBatches};
  double seconds = 0;
  for (auto _ : state) {
    mesh::LocalWorld world;
    const auto meshes = world.make_meshes(contract::Layout({.pp = kStages}, kStages));
    const auto start = Clock::now();
    std::vector<std::jthread> threads;
    for (const auto& mesh : meshes) {
      threads.emplace_back([&] { run_stage(pipeline_program(schedule, shape, mesh->at().pp), shape, *mesh); });
    }
    threads.clear();
    const double took = std::chrono::duration<double>(Clock::now() - start).count();
    state.SetIterationTime(took);
    seconds += took;
  }
  const double step_seconds = seconds / static_cast<double>(state.iterations());
  const double one = std::chrono::duration<double>(kOneWay).count();
  state.counters["idle"] = 1 - 3 * kMicroBatches * one / step_seconds;
  state.counters["bubble"] = bubble / (3 * kMicroBatches + bubble);
}

BENCHMARK_CAPTURE(step, OneForwardOneBackward, PipelineScheduleName::kOneForwardOneBackward, 1, 9.0)->UseManualTime();
BENCHMARK_CAPTURE(step, GPipe, PipelineScheduleName::kGPipe, 1, 9.0)->UseManualTime();
BENCHMARK_CAPTURE(step, Interleaved_2, PipelineScheduleName::kInterleaved, 2, 4.5)->UseManualTime();
BENCHMARK_CAPTURE(step, Interleaved_4, PipelineScheduleName::kInterleaved, 4, 2.25)->UseManualTime();
BENCHMARK_CAPTURE(step, ZeroBubble, PipelineScheduleName::kZeroBubble, 1, 3.0)->UseManualTime();

}  // namespace
}  // namespace trainyard::plan

BENCHMARK_MAIN();
