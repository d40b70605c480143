#include "tests/support/fake_kubelets.h"

#include <algorithm>
#include <utility>

#include "controller/cache/decode.h"
#include "crds/contract/names.h"

namespace trainyard::test {
namespace {

constexpr seconds kEvictedAfter{300};  // tolerationSeconds that admission gives a pod which says nothing else

decide::Resources requests_of(const Json& pod) {
  std::vector<contract::Problem> problems;
  return decide::pod_requests(pod.at("spec"), problems);
}

bool is_finished(const Json& pod) {
  const auto phase = pod.value("/status/phase"_json_pointer, "");
  return phase == "Succeeded" || phase == "Failed";
}

/// The node that a pod of binding Scheduler is pinned to; empty where it may go anywhere.
std::string pinned_node(const Json& pod) {
  const auto terms = pod.value(
      "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"_json_pointer, Json::array());
  for (const auto& term : terms) {
    for (const auto& field : term.value("matchFields", Json::array())) {
      if (field.value("key", "") == "metadata.name") return field.at("values").at(0);
    }
  }
  return "";
}

bool fits_into(const Json& node, const decide::Resources& all) {
  std::vector<contract::Problem> problems;
  const auto allocatable = decide::read_resources(node.at("status").at("allocatable"), "", problems);
  return std::all_of(all.entries().begin(), all.entries().end(),
                     [&](const auto& item) { return item.second <= allocatable[item.first]; });
}

bool tolerates_unreachable(const Json& pod) {
  const auto tolerations = pod.value("/spec/tolerations"_json_pointer, Json::array());
  return std::any_of(tolerations.begin(), tolerations.end(), [](const Json& toleration) {
    return toleration.value("key", "") == "node.kubernetes.io/unreachable" && !toleration.contains("tolerationSeconds");
  });
}

std::vector<ObjectKey> claims_of(const Json& pod) {
  std::vector<ObjectKey> claims;
  for (const auto& volume : pod.value("/spec/volumes"_json_pointer, Json::array())) {
    const auto name = volume.value("/persistentVolumeClaim/claimName"_json_pointer, "");
    if (!name.empty()) claims.push_back({pod["metadata"]["namespace"], name});
  }
  return claims;
}

Json container_state(const Json& pod, const char* state, Json what) {
  const Json& containers = pod.at("spec").at("containers");
  return Json::array({{{"name", containers[0].value("name", "worker")}, {"state", {{state, std::move(what)}}}}});
}

}  // namespace

FakeKubelets::FakeKubelets(VirtualTime& time, FakeKubeApi& api, FakeWorkers& workers, FakePrograms& programs)
    : time_(time), api_(api), workers_(workers), programs_(programs) {
  api_.on_change(kPodsPath, [this](const FakeKubeApi::Change& change) { changed(change); });
  workers_.exited = programs_.exited = [this](const std::string& uid, int code, const std::string& message) {
    container_exited(uid, code, message);
  };
}

void FakeKubelets::add_node(const std::string& name, Json allocatable, const Json& labels) {
  allocatable["pods"] = "110";
  api_.create(
      kNodes,
      {{"apiVersion", "v1"},
       {"kind", "Node"},
       {"metadata", {{"name", name}, {"labels", labels}}},
       {"spec", Json::object()},
       {"status",
        {{"allocatable", std::move(allocatable)},
         {"conditions", {{{"type", "Ready"}, {"status", "True"}, {"lastTransitionTime", contract::to_rfc3339(time_.now())}}}}}}});
}

void FakeKubelets::add_claim(const std::string& name, const std::string& storage_class) {
  api_.create(kClaims, {{"apiVersion", "v1"},
                        {"kind", "PersistentVolumeClaim"},
                        {"metadata", {{"name", name}, {"namespace", "default"}}},
                        {"spec", {{"storageClassName", storage_class}}},
                        {"status", {{"phase", "Pending"}}}});
}

void FakeKubelets::bind_claim(const ObjectKey& key) {
  api_.create(kVolumes, {{"apiVersion", "v1"}, {"kind", "PersistentVolume"}, {"metadata", {{"name", "volume-of-" + key.name}}}});
  api_.edit(kClaims, key, [&key](Json& claim) {
    claim["spec"]["volumeName"] = "volume-of-" + key.name;
    claim["status"]["phase"] = "Bound";
  });
}

/// kube-scheduler's part: whether all claims are bound, once those are that waited for this pod.
bool FakeKubelets::bind_claims(const Json& pod) {
  bool all = true;
  for (const auto& key : claims_of(pod)) {
    const Json* claim = api_.get(kClaims, key);
    const bool waits = claim != nullptr && claim->value("/spec/storageClassName"_json_pointer, "") == kWaitsForConsumer;
    if (waits) bind_claim(key);
    all = all && (waits || (claim != nullptr && claim->value("/status/phase"_json_pointer, "") == "Bound"));
  }
  return all;
}

void FakeKubelets::kill_container(const std::string& uid) {
  workers_.kill(uid);
  programs_.kill(uid);
}

void FakeKubelets::kill(const std::string& node) {
  if (!is_up(node)) return;
  dead_.insert(node);
  for (const auto& [uid, pod] : known_) {
    if (pod.node == node) kill_container(uid);
  }
  node_ready_after(node, false, time_.random_time(seconds(10), seconds(40)));
}

void FakeKubelets::cut_off(const std::string& node) {
  if (!is_up(node)) return;
  cut_off_.insert(node);
  workers_.cut_off(node);
  programs_.cut_off(node);
  node_ready_after(node, false, time_.random_time(seconds(10), seconds(40)));
}

void FakeKubelets::bring_back(const std::string& node) {
  const bool was_dead = dead_.erase(node) > 0;
  cut_off_.erase(node);
  workers_.join(node);
  programs_.join(node);
  node_ready_after(node, true, time_.random_time(milliseconds(500), seconds(5)));
  std::vector<std::pair<std::string, ObjectKey>> there;
  for (const auto& [uid, pod] : known_) {
    if (pod.node == node) there.emplace_back(uid, pod.key);
  }
  for (const auto& [uid, key] : there) {
    if (was_dead) container_exited(uid, 255, "");
    sync_soon(key, time_.random_time(milliseconds(100), seconds(1)));
  }
  for (const auto& pod : api_.list(kPodsPath)) {  // and those that were bound meanwhile
    if (pod->value("/spec/nodeName"_json_pointer, "") == node) sync_soon(cache::key_of(*pod), seconds(1));
  }
}

void FakeKubelets::node_ready_after(const std::string& node, bool ready, milliseconds delay) {
  time_.after(delay, [this, node, ready] {
    if (is_up(node) != ready) return;
    if (api_.is_away()) return node_ready_after(node, ready, seconds(1));
    api_.edit(kNodes, {"", node}, [&](Json& object) {
      Json& condition = object["status"]["conditions"][0];
      const char* status = ready ? "True" : "Unknown";
      if (condition["status"] == status) return;
      condition["status"] = status;
      condition["lastTransitionTime"] = contract::to_rfc3339(time_.now());
    });
    if (!ready) time_.after(kEvictedAfter, [this, node] { evict_from(node); });
  });
}

/// The node controller's part.
void FakeKubelets::evict_from(const std::string& node) {
  if (is_up(node)) return;
  for (const auto& pod : api_.list(kPodsPath)) {
    if (pod->value("/spec/nodeName"_json_pointer, "") == node && !tolerates_unreachable(*pod)) {
      api_.remove(kPodsPath, cache::key_of(*pod));
    }
  }
}

void FakeKubelets::changed(const FakeKubeApi::Change& change) {
  const ObjectKey key = cache::key_of(*change.object);
  if (change.type == kube::EventType::kDeleted) {
    const std::string uid = cache::uid_of(*change.object);
    if (known_.erase(uid) == 0) return;
    // Erased at once, over the kubelet's head: it kills what is left when it hears of it.
    time_.after(time_.random_time(milliseconds(5), milliseconds(100)), [this, uid] { kill_container(uid); });
    return;
  }
  sync_soon(key, time_.random_time(milliseconds(5), milliseconds(100)));
}

void FakeKubelets::sync_soon(const ObjectKey& key, milliseconds delay) {
  time_.after(delay, [this, key] { sync(key); });
}

void FakeKubelets::sync(const ObjectKey& key) {
  const Json* pod = api_.get(kPodsPath, key);
  if (pod == nullptr) return;
  if (api_.is_away()) return sync_soon(key, seconds(1));
  const std::string node = pod->value("/spec/nodeName"_json_pointer, "");
  if (node.empty()) return bind(key, *pod);
  if (!is_up(node)) return;  // bring_back() looks again
  if ((*pod)["metadata"].contains("deletionTimestamp")) return end(key, *pod);
  if (is_finished(*pod)) return;
  const std::string uid = cache::uid_of(*pod);
  if (!known_.contains(uid)) return admit(key, *pod);
  if (!known_[uid].starting) start(key, uid);
}

bool FakeKubelets::fits(const std::string& node, const decide::Resources& requests) const {
  const Json* object = api_.get(kNodes, {"", node});
  if (object == nullptr) return false;
  decide::Resources used = requests;
  for (const auto& [uid, pod] : known_) {
    const Json* other = api_.get(kPodsPath, pod.key);
    if (pod.node == node && other != nullptr && !is_finished(*other)) used += pod.requests;
  }
  return fits_into(*object, used);
}

/// kube-scheduler's choice for a pod that may go anywhere: the first node with room beside all that is bound there.
std::string FakeKubelets::chosen_node(const Json& pod) const {
  std::map<std::string, decide::Resources> used;
  for (const auto& other : api_.list(kPodsPath)) {
    if (!is_finished(*other)) used[other->value("/spec/nodeName"_json_pointer, "")] += requests_of(*other);
  }
  for (const auto& object : api_.list(kNodes)) {
    std::string name = cache::key_of(*object).name;
    decide::Resources all = used[name];
    all += requests_of(pod);
    if (object->value("/status/conditions/0/status"_json_pointer, "") == "True" && fits_into(*object, all)) return name;
  }
  return "";
}

void FakeKubelets::bind(const ObjectKey& key, const Json& pod) {
  std::string node = pinned_node(pod);
  if (node.empty()) node = chosen_node(pod);
  if (!node.empty() && is_up(node) && fits(node, requests_of(pod)) && bind_claims(pod)) {
    api_.edit(kPodsPath, key, [&](Json& object) {
      object["spec"]["nodeName"] = node;
      object["status"]["conditions"] = {
          {{"type", "PodScheduled"}, {"status", "True"}, {"lastTransitionTime", contract::to_rfc3339(time_.now())}}};
    });
    return;
  }
  api_.edit(kPodsPath, key, [](Json& object) {
    object["status"]["conditions"] = {
        {{"type", "PodScheduled"}, {"status", "False"}, {"reason", "Unschedulable"}, {"message", "0/1 nodes are available"}}};
  });
  sync_soon(key, seconds(2));
}

void FakeKubelets::admit(const ObjectKey& key, const Json& pod) {
  const std::string node = pod.at("spec").at("nodeName");
  const auto requests = requests_of(pod);
  if (reject_next > 0 || !fits(node, requests)) {
    reject_next = std::max(0, reject_next - 1);
    api_.edit(kPodsPath, key, [](Json& object) {
      object["status"] = {{"phase", "Failed"}, {"reason", "OutOfcpu"}, {"message", "Node didn't have enough resource: cpu"}};
    });
    return;
  }
  const std::string uid = cache::uid_of(pod);
  known_[uid] = {.key = key, .node = node, .requests = requests};
  start(key, uid);
}

bool FakeKubelets::can_mount(const Json& pod) const {
  const std::string ns = pod["metadata"]["namespace"];
  for (const auto& volume : pod.value("/spec/volumes"_json_pointer, Json::array())) {
    const auto secret = volume.value("/secret/secretName"_json_pointer, "");
    if (!secret.empty() && api_.get(kSecrets, {ns, secret}) == nullptr) return false;
  }
  const auto claims = claims_of(pod);
  return std::all_of(claims.begin(), claims.end(), [this](const ObjectKey& key) {
    const Json* claim = api_.get(kClaims, key);
    return claim != nullptr && claim->value("/status/phase"_json_pointer, "") == "Bound";
  });
}

void FakeKubelets::start(const ObjectKey& key, const std::string& uid) {
  Known& known = known_.at(uid);
  known.starting = true;
  time_.after(time_.random_time(start_low, start_high), [this, key, uid] {
    const auto found = known_.find(uid);
    const Json* pod = api_.get(kPodsPath, key);
    if (found == known_.end() || pod == nullptr || is_running(uid) || is_finished(*pod)) return;
    if ((*pod)["metadata"].contains("deletionTimestamp") || !is_up(found->second.node)) {
      found->second.starting = false;
      return sync_soon(key, milliseconds(100));
    }
    if (api_.is_away() || !can_mount(*pod)) return start(key, uid);
    if (const auto why = cannot_start ? cannot_start(*pod) : std::nullopt) {
      api_.edit(kPodsPath, key, [&](Json& object) {
        object["status"]["containerStatuses"] =
            container_state(object, "waiting", {{"reason", "ErrImagePull"}, {"message", *why}});
      });
      return start(key, uid);
    }
    const int number = ++next_address_;
    const std::string ip =
        "10." + std::to_string(number / 65536) + "." + std::to_string(number / 256 % 256) + "." + std::to_string(number % 256);
    std::string secret_key;
    for (const auto& volume : pod->value("/spec/volumes"_json_pointer, Json::array())) {
      const auto name = volume.value("/secret/secretName"_json_pointer, "");
      const Json* secret = name.empty() ? nullptr : api_.get(kSecrets, {key.ns, name});
      if (secret != nullptr) secret_key = secret->value("/stringData/key"_json_pointer, "");
    }
    const bool is_ours = pod->value("/metadata/labels"_json_pointer, Json::object()).contains(contract::kJobLabel);
    if (const auto program = is_ours ? FakePrograms::of_pod(*pod, found->second.node) : std::nullopt) {
      programs_.start(*program);
    } else if (is_ours) {
      workers_.start({.pod_uid = uid,
                      .node = found->second.node,
                      .address = ip + ":" + std::to_string(contract::kAgentPort),
                      .key = secret_key});
    }
    api_.edit(kPodsPath, key, [&](Json& object) {
      object["status"]["phase"] = "Running";
      object["status"]["podIP"] = ip;
      object["status"]["containerStatuses"] = container_state(object, "running", Json::object());
    });
  });
}

void FakeKubelets::end(const ObjectKey& key, const Json& pod) {
  const std::string uid = cache::uid_of(pod);
  const auto found = known_.find(uid);
  if (found == known_.end() || !is_running(uid)) {
    known_.erase(uid);
    api_.erase(kPodsPath, key);
    return;
  }
  if (std::exchange(found->second.terminating, true)) return;
  if (programs_.is_running(uid)) {
    programs_.terminate(uid);
  } else {
    workers_.terminate(uid);
  }
  const auto at = contract::parse_rfc3339(pod["metadata"]["deletionTimestamp"].get<std::string>());
  time_.after(std::max(std::chrono::microseconds(1), *at - time_.now()), [this, uid] {
    if (!is_running(uid)) return;
    kill_container(uid);
    container_exited(uid, 137, "");
  });
}

void FakeKubelets::container_exited(const std::string& uid, int code, const std::string& message) {
  const auto found = known_.find(uid);
  if (found == known_.end()) return;
  const ObjectKey key = found->second.key;
  if (api_.is_away() || !is_up(found->second.node)) {
    time_.after(seconds(1), [this, uid, code, message] { container_exited(uid, code, message); });
    return;
  }
  const Json* pod = api_.get(kPodsPath, key);
  if (pod == nullptr || cache::uid_of(*pod) != uid || is_finished(*pod)) return;
  const bool dying = (*pod)["metadata"].contains("deletionTimestamp");
  api_.edit(kPodsPath, key, [&](Json& object) {
    object["status"]["phase"] = code == 0 ? "Succeeded" : "Failed";
    object["status"]["containerStatuses"] = container_state(object, "terminated",
                                                            {{"exitCode", code},
                                                             {"reason", code == 0 ? "Completed" : "Error"},
                                                             {"finishedAt", contract::to_rfc3339(time_.now())},
                                                             {"message", message}});
  });
  if (dying) sync_soon(key, time_.random_time(milliseconds(10), milliseconds(300)));
}

}  // namespace trainyard::test
