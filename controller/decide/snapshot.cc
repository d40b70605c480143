#include "controller/decide/snapshot.h"

#include <concepts>
#include <functional>
#include <stdexcept>
#include <type_traits>

namespace trainyard::decide {
namespace {

using contract::Problem;

/// T itself, or T const: one list of fields writes and reads.
template <class Given, class T>
concept Is = std::same_as<std::remove_const_t<Given>, T>;

void fields(auto& visit, Is<Problem> auto& it) {
  visit("field", it.field);
  visit("message", it.message);
}
void fields(auto& visit, Is<Taint> auto& it) {
  visit("key", it.key);
  visit("value", it.value);
  visit("effect", it.effect);
}
void fields(auto& visit, Is<Node> auto& it) {
  visit("name", it.name);
  visit("labels", it.labels);
  visit("allocatable", it.allocatable);
  visit("taints", it.taints);
  visit("unschedulable", it.unschedulable);
  visit("ready", it.ready);
  visit("readySince", it.ready_since);
  visit("memoryPressure", it.memory_pressure);
  visit("trouble", it.trouble);
}
void fields(auto& visit, Is<WorkerPod> auto& it) {
  visit("job", it.job);
  visit("jobUid", it.job_uid);
  visit("worker", it.worker);
  visit("spare", it.spare);
  visit("generation", it.generation);
  visit("templateHash", it.template_hash);
  visit("ip", it.ip);
  visit("agentPort", it.agent_port);
  visit("startedAt", it.started_at);
  visit("containerRunning", it.container_running);
  visit("waitingReason", it.waiting_reason);
  visit("waitingMessage", it.waiting_message);
  visit("exitCode", it.exit_code);
  visit("exitReason", it.exit_reason);
  visit("memoryLimited", it.memory_limited);
  visit("exitedAt", it.exited_at);
  visit("lastWord", it.last_word);
  visit("exitMessage", it.exit_message);
  visit("reason", it.reason);
  visit("message", it.message);
  visit("unscheduledMessage", it.unscheduled_message);
  visit("scheduledAt", it.scheduled_at);
  visit("podGroup", it.pod_group);
  visit("tolerations", it.tolerations);
}
void fields(auto& visit, Is<Pod> auto& it) {
  visit("namespace", it.key.ns);
  visit("name", it.key.name);
  visit("uid", it.uid);
  visit("node", it.node);
  visit("nominatedNode", it.nominated_node);
  visit("phase", it.phase);
  visit("requests", it.requests);
  visit("created", it.created);
  visit("deletionTime", it.deletion_time);
  visit("worker", it.worker);
}
void fields(auto& visit, Is<Job> auto& it) {
  visit("namespace", it.key.ns);
  visit("name", it.key.name);
  visit("uid", it.uid);
  visit("resourceVersion", it.resource_version);
  visit("generation", it.generation);
  visit("created", it.created);
  visit("deleting", it.deleting);
  visit("traceparent", it.traceparent);
  visit("spec", it.spec);
  visit("status", it.status);
  visit("problems", it.problems);
  visit("statusWritten", it.status_written);
}
void fields(auto& visit, Is<AgentView> auto& it) {
  visit("state", it.state);
  visit("reachable", it.reachable);
  visit("since", it.since);
  visit("error", it.error);
  visit("otherKey", it.other_key);
  visit("eventsMade", it.events_made);
}
void fields(auto& visit, Is<Claim> auto& it) {
  visit("namespace", it.key.ns);
  visit("name", it.key.name);
  visit("phase", it.phase);
  visit("volume", it.volume);
  visit("deleting", it.deleting);
}
void fields(auto& visit, Is<Volume> auto& it) {
  visit("name", it.name);
  visit("requiredTerms", it.required_terms);
}
void fields(auto& visit, Is<PriorityClass> auto& it) {
  visit("name", it.name);
  visit("value", it.value);
  visit("isDefault", it.is_default);
  visit("preempts", it.preempts);
}
void fields(auto& visit, Is<QuotaLimits> auto& it) {
  visit("nominal", it.nominal);
  visit("borrowing", it.borrowing);
  visit("lending", it.lending);
}
void fields(auto& visit, Is<Flavor> auto& it) {
  visit("labels", it.labels);
  visit("resources", it.resources);
}
void fields(auto& visit, Is<Queue> auto& it) {
  visit("name", it.name);
  visit("uid", it.uid);
  visit("resourceVersion", it.resource_version);
  visit("generation", it.generation);
  visit("parent", it.parent);
  visit("weight", it.weight);
  visit("stop", it.stop);
  visit("namespaces", it.namespaces);
  visit("flavors", it.flavors);
  visit("status", it.status);
  visit("statusWritten", it.status_written);
}
void fields(auto& visit, Is<Namespace> auto& it) {
  visit("name", it.name);
  visit("labels", it.labels);
}
void fields(auto& visit, Is<Toleration> auto& it) {
  visit("key", it.key);
  visit("operator", it.op);
  visit("value", it.value);
  visit("effect", it.effect);
}
void fields(auto& visit, Is<DeviceNeed> auto& it) {
  visit("resource", it.resource);
  visit("bytes", it.bytes);
}
void fields(auto& visit, Is<NodeRules> auto& it) {
  visit("selector", it.selector);
  visit("requiredTerms", it.required_terms);
  visit("tolerations", it.tolerations);
  visit("volumeTerms", it.volume_terms);
  visit("device", it.device);
}
void fields(auto& visit, Is<PodNeeds> auto& it) {
  visit("requests", it.requests);
  visit("rules", it.rules);
  visit("claims", it.claims);
}
void fields(auto& visit, Is<TemplateCheck> auto& it) {
  visit("accepted", it.accepted);
  visit("overQuota", it.over_quota);
  visit("message", it.message);
  visit("needs", it.needs);
  visit("beyondDirect", it.beyond_direct);
  visit("at", it.at);
}
void fields(auto& visit, Is<Refusal> auto& it) {
  visit("generation", it.generation);
  visit("request", it.request);
  visit("message", it.message);
}
void fields(auto& visit, Is<TopologyLevel> auto& it) {
  visit("name", it.name);
  visit("label", it.label);
}
void fields(auto& visit, Is<Settings> auto& it) {
  visit("namespaces", it.namespaces);
  visit("seesCluster", it.sees_cluster);
  visit("podGroups", it.pod_groups);
  visit("topologyLevels", it.topology_levels);
  visit("defaultImage", it.default_image);
  visit("controllerNamespace", it.controller_namespace);
  visit("keyId", it.key_id);
  visit("statusInterval", it.status_interval);
  visit("statusWritesPerSecond", it.status_writes_per_second);
  visit("agentSilenceTold", it.agent_silence_told);
  visit("agentLost", it.agent_lost);
  visit("nodeLost", it.node_lost);
  visit("templateRetry", it.template_retry);
  visit("refusedWait", it.refused_wait);
  visit("secondaryWait", it.secondary_wait);
  visit("silenceTold", it.silence_told);
  visit("preemptedMinRun", it.preempted_min_run);
  visit("growAfter", it.grow_after);
  visit("sizeRetry", it.size_retry);
  visit("rejectingNodeAvoided", it.rejecting_node_avoided);
  visit("unhealthyConditions", it.unhealthy_conditions);
  visit("maintenanceTaints", it.maintenance_taints);
}

struct Nothing {
  void operator()(const char*, auto&) const {}
};
template <class T>
concept HasFields = requires(T& it, Nothing& visit) {
  fields(visit, it);
};

template <class T>
Json written(const T& value) {
  if constexpr (HasFields<T>) {
    Json out = Json::object();
    const auto visit = [&out](const char* name, const auto& field) {
      Json json = written(field);
      if (!json.is_null()) out[name] = std::move(json);
    };
    fields(visit, value);
    return out;
  } else if constexpr (std::same_as<T, Json>) {
    return value;
  } else if constexpr (std::same_as<T, Time>) {
    return value.time_since_epoch().count();  // microseconds since 1970
  } else if constexpr (std::same_as<T, std::chrono::seconds>) {
    return value.count();
  } else if constexpr (std::same_as<T, Resources>) {
    Json out = Json::object();
    for (const auto& [name, amount] : value.entries()) out[name] = amount;
    return out;
  } else if constexpr (contract::Optional<T>) {
    return value ? written(*value) : Json();
  } else if constexpr (contract::Vector<T>) {
    Json out = Json::array();
    for (const auto& item : value) out.push_back(written(item));
    return out;
  } else if constexpr (contract::StringMap<T>) {
    Json out = Json::object();
    for (const auto& [key, item] : value) out[key] = written(item);
    return out;
  } else {
    return contract::encode(value);
  }
}

template <class T>
void read_into(T& out, const Json& json, const std::string& path, std::vector<Problem>& problems) {
  if constexpr (HasFields<T>) {
    if (!json.is_object()) return contract::detail::wrong_type(path, "an object", json, problems);
    const auto visit = [&](const char* name, auto& field) {
      if (const auto found = json.find(name); found != json.end()) {
        read_into(field, *found, path + "." + name, problems);
      } else if (!contract::Optional<std::remove_cvref_t<decltype(field)>>) {
        problems.push_back({path + "." + name, "is not there; this snapshot is of another version"});
      }
    };
    fields(visit, out);
  } else if constexpr (std::same_as<T, Time>) {
    std::int64_t count = 0;
    contract::decode_into(count, json, path, contract::UnknownFields::kRefuse, problems);
    out = Time(std::chrono::microseconds(count));
  } else if constexpr (std::same_as<T, std::chrono::seconds>) {
    std::int64_t count = 0;
    contract::decode_into(count, json, path, contract::UnknownFields::kRefuse, problems);
    out = std::chrono::seconds(count);
  } else if constexpr (std::same_as<T, Resources>) {
    std::map<std::string, std::int64_t> amounts;
    contract::decode_into(amounts, json, path, contract::UnknownFields::kRefuse, problems);
    for (const auto& [name, amount] : amounts) out.set(name, amount);
  } else if constexpr (contract::Optional<T>) {
    read_into(out.emplace(), json, path, problems);
  } else if constexpr (contract::Vector<T>) {
    if (!json.is_array()) return contract::detail::wrong_type(path, "a list", json, problems);
    out.clear();
    for (std::size_t i = 0; i < json.size(); ++i) {
      read_into(out.emplace_back(), json[i], path + "[" + std::to_string(i) + "]", problems);
    }
  } else if constexpr (contract::StringMap<T>) {
    if (!json.is_object()) return contract::detail::wrong_type(path, "an object", json, problems);
    for (const auto& item : json.items()) read_into(out[item.key()], item.value(), path + "." + item.key(), problems);
  } else {
    contract::decode_into(out, json, path, contract::UnknownFields::kRefuse, problems);
  }
}

/// The objects of a map, in its order.
template <class Map>
Json values(const Map& map) {
  Json out = Json::array();
  for (const auto& [key, value] : map) out.push_back(written(value));
  return out;
}
template <class Map>
Json by_uid(const Map& map) {
  Json out = Json::object();
  for (const auto& [uid, value] : map) out[uid] = written(value);
  return out;
}

class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  template <class T>
  T get(const char* name) {
    T out{};
    const auto found = json_.find(name);
    if (found == json_.end()) {
      problems_.push_back({name, "is not there; this is no snapshot of this version"});
    } else {
      read_into(out, *found, name, problems_);
    }
    return out;
  }
  /// Calls `put(key, value)` for each entry of the object of that name.
  template <class T>
  void each(const char* name, const std::function<void(const std::string&, T)>& put) {
    const Json all = get<Json>(name);
    for (const auto& item : all.items()) {
      T out{};
      read_into(out, item.value(), std::string(name) + "." + item.key(), problems_);
      put(item.key(), std::move(out));
    }
  }
  void finish() const {
    if (!problems_.empty()) throw std::invalid_argument("read the snapshot:\n" + contract::to_text(problems_));
  }

 private:
  const Json& json_;
  std::vector<Problem> problems_;
};

}  // namespace

Json to_json(const Cluster& cluster, Time now) {
  Json jobs = Json::array();
  for (const auto& key : cluster.job_keys()) jobs.push_back(written(*cluster.job(key)));
  Json checks = Json::array();
  for (const auto& [key, check] : cluster.template_checks()) {
    checks.push_back({{"jobUid", key.first}, {"templateHash", key.second}, {"check", written(check)}});
  }
  return {{"now", written(now)},
          {"settings", written(cluster.settings)},
          {"nodes", values(cluster.nodes())},
          {"pods", values(cluster.pods())},
          {"jobs", std::move(jobs)},
          {"claims", values(cluster.claims())},
          {"volumes", values(cluster.volumes())},
          {"priorityClasses", values(cluster.priority_classes())},
          {"queues", values(cluster.queues())},
          {"namespaces", values(cluster.namespaces())},
          {"agents", by_uid(cluster.agents())},
          {"templateChecks", std::move(checks)},
          {"refusals", by_uid(cluster.refusals())}};
}

Snapshot read_snapshot(const Json& json) {
  if (!json.is_object()) throw std::invalid_argument("read the snapshot: it is no JSON object");
  Reader reader(json);
  Snapshot out{.cluster = {}, .now = reader.get<Time>("now")};
  Cluster& cluster = out.cluster;
  cluster.settings = reader.get<Settings>("settings");
  for (auto& node : reader.get<std::vector<Node>>("nodes")) cluster.put(std::move(node));
  for (auto& pod : reader.get<std::vector<Pod>>("pods")) cluster.put(std::move(pod));
  for (auto& job : reader.get<std::vector<Job>>("jobs")) cluster.put(std::move(job));
  for (auto& claim : reader.get<std::vector<Claim>>("claims")) cluster.put(std::move(claim));
  for (auto& volume : reader.get<std::vector<Volume>>("volumes")) cluster.put(std::move(volume));
  for (auto& one : reader.get<std::vector<PriorityClass>>("priorityClasses")) cluster.put(std::move(one));
  for (auto& queue : reader.get<std::vector<Queue>>("queues")) cluster.put(std::move(queue));
  for (auto& one : reader.get<std::vector<Namespace>>("namespaces")) cluster.put(std::move(one));
  reader.each<AgentView>("agents", [&](const std::string& uid, AgentView view) { cluster.put_agent(uid, std::move(view)); });
  reader.each<Refusal>("refusals",
                       [&](const std::string& uid, Refusal refusal) { cluster.put_refusal(uid, std::move(refusal)); });
  for (const auto& item : reader.get<std::vector<Json>>("templateChecks")) {
    Reader check(item);
    auto value = check.get<TemplateCheck>("check");
    cluster.put_template_check(check.get<std::string>("jobUid"), check.get<std::string>("templateHash"), std::move(value));
    check.finish();
  }
  reader.finish();
  return out;
}

}  // namespace trainyard::decide
