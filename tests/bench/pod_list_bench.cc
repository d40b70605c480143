// A list of all pods of a cluster, as a controller reads it when it starts: how much decoding adds to parsing the server's JSON, and how
// much memory the list takes until then.

#include <malloc.h>
#include <string>

#include <benchmark/benchmark.h>

#include "controller/cache/cache.h"
#include "controller/cache/decode.h"
#include "crds/contract/names.h"

namespace trainyard::cache {
namespace {

using contract::Json;

/// A pod as an API server of today answers it, with what deciding has no use for: managed fields, tolerations, conditions.
Json pod(int number) {
  const std::string name = "job-" + std::to_string(number / 8) + "-" + std::to_string(number % 8) + "-1";
  Json container = {{"name", "worker"},
                    {"image", "registry.example.com/trainyard/worker:v0.1.0"},
                    {"command", {"trainyard-worker", "agent"}},
                    {"resources", {{"requests", {{"cpu", "8"}, {"memory", "64Gi"}, {"nvidia.com/gpu", "8"}}}}}};
  for (int i = 0; i < 12; ++i) {
    container["env"].push_back({{"name", "VARIABLE_" + std::to_string(i)}, {"value", std::string(40, 'v')}});
    container["volumeMounts"].push_back(
        {{"name", "volume-" + std::to_string(i)}, {"mountPath", "/volumes/" + std::to_string(i)}});
  }
  Json managed = Json::object();
  for (int i = 0; i < 60; ++i) managed["f:field-" + std::to_string(i)] = Json::object();
  Json conditions = Json::array();
  for (const char* type : {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}) {
    conditions.push_back(
        {{"type", type}, {"status", "True"}, {"lastTransitionTime", "2026-01-01T00:00:00Z"}, {"lastProbeTime", nullptr}});
  }
  Json metadata = {{"name", name},
                   {"namespace", "default"},
                   {"uid", "8c3f2a10-0000-4000-8000-" + std::to_string(100'000'000'000 + number)},
                   {"resourceVersion", std::to_string(1'000 + number)},
                   {"creationTimestamp", "2026-01-01T00:00:00Z"},
                   {"labels",
                    {{contract::kJobLabel, "job-" + std::to_string(number / 8)},
                     {contract::kWorkerLabel, std::to_string(number % 8)},
                     {contract::kGenerationLabel, "1"}}},
                   {"ownerReferences",
                    {{{"apiVersion", contract::kApiVersion},
                      {"kind", contract::kKind},
                      {"name", "job"},
                      {"uid", "job-uid"},
                      {"controller", true}}}},
                   {"managedFields", {{{"manager", "trainyard-controller"}, {"fieldsV1", managed}}}}};
  const Json running = {{"running", {{"startedAt", "2026-01-01T00:00:00Z"}}}};
  Json out;
  out["metadata"] = std::move(metadata);
  out["spec"] = {{"nodeName", "node-" + std::to_string(number)}, {"containers", Json::array({container})}};
  out["status"] = {{"phase", "Running"}, {"podIP", "10.0.0.1"}, {"conditions", conditions}};
  out["status"]["containerStatuses"] = Json::array({{{"name", "worker"}, {"state", running}}});
  return out;
}

std::string list_of(int pods) {
  Json items = Json::array();
  for (int i = 0; i < pods; ++i) items.push_back(pod(i));
  return Json{{"kind", "PodList"}, {"metadata", {{"resourceVersion", "900000"}}}, {"items", items}}.dump();
}

void tell(benchmark::State& state, const std::string& text) {
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void parse(benchmark::State& state) {
  const std::string text = list_of(static_cast<int>(state.range(0)));
  for (auto unused : state) {
    (void)unused;
    benchmark::DoNotOptimize(Json::parse(text));
  }
  tell(state, text);
}

void parse_and_decode(benchmark::State& state) {
  const std::string text = list_of(static_cast<int>(state.range(0)));
  for (auto unused : state) {
    (void)unused;
    Json list = Json::parse(text);
    kube::WatchBatch batch{
        .target = static_cast<std::size_t>(Watched::kPods), .relisted = true, .events = {}, .resource_version = "900000"};
    for (auto& item : list["items"]) {
      shrink_pod(item);
      batch.events.push_back({kube::EventType::kAdded, std::move(item)});
    }
    Cache cache{decide::Settings{}};
    cache.apply(batch, {});
    if (cache.cluster().pods().size() != static_cast<std::size_t>(state.range(0))) return state.SkipWithError("pods are missing");
  }
  tell(state, text);
}

/// What a list that waits to be decoded takes up in memory: whole, and as it is held (see kube::list_all).
void hold(benchmark::State& state) {
  const std::string text = list_of(1'000);
  double bytes = 0;
  for (auto unused : state) {
    (void)unused;
    const auto before = ::mallinfo2().uordblks;
    Json list = Json::parse(text);
    if (state.range(0) == 1) {
      for (Json& item : list["items"]) shrink_pod(item);
    }
    bytes = static_cast<double>(::mallinfo2().uordblks - before) / 1'000;
  }
  state.counters["bytes_a_pod"] = bytes;
}

BENCHMARK(hold)->ArgName("shrunk")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);
BENCHMARK(parse)->Arg(500)->Arg(5'000)->Unit(benchmark::kMillisecond);
BENCHMARK(parse_and_decode)->Arg(500)->Arg(5'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace trainyard::cache

BENCHMARK_MAIN();
