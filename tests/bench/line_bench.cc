// How long a look at the line takes: 10,000 jobs wait in a full cluster, without queues and in 100 of them. The bar is 100 ms for each, and
// growth no faster than linear in nodes and in jobs: doubled, of the one or the other, takes at most 2.2 times as long.

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include <benchmark/benchmark.h>

#include "controller/decide/conditions.h"
#include "controller/decide/plan.h"
#include "controller/decide/pod_template.h"
#include "tests/support/builders.h"

namespace trainyard {
namespace {

/// It was told so a moment ago.
void wait_for_room(decide::Cluster& cluster, decide::Job job, int number) {
  job.created = test::at(number % 1000);
  job.status_written = test::at(1000);
  decide::set_condition(job.status, {decide::condition::kAccepted, true, "Accepted", ""}, 1, test::at(0));
  decide::set_condition(job.status, {decide::condition::kPlaced, false, decide::reason::kUnschedulable, ""}, 1, test::at(0));
  const auto pod = decide::worker_pod(job, cluster.settings, {.worker = 0, .generation = 1, .node = {}});
  cluster.put_template_check(job.uid, decide::template_hash(job.spec, cluster.settings),
                             {.accepted = true, .needs = decide::read_pod_needs(pod.at("spec"))});
  cluster.put(std::move(job));
}

/// Every node is held by a gang of four; `jobs` wait, of one to four workers of 1 to 8 GPUs, and were told so a moment ago.
decide::Cluster full_cluster(int nodes, int jobs) {
  test::ClusterBuilder builder;
  builder.racks(nodes / 8).nodes_per_rack(8).racks_per_block(4).gpus_per_node(8);
  for (int i = 0; i < nodes; ++i) builder.use("node-" + std::to_string(i), 8, "runs-" + std::to_string(i / 4));
  decide::Cluster cluster = builder.build();
  for (int i = 0; i < nodes / 4; ++i) {
    decide::Job job = test::make_job("runs-" + std::to_string(i), 4, 8);
    decide::set_condition(job.status, {decide::condition::kPlaced, true, decide::reason::kGangPlaced, ""}, 1, test::at(0));
    decide::set_condition(job.status, {decide::condition::kRunning, true, "Running", ""}, 1, test::at(0));
    if (i % 2 == 0) {
      job.status.progress = contract::Progress{.remainingSeconds = 100 + i, .updatedAt = contract::to_rfc3339(test::at(0))};
    }
    cluster.put(std::move(job));
  }
  for (int i = 0; i < jobs; ++i) {
    wait_for_room(cluster, test::make_job("waits-" + std::to_string(i), 1 + i % 4, 1 << (i / 4 % 4)), i);
  }
  return cluster;
}

void look_at_the_line(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), jobs = static_cast<int>(state.range(1));
  const auto cluster = full_cluster(nodes, jobs);
  for (auto unused : state) {
    (void)unused;
    benchmark::DoNotOptimize(decide::schedule(cluster, test::at(1000)));
  }
  state.SetLabel(std::to_string(jobs) + " jobs wait, " + std::to_string(nodes) + " nodes (bar: 100 ms)");
}

/// Every node is free, and its GPUs too small for the ranks of any of the jobs; those of the one node with larger ones are taken.
decide::Cluster with_gpus_that_are_too_small(int nodes, int jobs) {
  test::ClusterBuilder builder;
  builder.racks(nodes / 8).nodes_per_rack(8).racks_per_block(4).gpus_per_node(8).gpu_model("NVIDIA-A100-40GB", 40'960);
  builder.change("node-0", [](decide::Node& node) { node.labels["nvidia.com/gpu.memory"] = "275040"; }).use("node-0", 8, "other");
  decide::Cluster cluster = builder.build();
  for (int i = 0; i < jobs; ++i) {
    decide::Job job = test::make_job("waits-" + std::to_string(i), 1, 8);
    job.spec.model.size = contract::ModelSize{
        .layers = 32, .hiddenSize = 4'096, .heads = 32, .keyValueHeads = 8, .feedForwardSize = 14'336, .vocabularySize = 128'256};
    job.spec.data.sequenceLength = 4'096;
    job.spec.parallelism.microBatchSize = 1;
    job.spec.training.globalBatchSize = 8;
    job.spec.training.seed = i;
    wait_for_room(cluster, std::move(job), i);
  }
  return cluster;
}

/// The same jobs in so many queues of ten organizations; those that run hold quota, and half of the queues have none left. Or of ten departments
/// of one, whose queues bring nothing: half of the jobs have a right to what their department brings.
decide::Cluster with_queues(decide::Cluster cluster, int queues, bool has_departments = false) {
  const auto put = [&cluster](const std::string& name, const std::string& parent, std::int64_t nominal) {
    const decide::Flavor flavor{.labels = {}, .resources = {{test::kGpu, {nominal, 8, std::nullopt}}}};
    cluster.put(decide::Queue{
        .name = name, .uid = name, .resource_version = "1", .generation = 1, .parent = parent, .flavors = {flavor}});
  };
  const auto all = cluster.jobs();
  if (has_departments) put("all", "", 8);
  const std::int64_t brings = 8 * static_cast<std::int64_t>(all.size()) / 20;
  for (int i = 0; i < 10; ++i) {
    has_departments ? put("org-" + std::to_string(i), "all", brings) : put("org-" + std::to_string(i), "", 8);
  }
  for (int i = 0; i < queues; ++i) {
    put("queue-" + std::to_string(i), "org-" + std::to_string(i % 10), has_departments ? 0 : 16 * (i % 2));
  }
  int number = 0;
  for (const auto& [key, job] : all) {
    decide::Job in_queue = job;
    in_queue.spec.queue = "queue-" + std::to_string(number++ % queues);
    if (decide::is_true(job.status, decide::condition::kPlaced)) {
      in_queue.status.generation = 1;
      in_queue.status.admission =
          contract::AdmissionStatus{.queue = *in_queue.spec.queue,
                                    .nodeLabels = {},
                                    .resources = {{test::kGpu, {std::to_string(8 * job.spec.workers.count)}}}};
    }
    cluster.put(std::move(in_queue));
  }
  return cluster;
}

void look_at_the_line_of_queues(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), jobs = static_cast<int>(state.range(1));
  const auto queues = static_cast<int>(state.range(2));
  const auto cluster = with_queues(full_cluster(nodes, jobs), queues);
  for (auto unused : state) {
    (void)unused;
    benchmark::DoNotOptimize(decide::schedule(cluster, test::at(1000)));
  }
  state.SetLabel(std::to_string(jobs) + " jobs wait in " + std::to_string(queues) + " queues, " + std::to_string(nodes) +
                 " nodes (bar: 100 ms)");
}

void look_at_the_line_of_departments(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), jobs = static_cast<int>(state.range(1));
  const auto queues = static_cast<int>(state.range(2));
  const auto cluster = with_queues(full_cluster(nodes, jobs), queues, true);
  for (auto unused : state) {
    (void)unused;
    benchmark::DoNotOptimize(decide::schedule(cluster, test::at(1000)));
  }
  state.SetLabel(std::to_string(jobs) + " jobs wait in " + std::to_string(queues) + " queues of 10 departments, " +
                 std::to_string(nodes) + " nodes (bar: 100 ms)");
}

bool makes_pods(const decide::Plan& plan) {
  for (const auto& phase : plan.phases) {
    for (const auto& action : phase) {
      if (std::holds_alternative<decide::CreatePod>(action)) return true;
    }
  }
  return false;
}

/// `first`: nothing is known of what the jobs need, as by a controller that begins to lead.
void look_where_free_gpus_are_too_small(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), jobs = static_cast<int>(state.range(1));
  const bool first = state.range(2) == 1;
  const auto cluster = with_gpus_that_are_too_small(nodes, jobs);
  for (auto unused : state) {
    (void)unused;
    if (first) {
      state.PauseTiming();
      for (const auto& [key, job] : cluster.jobs()) job.device_needs.forget();
      state.ResumeTiming();
    }
    const auto plans = decide::schedule(cluster, test::at(1000));
    if (std::any_of(plans.begin(), plans.end(), [](const auto& item) { return makes_pods(item.second); })) {
      state.SkipWithError("a job was placed: this measures nothing");
    }
    benchmark::DoNotOptimize(plans);
  }
  state.SetLabel(std::to_string(jobs) + " jobs wait for larger GPUs than those of " + std::to_string(nodes) + " free nodes, " +
                 (first ? "the first look" : "again") + " (bar: 100 ms)");
}
BENCHMARK(look_where_free_gpus_are_too_small)
    ->Args({32, 10'000, 1})
    ->Args({1'256, 10'000, 1})
    ->Args({12'504, 1'000, 1})
    ->Args({12'504, 10'000, 1})
    ->Args({12'504, 10'000, 0})
    ->Unit(benchmark::kMillisecond);

/// The best of a look's times in two clusters, taken in turns, and their ratio.
void compare(benchmark::State& state, const decide::Cluster& one, const decide::Cluster& doubled) {
  using Seconds = std::chrono::duration<double>;
  const auto look = [](const decide::Cluster& cluster) {
    const auto begun = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(decide::schedule(cluster, test::at(1000)));
    return Seconds(std::chrono::steady_clock::now() - begun).count();
  };
  double least = 1e9, least_doubled = 1e9;
  for (auto unused : state) {
    (void)unused;
    least = std::min(least, look(one));
    least_doubled = std::min(least_doubled, look(doubled));
  }
  state.counters["one_ms"] = least * 1e3;
  state.counters["doubled_ms"] = least_doubled * 1e3;
  state.counters["ratio"] = least_doubled / least;
}
void nodes_doubled(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), jobs = static_cast<int>(state.range(1));
  compare(state, full_cluster(nodes, jobs), full_cluster(2 * nodes, jobs));
  state.SetLabel(std::to_string(jobs) + " jobs wait, " + std::to_string(nodes) + " nodes doubled (bar: ratio 2.2)");
}
void jobs_doubled(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), jobs = static_cast<int>(state.range(1));
  compare(state, full_cluster(nodes, jobs), full_cluster(nodes, 2 * jobs));
  state.SetLabel(std::to_string(jobs) + " jobs that wait doubled, " + std::to_string(nodes) + " nodes (bar: ratio 2.2)");
}
void jobs_in_queues_doubled(benchmark::State& state) {
  const auto nodes = static_cast<int>(state.range(0)), jobs = static_cast<int>(state.range(1));
  compare(state, with_queues(full_cluster(nodes, jobs), 100), with_queues(full_cluster(nodes, 2 * jobs), 100));
  state.SetLabel(std::to_string(jobs) + " jobs that wait in 100 queues doubled, " + std::to_string(nodes) +
                 " nodes (bar: ratio 2.2)");
}
constexpr int kLooks = 10;
BENCHMARK(nodes_doubled)
    ->Args({1'256, 100})
    ->Args({6'256, 100})
    ->Args({6'256, 10'000})
    ->Iterations(kLooks)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(jobs_doubled)->Args({1'256, 5'000})->Args({1'256, 10'000})->Iterations(kLooks)->Unit(benchmark::kMillisecond);
BENCHMARK(jobs_in_queues_doubled)->Args({1'256, 5'000})->Args({1'256, 10'000})->Iterations(kLooks)->Unit(benchmark::kMillisecond);

BENCHMARK(look_at_the_line_of_queues)
    ->Args({32, 10'000, 100})
    ->Args({1'256, 10'000, 100})
    ->Args({12'504, 10'000, 100})
    ->Unit(benchmark::kMillisecond);

BENCHMARK(look_at_the_line_of_departments)->Args({32, 10'000, 100})->Args({1'256, 10'000, 1'000})->Unit(benchmark::kMillisecond);

BENCHMARK(look_at_the_line)
    ->Args({32, 10})
    ->Args({32, 1'000})
    ->Args({32, 10'000})
    ->Args({512, 10'000})
    ->Args({1'256, 10'000})
    ->Args({12'504, 100})
    ->Args({12'504, 10'000})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace trainyard

BENCHMARK_MAIN();
