// What a TrainingJob takes of the controller's memory once it is known, resting or waiting, and what a page of a list of them takes until then.

#include <malloc.h>
#include <string>
#include <variant>

#include <benchmark/benchmark.h>

#include "controller/cache/cache.h"
#include "controller/decide/plan.h"
#include "controller/kube/listing.h"
#include "tests/support/builders.h"

namespace trainyard::cache {
namespace {

using contract::Json;

constexpr contract::Time kNow{std::chrono::hours(24 * 365 * 56)};

double bytes_in_use() {
  const auto info = ::mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

/// A job as users' jobs are written, without its status. No two have the same arguments, variables or paths.
Json job(int number, bool suspend) {
  contract::TrainingJobSpec spec = test::make_job("job").spec;
  const std::string name = "many-" + std::to_string(number);
  spec.suspend = suspend;
  spec.checkpoint = contract::Checkpoint{.path = "/checkpoints/" + name};
  Json container = {{"name", "worker"},
                    {"image", "registry.example.com/trainyard/worker:v0.1.0"},
                    {"args", {"--experiment", name}},
                    {"env", Json::array({{{"name", "EXPERIMENT"}, {"value", name}}})},
                    {"resources", {{"requests", {{"cpu", "8"}, {"memory", "64Gi"}}}}},
                    {"volumeMounts", Json::array({{{"name", "data"}, {"mountPath", "/data"}}})}};
  Json pod = {{"containers", Json::array({container})}};
  pod["volumes"] = Json::array({{{"name", "data"}, {"persistentVolumeClaim", {{"claimName", "data"}}}}});
  spec.workers.templ = {{"spec", pod}};
  const std::string id = std::to_string(100'000'000'000 + number);
  Json managed = Json::object();
  for (int i = 0; i < 40; ++i) managed["f:field-" + std::to_string(i)] = Json::object();
  return {{"metadata",
           {{"name", name},
            {"namespace", "default"},
            {"uid", "8c3f2a10-0000-4000-8000-" + id},
            {"resourceVersion", std::to_string(1'000 + number)},
            {"generation", 1},
            {"creationTimestamp", "2026-01-01T00:00:00Z"},
            {"managedFields", {{{"manager", "kubectl"}, {"fieldsV1", managed}}}}}},
          {"spec", contract::encode(spec)}};
}

kube::WatchBatch batch_of(std::vector<Json> items, bool has_more) {
  return kube::to_batch(static_cast<std::size_t>(Watched::kJobs),
                        {.items = std::move(items), .resource_version = "900000", .earlier = {}}, has_more);
}

/// What the controller writes of such a job that is suspended.
Json status() {
  Cache cache{decide::Settings{}};
  cache.apply(batch_of({job(0, true)}, false), kNow);
  const auto plan = decide::plan_job(cache.cluster(), {"default", "many-0"}, kNow);
  for (const auto& phase : plan.phases) {
    for (const auto& action : phase) {
      if (const auto* write = std::get_if<decide::WriteStatus>(&action)) return contract::encode(write->status);
    }
  }
  return Json::object();
}

std::vector<Json> page_of(int first, const Json& status, bool suspend) {
  std::vector<Json> items;
  for (int i = 0; i < static_cast<int>(kube::kPageLimit); ++i) {
    items.push_back(job(first + i, suspend));
    items.back()["status"] = status;
  }
  return items;
}

void keep(benchmark::State& state, bool suspend) {
  const auto jobs = static_cast<int>(state.range(0));
  const Json of_each = status();
  double bytes = 0;
  for (auto unused : state) {
    (void)unused;
    const double before = bytes_in_use();
    Cache cache{decide::Settings{}};
    for (int i = 0; i < jobs; i += static_cast<int>(kube::kPageLimit))
      cache.apply(batch_of(page_of(i, of_each, suspend), true), kNow);
    cache.take_changes();
    bytes = bytes_in_use() - before;
    const std::size_t known = suspend ? cache.cluster().packed_jobs().size() : cache.cluster().jobs().size();
    if (known != static_cast<std::size_t>(jobs)) return state.SkipWithError("jobs are missing");
  }
  state.counters["bytes_a_job"] = bytes / jobs;
  state.counters["of_the_struct"] = static_cast<double>(suspend ? sizeof(decide::PackedJob) : sizeof(decide::Job));
}
void keep_resting(benchmark::State& state) { keep(state, true); }
void keep_waiting(benchmark::State& state) { keep(state, false); }

/// What the brain does for whoever looks at a job that rests.
void unpack_and_pack(benchmark::State& state) {
  Cache cache{decide::Settings{}};
  cache.apply(batch_of(page_of(0, status(), true), false), kNow);
  for (auto unused : state) {
    (void)unused;
    benchmark::DoNotOptimize(cache.cluster().job({"default", "many-7"}));
    cache.take_changes();
  }
}

void hold_a_page(benchmark::State& state) {
  const Json of_each = status();
  double bytes = 0;
  for (auto unused : state) {
    (void)unused;
    const double before = bytes_in_use();
    const auto page = page_of(0, of_each, true);
    bytes = bytes_in_use() - before;
  }
  state.counters["bytes_a_job"] = bytes / static_cast<double>(kube::kPageLimit);
}

BENCHMARK(hold_a_page)->Unit(benchmark::kMillisecond);
BENCHMARK(unpack_and_pack)->Unit(benchmark::kMicrosecond);
BENCHMARK(keep_resting)->Arg(1'000)->Arg(50'000)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(keep_waiting)->Arg(1'000)->Arg(10'000)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace trainyard::cache

BENCHMARK_MAIN();
