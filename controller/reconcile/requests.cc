#include "controller/reconcile/requests.h"

#include <functional>
#include <map>
#include <utility>

#include "controller/decide/json_lookup.h"
#include "controller/decide/text_hash.h"
#include "crds/contract/names.h"
#include "crds/contract/shortened.h"
#include "crds/contract/signature.h"

namespace trainyard::reconcile {
namespace {

using contract::Json;
using decide::ObjectKey;
using kube::Method;
using kube::Request;

constexpr std::chrono::seconds kEventTimeout{10};  // nobody waits for an event
constexpr std::size_t kEventMessageBytes = 1'024;  // the API server refuses longer ones

/// Of what this program makes up itself: to look for unknown fields, as the server does unless told otherwise, means to decode it twice.
std::map<std::string, std::string> ours() {
  return {{"fieldManager", std::string(contract::kFieldManager)}, {"fieldValidation", "Ignore"}};
}

std::string pods_path(const std::string& ns) { return "/api/v1/namespaces/" + ns + "/pods"; }
std::string job_path(const ObjectKey& key) {
  return "/apis/" + std::string(contract::kApiVersion) + "/namespaces/" + key.ns + "/" + std::string(contract::kPlural) + "/" +
         key.name;
}

Json delete_options(const std::string& uid) {
  return {
      {"apiVersion", "v1"}, {"kind", "DeleteOptions"}, {"preconditions", {{"uid", uid}}}, {"propagationPolicy", "Background"}};
}

/// Of an object that goes when its job goes; only pods are waited for by a deletion in the foreground.
Json owned_metadata(const ObjectKey& key, const std::string& job_name, const std::string& job_uid) {
  const Json owner = {{"apiVersion", contract::kApiVersion},
                      {"kind", contract::kKind},
                      {"name", job_name},
                      {"uid", job_uid},
                      {"controller", true},
                      {"blockOwnerDeletion", false}};
  return {{"name", key.name},
          {"namespace", key.ns},
          {"labels", {{contract::kJobLabel, job_name}, {contract::kManagedByLabel, contract::kManagedByValue}}},
          {"ownerReferences", Json::array({owner})}};
}

constexpr const char* kGroups = "/apis/scheduling.k8s.io/v1beta1";
constexpr const char* kGroupTemplate = "workers";

/// What the template of a Workload and the PodGroup that is made from it have in common. A gang that loses a worker stops: who makes room by
/// ending one ends all.
Json group_spec(const decide::GangGroup& group) {
  Json out = {{"schedulingPolicy", {{"gang", {{"minCount", group.least}}}}}, {"disruptionMode", {{"all", Json::object()}}}};
  if (!group.priority_class.empty()) out["priorityClassName"] = group.priority_class;
  return out;
}

Request group_request(const char* resource, const char* kind, const decide::GangGroup& group, Json spec) {
  return {.method = Method::kPost,
          .path = "/apis/scheduling.k8s.io/v1beta1/namespaces/" + group.key.ns + "/" + resource,
          .query = ours(),
          .body = {{"apiVersion", "scheduling.k8s.io/v1beta1"},
                   {"kind", kind},
                   {"metadata", owned_metadata(group.key, group.job_name, group.job_uid)},
                   {"spec", std::move(spec)}}};
}

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

}  // namespace

Request request_for(const decide::WriteStatus& action) {
  Json metadata = {
      {"name", action.key.name}, {"namespace", action.key.ns}, {"uid", action.uid}, {"resourceVersion", action.resource_version}};
  return {.method = Method::kPut,
          .path = job_path(action.key) + "/status",
          .query = ours(),
          .body = {{"apiVersion", contract::kApiVersion},
                   {"kind", contract::kKind},
                   {"metadata", std::move(metadata)},
                   {"status", contract::encode(action.status)}}};
}

Request request_for(const decide::WriteQueueStatus& action) {
  return {.method = Method::kPut,
          .path = "/apis/" + std::string(contract::kApiVersion) + "/" + std::string(contract::kQueuePlural) + "/" + action.name +
                  "/status",
          .query = ours(),
          .body = {{"apiVersion", contract::kApiVersion},
                   {"kind", contract::kQueueKind},
                   {"metadata", {{"name", action.name}, {"uid", action.uid}, {"resourceVersion", action.resource_version}}},
                   {"status", contract::encode(action.status)}}};
}

Request request_for(const decide::CreatePod& action) {
  return {.method = Method::kPost, .path = pods_path(action.key.ns), .query = ours(), .body = action.body};
}

bool ReadAfter::is_due(const kube::Response& response) const {
  const bool is_unanswered = (response.status == 0 && !response.not_sent) || response.status >= 500;
  return response.status == 409 || (if_unanswered && is_unanswered);
}

std::optional<ReadAfter> read_after(const decide::Action& action) {
  ReadAfter out;
  if (const auto* pod = std::get_if<decide::CreatePod>(&action)) {
    out.request.path = pods_path(pod->key.ns) + "/" + pod->key.name;
    out.request.patient = false;  // it is looked for again
    out.if_unanswered = true;
  } else if (const auto* status = std::get_if<decide::WriteStatus>(&action)) {
    out.request.path = job_path(status->key);
  } else {
    return std::nullopt;
  }
  return out;
}

Request request_for(const decide::DeletePod& action) {
  Json options = delete_options(action.uid);
  if (action.grace_seconds) options["gracePeriodSeconds"] = *action.grace_seconds;
  return {.method = Method::kDelete, .path = pods_path(action.key.ns) + "/" + action.key.name, .body = std::move(options)};
}

Request request_for(const decide::CreateSecret& action, const Writer& writer) {
  return {.method = Method::kPost,
          .path = "/api/v1/namespaces/" + action.key.ns + "/secrets",
          .query = ours(),
          .body = {{"apiVersion", "v1"},
                   {"kind", "Secret"},
                   {"metadata", owned_metadata(action.key, action.job_name, action.job_uid)},
                   {"type", "Opaque"},
                   {"immutable", true},
                   {"stringData", {{"key", contract::job_key(writer.controller_key, action.job_uid)}}}}};
}

Request request_for(const decide::CreateService& action) {
  // Names are there before the pods are ready: to find each other is a part of getting ready.
  const Json spec = {
      {"clusterIP", "None"}, {"publishNotReadyAddresses", true}, {"selector", {{contract::kJobLabel, action.job_name}}}};
  return {.method = Method::kPost,
          .path = "/api/v1/namespaces/" + action.key.ns + "/services",
          .query = ours(),
          .body = {{"apiVersion", "v1"},
                   {"kind", "Service"},
                   {"metadata", owned_metadata(action.key, action.job_name, action.job_uid)},
                   {"spec", spec}}};
}

Request request_for(const decide::CreateWorkload& action) {
  Json templ = group_spec(action.group);
  templ["name"] = kGroupTemplate;
  const Json job = {{"apiGroup", "trainyard.dev"}, {"kind", contract::kKind}, {"name", action.group.job_name}};
  return group_request("workloads", "Workload", action.group,
                       {{"controllerRef", job}, {"podGroupTemplates", Json::array({templ})}});
}

Request request_for(const decide::CreatePodGroup& action) {
  Json spec = group_spec(action.group);
  spec["workloadRef"] = {{"workloadName", action.group.key.name}, {"templateName", kGroupTemplate}};
  return group_request("podgroups", "PodGroup", action.group, std::move(spec));
}

Request pod_groups_request() { return {.path = kGroups}; }

bool has_pod_groups(const kube::Response& response) {
  const Json& resources = decide::member(response.body, "resources");
  if (!response.ok() || !resources.is_array()) return false;
  const auto has = [&resources](const char* name) {
    return std::any_of(resources.begin(), resources.end(),
                       [name](const Json& item) { return decide::member(item, "name") == name; });
  };
  return has("workloads") && has("podgroups");
}

Request request_for(const decide::DryRunPod& action) {
  return {.method = Method::kPost,
          .path = pods_path(action.job.ns),
          .query = {{"dryRun", "All"}, {"fieldValidation", "Strict"}, {"fieldManager", std::string(contract::kFieldManager)}},
          .body = action.body};
}

Request request_for(const decide::Event& action, const Writer& writer, contract::Time now) {
  const std::string at = contract::to_rfc3339(now);
  return {.method = Method::kPost,
          .path = "/api/v1/namespaces/" + action.job.ns + "/events",
          .query = {{"fieldValidation", "Ignore"}},
          .body = {{"apiVersion", "v1"},
                   {"kind", "Event"},
                   {"metadata", {{"name", action.name}, {"namespace", action.job.ns}}},
                   {"involvedObject",
                    {{"apiVersion", contract::kApiVersion},
                     {"kind", contract::kKind},
                     {"namespace", action.job.ns},
                     {"name", action.job.name},
                     {"uid", action.job_uid}}},
                   {"type", action.type == decide::EventType::kWarning ? "Warning" : "Normal"},
                   {"reason", action.reason},
                   {"message", contract::shortened(action.message, kEventMessageBytes)},
                   {"source", {{"component", contract::kFieldManager}}},
                   {"reportingComponent", contract::kFieldManager},
                   {"reportingInstance", writer.instance},
                   {"firstTimestamp", at},
                   {"lastTimestamp", at},
                   {"count", 1}},
          .timeout = kEventTimeout,
          .patient = false};
}

Request request_for(const decide::DeleteJob& action) {
  return {.method = Method::kDelete, .path = job_path(action.key), .body = delete_options(action.uid)};
}

Request request_for(const decide::Action& action, const Writer& writer, contract::Time now) {
  return std::visit(Overloaded{[&](const decide::CreateSecret& secret) { return request_for(secret, writer); },
                               [&](const decide::Event& event) { return request_for(event, writer, now); },
                               [](const auto& other) { return request_for(other); }},
                    action);
}

std::string to_text(const decide::Action& action) {
  using decide::to_text;
  return std::visit(Overloaded{[](const decide::WriteStatus& a) { return "write status of " + to_text(a.key); },
                               [](const decide::CreatePod& a) { return "create pod " + to_text(a.key); },
                               [](const decide::DeletePod& a) { return "delete pod " + to_text(a.key); },
                               [](const decide::CreateSecret& a) { return "create secret " + to_text(a.key); },
                               [](const decide::CreateService& a) { return "create service " + to_text(a.key); },
                               [](const decide::CreateWorkload& a) { return "create Workload " + to_text(a.group.key); },
                               [](const decide::CreatePodGroup& a) { return "create PodGroup " + to_text(a.group.key); },
                               [](const decide::DryRunPod& a) { return "dry run of a pod of " + to_text(a.job); },
                               [](const decide::Event& a) { return "create event " + a.reason + " of " + to_text(a.job); },
                               [](const decide::DeleteJob& a) { return "delete TrainingJob " + to_text(a.key); },
                               [](const decide::WriteQueueStatus& a) { return "write status of TrainingQueue " + a.name; }},
                    action);
}

std::string_view kind_of(const decide::Action& action) {
  static constexpr auto kNames = std::to_array<std::string_view>(
      {"write_status", "create_pod", "delete_pod", "create_secret", "create_service", "create_workload", "create_pod_group",
       "dry_run_pod", "create_event", "delete_job", "write_queue_status"});
  static_assert(kNames.size() == std::variant_size_v<decide::Action>);
  return kNames[action.index()];
}

decide::Event refusal_event(const ObjectKey& job, const std::string& job_uid, const std::string& message) {
  return {.job = job,
          .job_uid = job_uid,
          .type = decide::EventType::kWarning,
          .reason = "Refused",
          .message = message,
          .name = job.name + "." + decide::text_hash(job_uid + "/" + message)};
}

decide::Event bug_event(const ObjectKey& job, const std::string& job_uid, const std::string& what) {
  decide::Event out = refusal_event(job, job_uid,
                                    "the controller can't decide on this job, which is a bug of the controller: " + what +
                                        "; please report it, with what /debug/snapshot says (docs/operating.md)");
  out.reason = "InternalError";
  return out;
}

bool is_quota(const kube::Response& response) {
  return response.status == 403 && response.message.find("exceeded quota: ") != std::string::npos;
}

Result result_of(const decide::Action& action, const kube::Response& response) {
  if (response.ok()) return Result::kDone;
  if (response.is_temporary()) return Result::kTemporary;
  const bool deletes = std::holds_alternative<decide::DeletePod>(action) || std::holds_alternative<decide::DeleteJob>(action);
  if (deletes) {
    if (response.is_not_found()) return Result::kDone;
    // Another object has the name: the one that was meant is gone.
    if (response.is_conflict() && response.message.find("Precondition failed: UID") != std::string::npos) return Result::kDone;
  }
  if (response.is_already_exists()) {
    // Whose pod it is, Performer looks; a dry run came past every check before it met the name.
    return std::holds_alternative<decide::CreatePod>(action) ? Result::kConflict : Result::kDone;
  }
  if (response.status == 409) return Result::kConflict;
  if (response.is_not_found()) {
    // The job or the namespace is going away; a watch tells so soon.
    return Result::kConflict;
  }
  // A dry run asks about the pod. Another status tells of something else: a token that was not taken, a request that is too long.
  const bool is_verdict = response.status == 400 || response.status == 403 || response.status == 422;
  if (std::holds_alternative<decide::DryRunPod>(action) && is_verdict) return Result::kDone;
  return Result::kRefused;
}

}  // namespace trainyard::reconcile
