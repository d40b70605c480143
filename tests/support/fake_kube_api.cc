#include "tests/support/fake_kube_api.h"

#include <algorithm>
#include <sstream>
#include <string_view>
#include <utility>

#include "controller/cache/decode.h"
#include "controller/decide/json_lookup.h"
#include "crds/contract/queue.h"

namespace trainyard::test {
namespace {

using kube::EventType;
using kube::Method;
using kube::Request;
using kube::Response;

constexpr milliseconds kLatest{30'000};
constexpr milliseconds kCollectLow{20}, kCollectHigh{800};  // how long the garbage collector takes

Response failure(int status, std::string reason, std::string message) {
  return {.status = status, .body = Json(), .reason = std::move(reason), .message = std::move(message), .retry_after = {}};
}
Response answer(int status, Json body) {
  return {.status = status, .body = std::move(body), .reason = "", .message = "", .retry_after = {}};
}

Response not_found(const std::string& path) { return failure(404, "NotFound", path + " not found"); }

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 253 &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'; }) &&
         text.front() != '-' && text.back() != '-';
}

/// What the server says of lists of named objects that it can't decode; empty: nothing.
std::string malformed(const Json& parent, std::initializer_list<const char*> lists) {
  for (const char* list : lists) {
    const Json& items = decide::member(parent, list);
    const auto is_named = [](const Json& item) {
      const Json& name = decide::member(item, "name");
      return item.is_object() && (name.is_null() || name.is_string());
    };
    if (items.is_null() || (items.is_array() && std::all_of(items.begin(), items.end(), is_named))) continue;
    return std::string("Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal into Go struct field .") + list;
  }
  return "";
}

std::string malformed_pod(const Json& spec) {
  std::string why = malformed(spec, {"volumes", "initContainers", "containers", "tolerations"});
  for (const char* kind : {"initContainers", "containers"}) {
    const Json& containers = decide::member(spec, kind);
    for (std::size_t i = 0; why.empty() && i < containers.size(); ++i) {
      why = malformed(containers[i], {"env", "ports", "volumeMounts"});
    }
  }
  return why;
}

/// What the server would say of the object: empty where it is well formed.
std::string invalid(const std::string& collection, const Json& object) {
  const Json& metadata = decide::member(object, "metadata");
  const std::string name = decide::text_of(metadata, "name");
  if (!is_name(name)) return "metadata.name: Invalid value: " + name;
  if (collection == kPodsPath && decide::member(decide::member(object, "spec"), "containers").empty())
    return "spec.containers: Required value";
  if (collection == kEvents &&
      object.value("/involvedObject/namespace"_json_pointer, "") != decide::text_of(metadata, "namespace")) {
    return "involvedObject.namespace: does not match event.namespace";
  }
  return "";
}

/// The UID of the first one; empty: it has none.
std::string_view owner_of(const Json& object) {
  const Json& owners = decide::member(decide::member(object, "metadata"), "ownerReferences");
  if (!owners.is_array() || owners.empty()) return "";
  const Json& uid = decide::member(owners.front(), "uid");
  return uid.is_string() ? std::string_view(uid.get_ref<const std::string&>()) : "";
}

bool has_same(const Json& a, const Json& b, const char* field) {
  const auto in_a = a.find(field), in_b = b.find(field);
  return in_a == a.end() || in_b == b.end() ? in_a == a.end() && in_b == b.end() : *in_a == *in_b;
}

template <class Status>
std::string status_problems(const Json& status) {
  return contract::to_text(contract::decode<Status>(status, "status", contract::UnknownFields::kRefuse).problems);
}

}  // namespace

FakeKubeApi::Path FakeKubeApi::parse(const std::string& path) {
  std::vector<std::string> parts;
  std::istringstream stream(path.substr(1));
  for (std::string part; std::getline(stream, part, '/');) parts.push_back(part);
  std::size_t at = parts[0] == "api" ? 2 : 3;
  Path out;
  for (std::size_t i = 0; i < at; ++i) out.collection += "/" + parts[i];
  if (parts.size() > at + 1 && parts[at] == "namespaces") {
    out.ns = parts[at + 1];
    at += 2;
  }
  if (parts.size() > at) out.collection += "/" + parts[at];  // else it asks what kinds there are
  if (parts.size() > at + 1) out.name = parts[at + 1];
  if (parts.size() > at + 2) out.subresource = parts[at + 2];
  return out;
}

Response FakeKubeApi::perform(const Request& request) {
  ++num_requests;
  Fault fault = Fault::kNone;
  if (!next_faults_.empty()) {
    fault = next_faults_.front();
    next_faults_.pop_front();
  } else if (fault_of) {
    fault = fault_of(request);
  }
  if (is_away() || fault == Fault::kRefused) {
    Response response = failure(0, "", "connect to the API server: connection refused");
    response.not_sent = true;
    return response;
  }
  if (fault == Fault::kLost) return failure(0, "", "write the request: connection reset");
  if (fault == Fault::kConflict) return failure(409, "Conflict", "the object has been modified");
  if (fault == Fault::kForbidden) return failure(403, "Forbidden", "User \"trainyard\" cannot do that");
  if (fault == Fault::kBroken) return failure(500, "InternalError", "etcdserver: request timed out");
  if (fault == Fault::kTooMany) {
    Response response = failure(429, "TooManyRequests", "too many requests");
    response.retry_after = seconds(1);
    return response;
  }
  if (fault == Fault::kLate) {
    time_.after(time_.random_time(milliseconds(1), kLatest), [this, request] {
      if (!is_away()) carry_out(request);
    });
    return failure(0, "", "read the answer: timed out");
  }
  Response response = carry_out(request);
  if (fault == Fault::kAnswerLost) return failure(0, "", "read the answer: timed out");
  return response;
}

Response FakeKubeApi::carry_out(const Request& request) {
  Response response = dispatch(request);
  const bool wrote = request.method != Method::kGet && response.ok() && !request.query.contains("dryRun");
  if (wrote && written) written(request);
  return response;
}

Response FakeKubeApi::dispatch(const Request& request) {
  if (request.path == "/apis/scheduling.k8s.io/v1beta1") {
    if (!has_pod_groups) return not_found(request.path);
    return answer(200, {{"kind", "APIResourceList"}, {"resources", {{{"name", "workloads"}}, {{"name", "podgroups"}}}}});
  }
  const Path path = parse(request.path);
  if (!has_pod_groups && (path.collection == kWorkloads || path.collection == kPodGroups)) return not_found(request.path);
  switch (request.method) {
    case Method::kGet: {
      if (path.name.empty()) return list_page(path, request);
      const Json* object = get(path.collection, {path.ns, path.name});
      return object == nullptr ? not_found(request.path) : answer(200, *object);
    }
    case Method::kPost: return post(path, request);
    case Method::kPut: return put(path, request);
    case Method::kDelete: return destroy(path, request);
    case Method::kPatch: break;
  }
  return failure(405, "MethodNotAllowed", "the fake has no PATCH");
}

Response FakeKubeApi::list_page(const Path& path, const Request& request) const {
  const auto limit = request.query.contains("limit") ? std::stoul(request.query.at("limit")) : 0;
  std::size_t skip = request.query.contains("continue") ? std::stoul(request.query.at("continue")) : 0;
  Json items = Json::array();
  Json metadata = {{"resourceVersion", std::to_string(revision_)}};
  auto all = list(path.collection);
  if (!path.ns.empty()) std::erase_if(all, [&](const auto& object) { return cache::key_of(*object).ns != path.ns; });
  for (; skip < all.size(); ++skip) {
    if (limit != 0 && items.size() == limit) {
      metadata["continue"] = std::to_string(skip);
      break;
    }
    items.push_back(*all[skip]);
  }
  return answer(200, {{"kind", "List"}, {"metadata", metadata}, {"items", items}});
}

Response FakeKubeApi::post(const Path& path, const Request& request) {
  Json object = request.body;
  if (path.collection == kPodsPath) {
    if (const auto why = malformed_pod(decide::member(object, "spec")); !why.empty()) return failure(400, "BadRequest", why);
  }
  if (const auto why = invalid(path.collection, object); !why.empty()) return failure(422, "Invalid", why);
  if (path.collection == kPodsPath && refuse_pod) {
    if (const auto why = refuse_pod(object)) return failure(403, "Forbidden", *why);
  }
  if (path.collection == kPodsPath && admit_pod) admit_pod(object);
  object["metadata"]["namespace"] = path.ns;
  const ObjectKey key{path.ns, object["metadata"]["name"]};
  if (get(path.collection, key) != nullptr) {
    return failure(409, "AlreadyExists", path.collection + " \"" + key.name + "\" already exists");
  }
  if (request.query.contains("dryRun")) return answer(201, object);
  create(path.collection, std::move(object));
  return answer(201, *get(path.collection, key));
}

Response FakeKubeApi::put(const Path& path, const Request& request) {
  const ObjectKey key{path.ns, path.name};
  const Json* old = get(path.collection, key);
  if (old == nullptr) return not_found(request.path);
  const Json& metadata = request.body.at("metadata");
  if (metadata.contains("uid") && metadata["uid"] != (*old)["metadata"]["uid"]) {
    return failure(409, "Conflict", "Precondition failed: UID in precondition");
  }
  if (metadata.contains("resourceVersion") && metadata["resourceVersion"] != (*old)["metadata"]["resourceVersion"]) {
    return failure(409, "Conflict", "the object has been modified; please apply your changes to the latest version");
  }
  if (path.collection == kJobs || path.collection == kQueues) {
    if (path.subresource != "status") return failure(405, "MethodNotAllowed", "the controller may not write the spec");
    const Json& status = request.body.at("status");
    const auto why = path.collection == kJobs ? status_problems<contract::TrainingJobStatus>(status)
                                              : status_problems<contract::TrainingQueueStatus>(status);
    if (!why.empty()) return failure(422, "Invalid", why);
  }
  const char* part = path.subresource == "status" ? "status" : "spec";
  Json next = Json::object();
  for (const auto& item : old->items()) {
    if (item.key() != part) next[item.key()] = item.value();
  }
  next[part] = request.body.at(part);
  store(path.collection, std::move(next), EventType::kModified);
  return answer(200, *get(path.collection, key));
}

Response FakeKubeApi::destroy(const Path& path, const Request& request) {
  const ObjectKey key{path.ns, path.name};
  const Json* old = get(path.collection, key);
  if (old == nullptr) return not_found(request.path);
  const auto wanted = request.body.is_object() ? request.body.value("/preconditions/uid"_json_pointer, "") : "";
  if (!wanted.empty() && wanted != (*old)["metadata"]["uid"]) {
    return failure(409, "Conflict", "Precondition failed: UID in precondition: " + wanted + ", UID in object meta: another");
  }
  std::optional<std::int64_t> grace;
  if (request.body.is_object() && request.body.contains("gracePeriodSeconds")) grace = request.body["gracePeriodSeconds"];
  const Json before = *old;
  remove_with_grace(path.collection, key, grace);
  if (path.collection != kPodsPath) return answer(200, {{"kind", "Status"}, {"status", "Success"}});
  const Json* after = get(path.collection, key);
  return answer(200, after == nullptr ? before : *after);
}

bool FakeKubeApi::remove(const std::string& collection, const ObjectKey& key) { return remove_with_grace(collection, key, {}); }

bool FakeKubeApi::remove_with_grace(const std::string& collection, const ObjectKey& key, std::optional<std::int64_t> grace) {
  const Json* old = get(collection, key);
  if (old == nullptr) return false;
  const std::string phase = old->value("/status/phase"_json_pointer, "");
  const bool ends_slowly =
      collection == kPodsPath && old->contains("/spec/nodeName"_json_pointer) && phase != "Failed" && phase != "Succeeded";
  const std::int64_t wait = grace.value_or(old->value("/spec/terminationGracePeriodSeconds"_json_pointer, 30));
  if (!ends_slowly || wait == 0) return erase(collection, key);
  if (!(*old)["metadata"].contains("deletionTimestamp")) {
    edit(collection, key, [&](Json& pod) {
      pod["metadata"]["deletionTimestamp"] = contract::to_rfc3339(time_.now() + seconds(wait));
      pod["metadata"]["deletionGracePeriodSeconds"] = wait;
    });
  }
  return true;
}

bool FakeKubeApi::erase(const std::string& collection, const ObjectKey& key) {
  const Json* old = get(collection, key);
  if (old == nullptr) return false;
  const std::string uid = (*old)["metadata"]["uid"];
  store(collection, *old, EventType::kDeleted);
  collect_dependents(uid);
  return true;
}

void FakeKubeApi::collect_dependents(const std::string& uid) {
  for (const auto& [name, collection] : collections_) {
    for (const auto& [key, object] : collection.objects) {
      if (owner_of(*object) != uid) continue;
      time_.after(time_.random_time(kCollectLow, kCollectHigh),
                  [this, name = name, key = key, own = (*object)["metadata"]["uid"].get<std::string>()] {
                    const Json* found = get(name, key);
                    if (found != nullptr && (*found)["metadata"]["uid"] == own) remove(name, key);
                  });
    }
  }
}

bool FakeKubeApi::has_uid(const std::string& uid) const {
  for (const auto& [name, collection] : collections_) {
    for (const auto& [key, object] : collection.objects) {
      if ((*object)["metadata"]["uid"] == uid) return true;
    }
  }
  return false;
}

const Json* FakeKubeApi::get(const std::string& collection, const ObjectKey& key) const {
  const auto found = collections_.find(collection);
  if (found == collections_.end()) return nullptr;
  const auto object = found->second.objects.find(key);
  return object == found->second.objects.end() ? nullptr : object->second.get();
}

std::vector<std::shared_ptr<const Json>> FakeKubeApi::list(const std::string& collection) const {
  std::vector<std::shared_ptr<const Json>> out;
  const auto found = collections_.find(collection);
  if (found == collections_.end()) return out;
  for (const auto& [key, object] : found->second.objects) out.push_back(object);
  return out;
}

std::size_t FakeKubeApi::size(const std::string& collection) const {
  const auto found = collections_.find(collection);
  return found == collections_.end() ? 0 : found->second.objects.size();
}

void FakeKubeApi::complete(const std::string& collection, Json& object) {
  Json& metadata = object["metadata"];
  if (metadata.contains("generateName") && !metadata.contains("name")) {
    metadata["name"] = metadata["generateName"].get<std::string>() + std::to_string(++names_);
  }
  std::ostringstream uid;
  uid << std::hex << time_.random(0x10000000, 0xffffffff) << "-" << ++names_;
  metadata["uid"] = uid.str();
  metadata["creationTimestamp"] = contract::to_rfc3339(time_.now());
  metadata["generation"] = 1;
  if (collection == kPodsPath && !object.contains("status")) object["status"] = {{"phase", "Pending"}};
}

bool FakeKubeApi::create(const std::string& collection, Json object) {
  complete(collection, object);
  const ObjectKey key = cache::key_of(object);
  if (get(collection, key) != nullptr) return false;
  const std::string owner(owner_of(object));
  store(collection, std::move(object), EventType::kAdded);
  if (!owner.empty() && !has_uid(owner)) collect_dependents(owner);  // made for an owner that has gone meanwhile
  return true;
}

bool FakeKubeApi::edit(const std::string& collection, const ObjectKey& key, const std::function<void(Json&)>& change) {
  const Json* old = get(collection, key);
  if (old == nullptr) return false;
  Json next = *old;
  change(next);
  if (next == *old) return true;
  if (!has_same(next, *old, "spec")) {
    next["metadata"]["generation"] = next["metadata"]["generation"].get<std::int64_t>() + 1;
  }
  store(collection, std::move(next), EventType::kModified);
  return true;
}

void FakeKubeApi::store(const std::string& name, Json object, EventType type) {
  Collection& collection = collections_[name];
  object["metadata"]["resourceVersion"] = std::to_string(++revision_);
  const ObjectKey key = cache::key_of(object);
  const auto shared = std::make_shared<const Json>(std::move(object));
  if (type == EventType::kDeleted) {
    collection.objects.erase(key);
  } else {
    collection.objects[key] = shared;
  }
  const Change change{revision_, type, shared};
  collection.changes.push_back(change);
  if (collection.changes.size() > 2'000) collection.changes.pop_front();
  for (const auto& listener : collection.listeners) listener(change);
}

void FakeKubeApi::on_change(const std::string& collection, std::function<void(const Change&)> call) {
  collections_[collection].listeners.push_back(std::move(call));
}

void FakeKubeApi::outage(milliseconds time) { away_until_ = std::max(away_until_, time_.uptime() + time); }

FakeWatcher::FakeWatcher(VirtualTime& time, FakeKubeApi& api, std::vector<kube::WatchTarget> targets, kube::WatchSink sink)
    : time_(time), api_(api), sink_(std::move(sink)) {
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const auto path = FakeKubeApi::parse(targets[i].path);
    ears_.push_back({.collection = path.collection, .ns = path.ns, .by_page = targets[i].by_page});
    api_.on_change(path.collection, [this, i, alive = std::weak_ptr<bool>(alive_)](const FakeKubeApi::Change&) {
      if (!alive.expired()) wake(i);
    });
    wake(i);
  }
}

void FakeWatcher::relist(std::size_t target, milliseconds away) {
  Ear& ear = ears_[target];
  ear.listed = false;
  ear.posted = true;
  ++ear.lists;  // one that is being handed on has no end
  ear.is_handing_on = false;
  time_.after(away, [this, target, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    ears_[target].posted = false;
    wake(target);
  });
}

void FakeWatcher::wake(std::size_t target) {
  if (std::exchange(ears_[target].posted, true)) return;
  time_.after(time_.random_time(delay_.low, delay_.high), [this, target, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) deliver(target);
  });
}

void FakeWatcher::deliver(std::size_t target) {
  Ear& ear = ears_[target];
  if (ear.is_handing_on) return;  // nothing is told in the middle of a list; its end looks for what happened meanwhile
  ear.posted = false;
  if (api_.is_away()) {
    ear.listed = false;  // the stream broke; look again until the server is back
    ear.server_was_away = true;
    ear.posted = true;
    time_.after(time_.random_time(milliseconds(200), milliseconds(2'000)), [this, target, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) deliver(target);
    });
    return;
  }
  const auto& changes = api_.changes(ear.collection);
  const bool expired = !changes.empty() && changes.front().revision > ear.revision + 1 && changes.size() >= 2'000;
  kube::WatchBatch batch = ear.listed && !expired ? kube::WatchBatch{.target = target, .resource_version = ""} : whole(target);
  if (!batch.relisted) {
    auto at =
        std::upper_bound(changes.begin(), changes.end(), ear.revision,
                         [](std::int64_t revision, const FakeKubeApi::Change& change) { return revision < change.revision; });
    for (; at != changes.end(); ++at) {
      if (ear.ns.empty() || cache::key_of(*at->object).ns == ear.ns) batch.events.push_back({at->type, at->object});
    }
    if (batch.events.empty()) return;
    batch.resource_version = std::to_string(changes.back().revision);
  }
  if (batch.relisted) batch.server_was_away = std::exchange(ear.server_was_away, false);
  ear.revision = std::stoll(batch.resource_version);
  ear.listed = true;
  if (!batch.relisted || !ear.by_page) return sink_(std::move(batch));
  ear.posted = true;
  ear.is_handing_on = true;
  hand_on(target, std::move(batch), ++ear.lists);
}

void FakeWatcher::hand_on(std::size_t target, kube::WatchBatch rest, int list) {
  constexpr std::size_t kPage = 2;
  Ear& ear = ears_[target];
  if (ear.lists != list) return;
  if (rest.events.size() <= kPage) {
    ear.posted = false;
    ear.is_handing_on = false;
    sink_(std::move(rest));
    return wake(target);  // what happened meanwhile
  }
  kube::WatchBatch page = rest;
  page.has_more = true;
  page.earlier.clear();
  page.events.erase(page.events.begin() + kPage, page.events.end());
  rest.events.erase(rest.events.begin(), rest.events.begin() + kPage);
  rest.server_was_away = false;
  for (const auto& event : page.events) {
    const ObjectKey key = cache::key_of(*event.object);
    rest.earlier.push_back({key.ns, key.name, cache::uid_of(*event.object)});
  }
  sink_(std::move(page));
  time_.after(time_.random_time(delay_.low, delay_.high),
              [this, target, list, rest = std::move(rest), alive = std::weak_ptr<bool>(alive_)] {
                if (!alive.expired()) hand_on(target, rest, list);
              });
}

kube::WatchBatch FakeWatcher::whole(std::size_t target) {
  kube::WatchBatch batch{.target = target, .relisted = true, .events = {}, .resource_version = std::to_string(api_.revision())};
  const Ear& ear = ears_[target];
  for (const auto& object : api_.list(ear.collection)) {
    if (ear.ns.empty() || cache::key_of(*object).ns == ear.ns) batch.events.push_back({EventType::kAdded, object});
  }
  return batch;
}

}  // namespace trainyard::test
