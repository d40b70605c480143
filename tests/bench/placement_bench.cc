// How long the pure core takes to place a gang of 32 workers of 8 GPUs: the bar is 1 ms on 32 nodes, 5 ms on 512 and 50 ms on 12,500, for all
// of it (schedule_whole); and twice as many nodes take at most 2.2 times as long.

#include <benchmark/benchmark.h>

#include "controller/decide/conditions.h"
#include "controller/decide/no_room.h"
#include "controller/decide/plan.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/traffic.h"
#include "tests/support/world.h"

namespace trainyard {
namespace {

using decide::Gang;

decide::Cluster cluster_of(int nodes) {
  return test::ClusterBuilder{}.racks(nodes / 8).nodes_per_rack(8).racks_per_block(4).gpus_per_node(8).build();
}
Gang gang_of(int count) { return {.count = count, .requests = {{test::kGpu, 8}, {"cpu", 1000}, {"pods", 1}}, .groups = {4}}; }

/// Reads the cluster and places the gang.
void place(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), workers = static_cast<int>(state.range(1));
  const auto cluster = cluster_of(nodes);
  const Gang gang = gang_of(workers);
  for (auto unused : state) {
    (void)unused;
    const decide::Topology topology(cluster);
    auto found = decide::place_gang(topology, gang);
    if (!std::holds_alternative<decide::Placement>(found)) return state.SkipWithError("no room");
    benchmark::DoNotOptimize(found);
  }
  state.SetLabel(std::to_string(workers * 8) + " of " + std::to_string(nodes * 8) + " GPUs");
}
BENCHMARK(place)
    ->Args({32, 32})
    ->Args({128, 32})
    ->Args({512, 32})
    ->Args({6'256, 32})
    ->Args({12'504, 32})
    ->Args({12'504, 1'250})
    ->Args({12'504, 12'504})
    ->Unit(benchmark::kMicrosecond);

/// The nodes that were found, so that few bytes cross the racks: 32 workers of 8 GPUs, 4 stages, 8 replicas.
void refine(benchmark::State& state) {
  const auto cluster = cluster_of(static_cast<int>(state.range(0)));
  auto spec = test::make_job("a", 32, 8).spec;
  spec.parallelism.tensor = 8;
  spec.parallelism.pipeline = 4;
  spec.model.size = contract::ModelSize{
      .layers = 96, .hiddenSize = 8192, .heads = 64, .keyValueHeads = 8, .feedForwardSize = 28672, .vocabularySize = 128256};
  if (decide::links_of(spec).empty()) return state.SkipWithError("no links: is the spec valid?");
  const Gang gang = gang_of(32);
  const decide::Topology topology(cluster);
  const auto found = std::get<decide::Placement>(decide::place_gang(topology, gang)).nodes;
  for (auto unused : state) {
    (void)unused;
    benchmark::DoNotOptimize(decide::least_traffic(topology, gang, decide::links_of(spec), found));
  }
}
BENCHMARK(refine)->Arg(32)->Arg(512)->Arg(12'504)->Unit(benchmark::kMicrosecond);

/// All of schedule(): the pods' bodies included.
void schedule_whole(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), workers = static_cast<int>(state.range(1));
  test::World world(cluster_of(nodes));
  world.add(test::make_job("a", workers, 8));
  world.kubelets_work = false;
  for (int i = 0; i < 2; ++i) {  // the dry run, then Accepted
    for (const auto& phase : decide::plan_job(world.cluster, {"default", "a"}, test::at(0)).phases) {
      for (const auto& action : phase) {
        if (const auto* dry_run = std::get_if<decide::DryRunPod>(&action)) {
          world.cluster.put_template_check(dry_run->job_uid, dry_run->template_hash,
                                           {.accepted = true, .needs = decide::read_pod_needs(dry_run->body["spec"])});
        } else if (const auto* write = std::get_if<decide::WriteStatus>(&action)) {
          auto job = world.job();
          job.status = write->status;
          world.cluster.put(job);
        }
      }
    }
  }
  for (auto unused : state) {
    (void)unused;
    auto plans = decide::schedule(world.cluster, test::at(0));
    if (plans.empty()) return state.SkipWithError("nothing was placed");
    benchmark::DoNotOptimize(plans);
  }
  const char* bar = nodes <= 32 ? "1 ms" : nodes <= 512 ? "5 ms" : "50 ms";
  state.SetLabel(std::to_string(workers) + " workers on " + std::to_string(nodes) + " nodes (bar: " + bar + ")");
}
BENCHMARK(schedule_whole)
    ->Args({32, 32})
    ->Args({256, 32})
    ->Args({512, 32})
    ->Args({6'256, 32})
    ->Args({12'504, 32})
    ->Unit(benchmark::kMicrosecond);

/// Why a gang waits, in a cluster of 100,000 GPUs that 12,500 pods hold.
void explain_no_room(benchmark::State& state) {
  test::ClusterBuilder builder;
  builder.racks(1'563).nodes_per_rack(8).racks_per_block(4).gpus_per_node(8);
  for (int i = 0; i < 12'504; ++i) builder.use("node-" + std::to_string(i), 8, "job-" + std::to_string(i % 100));
  const auto cluster = builder.build();
  const Gang gang = gang_of(32);
  for (auto unused : state) {
    (void)unused;
    const decide::Topology topology(cluster);
    const auto none = std::get<decide::NoRoom>(decide::place_gang(topology, gang));
    auto why = decide::explain(cluster, topology, gang, none);
    benchmark::DoNotOptimize(why);
  }
}
BENCHMARK(explain_no_room)->Unit(benchmark::kMicrosecond);

/// One round of schedule() over 500 jobs that wait in a full cluster of 1,000 nodes. Who was told why a moment ago is told nothing new
/// before it is its turn, and the words need not be found.
void schedule_waiting(benchmark::State& state) {
  test::ClusterBuilder builder;
  builder.racks(125).nodes_per_rack(8).racks_per_block(5).gpus_per_node(8);
  for (int i = 0; i < 1'000; ++i) builder.use("node-" + std::to_string(i), 8, "job-" + std::to_string(i % 100));
  auto cluster = builder.build();
  for (int i = 0; i < 500; ++i) {
    auto job = test::make_job("waits-" + std::to_string(i), 1 + i % 32, 8);
    decide::set_condition(job.status, {decide::condition::kAccepted, true, "Accepted", ""}, 1, test::at(0));
    decide::set_condition(job.status, {decide::condition::kPlaced, false, decide::reason::kUnschedulable, ""}, 1, test::at(0));
    job.status_written = test::at(0);
    const auto pod = decide::worker_pod(job, cluster.settings, {.worker = 0, .generation = 1, .node = {}});
    cluster.put_template_check(job.uid, decide::template_hash(job.spec, cluster.settings),
                               {.accepted = true, .needs = decide::read_pod_needs(pod["spec"])});
    cluster.put(std::move(job));
  }
  const bool is_their_turn = state.range(0) != 0;
  for (auto unused : state) {
    (void)unused;
    auto plans = decide::schedule(cluster, test::at(is_their_turn ? 100 : 1));
    if (plans.size() != 500) return state.SkipWithError("not every job waits");
    benchmark::DoNotOptimize(plans);
  }
  state.SetLabel(is_their_turn ? "all are told why" : "all were told a second ago");
}
BENCHMARK(schedule_waiting)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace trainyard

BENCHMARK_MAIN();
