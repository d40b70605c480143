// Objects as the API server tells them, one a line, which may be of any version and any webhook's making: what is shrunk is read as it
// was whole, what pods take adds up, and whatever is believed then is decided on without harm.

#include <algorithm>
#include <array>
#include <set>

#include "controller/cache/cache.h"
#include "controller/cache/decode.h"
#include "controller/decide/decisions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/json_lookup.h"
#include "controller/decide/snapshot.h"
#include "crds/contract/parse_json.h"
#include "crds/contract/validate.h"
#include "tests/controller/cache/objects.h"
#include "tests/controller/decide/a_world.h"
#include "tests/fuzz/target.h"

using namespace trainyard;
using cache::Watched;
using contract::Json;
using fuzz::expect;

namespace {

constexpr std::array<const char*, cache::kNumWatched> kKinds{
    "TrainingJob", "Pod", "Node", "PersistentVolumeClaim", "PersistentVolume", "PriorityClass", "TrainingQueue", "Namespace"};

Json of_kind(Watched kind, Json object) {
  object["kind"] = kKinds[static_cast<std::size_t>(kind)];
  return object;
}

Json job(const decide::Job& made) {
  return of_kind(Watched::kJobs,
                 {{"metadata", {{"name", made.key.name}, {"namespace", "default"}, {"uid", made.uid}, {"generation", 1}}},
                  {"spec", contract::encode(made.spec)}});
}

std::vector<Json> objects() {
  Json running = job(test::make_job("a", 2, 8));
  running["metadata"]["uid"] = "job-uid";
  running["status"] = contract::encode(decide::a_running_world().status());
  Json custom = job(test::make_custom_job("c", 1));
  custom["spec"]["queue"] = "research";
  custom["spec"]["priorityClassName"] = "high";
  custom["spec"]["workers"]["template"]["spec"]["volumes"] = {{{"name", "v"}, {"persistentVolumeClaim", {{"claimName", "c"}}}}};
  Json pod = cache::pod_object("a-0-1", 5, "p1");
  pod["metadata"]["annotations"] = {{"example.com/a", "b"}, {contract::kTemplateHashAnnotation, "h"}};
  pod["spec"]["initContainers"] = {
      {{"name", "i"}, {"restartPolicy", "Always"}, {"resources", {{"limits", {{"memory", "1.5Gi"}}}}}}};
  pod["spec"]["overhead"] = {{"cpu", "250m"}};
  pod["spec"]["tolerations"] = {{{"key", "k"}, {"operator", "Exists"}, {"effect", "NoExecute"}}};
  pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] = {
      {{"matchFields", {{{"key", "metadata.name"}, {"operator", "In"}, {"values", {"n1"}}}}}}};
  pod["status"]["conditions"] = {{{"type", "PodScheduled"}, {"status", "True"}, {"lastTransitionTime", "2026-01-01T00:00:00Z"}}};
  pod["status"]["containerStatuses"] = {
      {{"name", "worker"},
       {"state",
        {{"terminated",
          {{"exitCode", 1}, {"reason", "Error"}, {"message", R"({"podUid":"p1","generation":1,"phase":"Failed"})"}}}}}}};
  Json foreign = pod;
  foreign["metadata"] = {{"name", "x"}, {"namespace", "other"}, {"uid", "p2"}};
  foreign["status"] = {{"phase", "Running"}, {"nominatedNodeName", "n2"}};
  Json node = cache::node_object("n1", 5);
  node["metadata"]["labels"] = {{"topology.test/rack", "r"}};
  node["metadata"]["annotations"] = {{"a", "b"}};
  node["spec"]["taints"] = {{{"key", "k"}, {"value", "v"}, {"effect", "NoSchedule"}}};
  node["status"]["allocatable"]["nvidia.com/gpu"] = "8";
  return {running,
          custom,
          of_kind(Watched::kPods, pod),
          of_kind(Watched::kPods, foreign),
          of_kind(Watched::kNodes, node),
          of_kind(Watched::kClaims, cache::claim_object("c", 5, "Bound")),
          of_kind(Watched::kVolumes, cache::volume_object("v", 5)),
          of_kind(Watched::kPriorityClasses, {{"metadata", {{"name", "high"}}}, {"value", 1000}, {"globalDefault", true}}),
          of_kind(Watched::kQueues, cache::queue_object("research", 5)),
          of_kind(Watched::kNamespaces, {{"metadata", {{"name", "default"}, {"labels", {{"team", "a"}}}}}})};
}

template <class Decode>
void check_shrunk(const Json& whole, void (*shrink)(Json&), const Decode& decode) {
  Json shrunk = whole;
  shrink(shrunk);
  expect(decode(shrunk) == decode(whole), "a shrunk object is read otherwise than the whole one");
}

void check_all(const Json& object) {
  check_shrunk(object, cache::shrink_pod, [](const Json& json) { return cache::decode_pod(json); });
  check_shrunk(object, cache::shrink_node, [](const Json& json) { return cache::decode_node(json, {"Ready", "XIDErrors"}); });
  check_shrunk(object, cache::shrink_volume, [](const Json& json) { return cache::decode_volume(json); });
  check_shrunk(object, cache::shrink_namespace, [](const Json& json) { return cache::decode_namespace(json); });
  check_shrunk(object, cache::drop_managed_fields, [](const Json& json) { return cache::decode_job(json); });
  check_shrunk(object, cache::drop_managed_fields, [](const Json& json) { return cache::decode_queue(json); });
  check_shrunk(object, cache::drop_managed_fields, [](const Json& json) { return cache::decode_claim(json); });
}

class Believer {
 public:
  Believer() {
    static const std::vector<Json> kObjects = objects();
    for (const auto& object : kObjects) tell(object);
    tell(of_kind(Watched::kNodes, cache::node_object("n2", 5)));
  }
  void tell(Json object) {
    const auto kind = std::find(kKinds.begin(), kKinds.end(), decide::text_of(object, "kind"));
    if (kind == kKinds.end()) return;
    ++revision_;
    if (object["metadata"].is_object()) object["metadata"]["resourceVersion"] = std::to_string(revision_);
    cache_.apply({.target = static_cast<std::size_t>(kind - kKinds.begin()),
                  .events = {{kube::EventType::kModified, std::move(object)}},
                  .resource_version = std::to_string(revision_)},
                 test::at(100));
    cache_.take_changes();
  }
  const decide::Cluster& cluster() const { return cache_.cluster(); }
  /// Of specs and statuses that no schema would let pass, and of gangs that take too long, nothing is decided here.
  bool can_decide() const {
    for (const auto& key : cluster().job_keys()) {
      const decide::Job& job = *cluster().job(key);
      if (!contract::validate(job.spec).empty() || job.spec.workers.count > 64 || decide::gang_size(job) > 64) return false;
    }
    return true;
  }

 private:
  static decide::Settings settings() {
    decide::Settings out;
    out.topology_levels = {{"rack", "topology.test/rack"}};
    out.default_image = "trainyard.test/worker:dev";
    return out;
  }
  cache::Cache cache_{settings()};
  std::int64_t revision_ = 10;
};

void check_sums(const decide::Cluster& cluster) {
  std::set<std::string> nodes;
  for (const auto& [key, pod] : cluster.pods()) nodes.insert(pod.node.empty() ? pod.nominated_node : pod.node);
  for (const auto& node : nodes) {
    decide::Resources sum;
    for (const auto* pod : cluster.pods_on(node)) sum += pod->requests;
    for (const auto& [name, amount] : sum.entries()) {
      expect(cluster.used_on(node)[name] == amount, "what pods take does not add up");
    }
  }
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  std::vector<std::string> out;
  std::string all;
  for (const auto& object : objects()) {
    out.push_back(object.dump());
    all += object.dump() + "\n";
  }
  out.push_back(std::move(all));
  return out;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  auto rest = fuzz::text_of(bytes, size);
  Believer believer;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const Json object = contract::parse_json(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!object.is_object()) continue;
    check_all(object);
    believer.tell(object);
  }
  check_sums(believer.cluster());
  if (!believer.can_decide()) return 0;
  const auto decisions = decide::decisions(believer.cluster(), test::at(200));
  expect(decide::hash_of(decide::decisions(believer.cluster(), test::at(200))) == decide::hash_of(decisions),
         "the same is decided on otherwise");
  return 0;
}
