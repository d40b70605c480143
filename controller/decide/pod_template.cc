#include "controller/decide/pod_template.h"

#include <algorithm>

#include "controller/decide/json_lookup.h"
#include "controller/decide/node_filter.h"
#include "controller/decide/quantity.h"
#include "controller/decide/text_hash.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

using contract::Problem;
using contract::TrainingJobSpec;

constexpr const char* kShmVolume = "trainyard-shm";
constexpr const char* kShmPath = "/dev/shm";
constexpr const char* kGraceVariable = "TRAINYARD_GRACE_SECONDS";  // the agent's --grace-seconds
constexpr std::int64_t kAgentEndsWithinSeconds = 10;               // after the checkpoint's grace, to write its last word
const std::string kTemplate = "spec.workers.template";

Json& object_at(Json& parent, const char* name) {
  Json& value = parent[name];
  if (!value.is_object()) value = Json::object();
  return value;
}
Json& list_at(Json& parent, const char* name) {
  Json& value = parent[name];
  if (!value.is_array()) value = Json::array();
  return value;
}
void set_if_silent(Json& object, const char* name, Json value) {
  if (member(object, name).is_null()) object[name] = std::move(value);
}
Json* find_by(Json& list, const char* field, std::string_view value) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const Json& item) { return member(item, field) == value; });
  return found == list.end() ? nullptr : &*found;
}
/// Adds the item, or puts it in the place of the one with the same `field`.
void put_by(Json& list, const char* field, Json item) {
  if (Json* old = find_by(list, field, item.at(field).get_ref<const std::string&>())) {
    *old = std::move(item);
  } else {
    list.push_back(std::move(item));
  }
}

/// The index of the container that trains: the one called worker, or the only one; -1 where it can't be told.
int training_container(const Json& containers) {
  if (!containers.is_array()) return -1;
  for (std::size_t i = 0; i < containers.size(); ++i) {
    if (member(containers[i], "name") == contract::kContainerName) return static_cast<int>(i);
  }
  return containers.size() == 1 ? 0 : -1;
}

void add_environment(Json& container, std::int64_t grace_seconds) {
  const auto from_pod = [](const char* name, const char* path) {
    return Json{{"name", name}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
  };
  Json& env = list_at(container, "env");
  put_by(env, "name", from_pod(contract::kPodIpVariable, "status.podIP"));
  put_by(env, "name", from_pod(contract::kPodUidVariable, "metadata.uid"));
  put_by(env, "name", from_pod(contract::kPodNameVariable, "metadata.name"));
  put_by(env, "name", from_pod(contract::kNodeNameVariable, "spec.nodeName"));
  put_by(env, "name", {{"name", kGraceVariable}, {"value", std::to_string(grace_seconds)}});
}

void add_gpus(Json& container, const contract::Workers& workers) {
  if (workers.gpusPerWorker == 0) return;
  Json& resources = object_at(container, "resources");
  const std::string amount = std::to_string(workers.gpusPerWorker);
  object_at(resources, "limits")[workers.gpuResourceName] = amount;
  object_at(resources, "requests")[workers.gpuResourceName] = amount;
}

/// The restricted profile of the Pod Security Standards, as far as the template says nothing else.
void add_restrictions(Json& pod_spec, Json& container) {
  Json& pod_context = object_at(pod_spec, "securityContext");
  set_if_silent(pod_context, "runAsNonRoot", true);
  set_if_silent(pod_context, "seccompProfile", {{"type", "RuntimeDefault"}});
  Json& context = object_at(container, "securityContext");
  if (member(context, "privileged") == true) return;
  set_if_silent(context, "allowPrivilegeEscalation", false);
  Json& capabilities = object_at(context, "capabilities");
  set_if_silent(capabilities, "drop", Json::array({"ALL"}));
}

void fill_container(Json& container, const Job& job, const Settings& settings) {
  set_if_silent(container, "name", contract::kContainerName);
  set_if_silent(container, "image", settings.default_image);
  if (member(container, "command").empty() && member(container, "args").empty()) {
    container["command"] = Json::array({"trainyard-worker", "agent"});
  }
  // The agent's last word is a file; the log's end would take its place where the container fails.
  container["terminationMessagePolicy"] = "File";
  put_by(list_at(container, "ports"), "name",
         {{"name", contract::kPortName}, {"containerPort", contract::kAgentPort}, {"protocol", "TCP"}});
  add_environment(container, job.spec.lifecycle.checkpointGraceSeconds);
  add_gpus(container, job.spec.workers);
  Json& mounts = list_at(container, "volumeMounts");
  const auto folder = contract::kKeyPath.substr(0, contract::kKeyPath.rfind('/'));
  put_by(mounts, "name", {{"name", contract::kKeyVolume}, {"mountPath", folder}, {"readOnly", true}});
  if (find_by(mounts, "mountPath", kShmPath) == nullptr) mounts.push_back({{"name", kShmVolume}, {"mountPath", kShmPath}});
}

void add_volumes(Json& pod_spec, const Job& job, const Settings& settings, const Json& container) {
  // Whoever the container runs as must be able to read the key, and only this container mounts it. An fsGroup would let a narrower
  // mode do, but would also change the group of every file on the job's own volumes.
  const bool has_group = member(member(pod_spec, "securityContext"), "fsGroup").is_number();
  const int mode = has_group ? 0440 : 0444;
  Json& volumes = list_at(pod_spec, "volumes");
  put_by(volumes, "name",
         {{"name", contract::kKeyVolume}, {"secret", {{"secretName", key_secret(job, settings).name}, {"defaultMode", mode}}}});
  const Json& mounts = member(container, "volumeMounts");
  const bool uses_shm =
      std::any_of(mounts.begin(), mounts.end(), [](const Json& mount) { return member(mount, "name") == kShmVolume; });
  if (uses_shm) put_by(volumes, "name", {{"name", kShmVolume}, {"emptyDir", {{"medium", "Memory"}}}});
}

/// The node controller would delete pods of a node that is away for five minutes; whether they are lost, only we decide.
void add_tolerations(Json& pod_spec) {
  Json& tolerations = list_at(pod_spec, "tolerations");
  for (const char* key : {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}) {
    if (find_by(tolerations, "key", key) == nullptr) {
      tolerations.push_back({{"key", key}, {"operator", "Exists"}, {"effect", "NoExecute"}});
    }
  }
}

void pin(Json& pod_spec, contract::Binding binding, const std::string& node) {
  if (binding == contract::Binding::kDirect) {
    pod_spec["nodeName"] = node;
    return;
  }
  Json& required =
      object_at(object_at(object_at(pod_spec, "affinity"), "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution");
  Json& terms = list_at(required, "nodeSelectorTerms");
  if (terms.empty()) terms.push_back(Json::object());
  const Json here{{"key", "metadata.name"}, {"operator", "In"}, {"values", Json::array({node})}};
  for (Json& term : terms) list_at(term, "matchFields").push_back(here);  // terms are alternatives: each needs it
}

Json metadata(const Job& job, const Json& own, const WorkerPlace& place, const std::string& hash) {
  Json out{{"name", contract::pod_name(job.key.name, place.worker, place.generation)}, {"namespace", job.key.ns}};
  for (const char* kind : {"labels", "annotations"}) {
    if (const Json& given = member(own, kind); given.is_object()) out[kind] = given;
  }
  Json& labels = object_at(out, "labels");
  labels[std::string(contract::kJobLabel)] = job.key.name;
  labels[std::string(contract::kWorkerLabel)] = std::to_string(place.worker);
  labels[std::string(contract::kGenerationLabel)] = std::to_string(place.generation);
  labels[std::string(contract::kManagedByLabel)] = contract::kManagedByValue;
  object_at(out, "annotations")[std::string(contract::kTemplateHashAnnotation)] = hash;
  out["ownerReferences"] = Json::array({{{"apiVersion", contract::kApiVersion},
                                         {"kind", contract::kKind},
                                         {"name", job.key.name},
                                         {"uid", job.uid},
                                         {"controller", true},
                                         {"blockOwnerDeletion", false}}});
  return out;
}

bool has_image(const Json& containers) {
  const int index = containers.is_array() ? training_container(containers) : -1;
  return index >= 0 && !member(containers[static_cast<std::size_t>(index)], "image").is_null();
}

void check_container(const Json& containers, std::vector<Problem>& problems) {
  const std::string at = kTemplate + ".spec.containers";
  if (!containers.is_null() && !containers.is_array()) problems.push_back({at, "must be a list"});
  if (containers.is_array() &&
      !std::all_of(containers.begin(), containers.end(), [](const Json& item) { return item.is_object(); })) {
    problems.push_back({at, "must be a list of objects"});
    return;
  }
  if (containers.is_array() && containers.size() > 1 && training_container(containers) < 0) {
    problems.push_back({at, "has several containers and none is called worker; name the one that trains worker"});
  }
}

void check_gpus(const Json& containers, const contract::Workers& workers, std::vector<Problem>& problems) {
  const int index = training_container(containers);
  if (index < 0) return;
  for (const char* list : {"requests", "limits"}) {
    const Json& found = member(member(member(containers[index], "resources"), list), workers.gpuResourceName.c_str());
    if (found.is_null()) continue;
    const auto amount = parse_quantity(workers.gpuResourceName, found.is_string() ? found.get<std::string>() : found.dump());
    if (amount == workers.gpusPerWorker) continue;
    problems.push_back(
        {kTemplate + ".spec.containers[" + std::to_string(index) + "].resources." + list + "." + workers.gpuResourceName,
         "is " + found.dump() + ", and spec.workers.gpusPerWorker is " + std::to_string(workers.gpusPerWorker) +
             "; leave it out here"});
  }
}

/// Fields that the controller sets, so that a value in the template would be a misunderstanding.
void check_owned_fields(const TrainingJobSpec& spec, const Json& pod_spec, std::vector<Problem>& problems) {
  if (const Json& policy = member(pod_spec, "restartPolicy"); !policy.is_null() && policy != "Never") {
    problems.push_back(
        {kTemplate + ".spec.restartPolicy", "must be Never or left out; spec.lifecycle.maxRestarts says how often to restart"});
  }
  if (!member(pod_spec, "nodeName").is_null()) {
    problems.push_back(
        {kTemplate + ".spec.nodeName", "must be left out, since the controller chooses the node; use nodeSelector"});
  }
  if (const Json& name = member(pod_spec, "priorityClassName");
      spec.priorityClassName && !name.is_null() && name != *spec.priorityClassName) {
    problems.push_back({kTemplate + ".spec.priorityClassName", "is " + name.dump() + ", and spec.priorityClassName is " +
                                                                   *spec.priorityClassName + "; leave it out here"});
  }
  if (const Json& token = member(pod_spec, "automountServiceAccountToken"); token == true) {
    problems.push_back({kTemplate + ".spec.automountServiceAccountToken",
                        "must be false or left out; training code holds no credentials of the cluster"});
  }
}

}  // namespace

std::vector<Problem> template_problems(const TrainingJobSpec& spec, const Settings& settings) {
  std::vector<Problem> problems;
  const Json& pod_spec = member(spec.workers.templ, "spec");
  if (!spec.workers.templ.is_object() || (!pod_spec.is_null() && !pod_spec.is_object())) {
    problems.push_back({kTemplate, "must be a pod template: an object with metadata and spec"});
    return problems;
  }
  const Json& containers = member(pod_spec, "containers");
  check_container(containers, problems);
  check_gpus(containers, spec.workers, problems);
  check_owned_fields(spec, pod_spec, problems);
  std::vector<Problem> amounts;
  pod_requests(pod_spec, amounts);
  for (auto& problem : amounts) problems.push_back({kTemplate + "." + problem.field, problem.message});
  if (spec.placement.binding == contract::Binding::kDirect) {
    for (auto& problem : beyond_direct(pod_spec)) problems.push_back(std::move(problem));
  }
  if (!has_image(containers) && settings.default_image.empty()) {
    problems.push_back(
        {kTemplate + ".spec.containers", "has no image, and the chart has no default image; set the container's image"});
  }
  return problems;
}

std::string template_hash(const TrainingJobSpec& spec, const Settings& settings) {
  const Json parts{spec.workers.templ, spec.workers.gpusPerWorker, spec.workers.gpuResourceName,
                   contract::name_of(spec.placement.binding)};
  std::string hash = text_hash(parts.dump(-1, ' ', false, Json::error_handler_t::replace));
  // Kept apart, so that a chart's new image is not taken for the user's doing.
  const bool uses_default = !has_image(member(member(spec.workers.templ, "spec"), "containers"));
  return uses_default ? hash + "-" + text_hash(settings.default_image) : hash;
}

std::string template_change(const Job& job, const Settings& settings) {
  const std::string hash = template_hash(job.spec, settings);
  const std::string& made_from = job.status.templateHash;
  if (hash == made_from) return "";
  const bool same_template = hash.substr(0, hash.find('-')) == made_from.substr(0, made_from.find('-'));
  return same_template ? "the chart's default image for workers was changed" : "spec.workers.template was changed";
}

ObjectKey key_secret(const Job& job, const Settings& settings) {
  return {job.key.ns, contract::key_secret_name(job.key.name, job.uid, settings.key_id)};
}

Json worker_pod(const Job& job, const Settings& settings, const WorkerPlace& place) {
  const auto& spec = job.spec;
  Json pod_spec = member(spec.workers.templ, "spec");
  if (!pod_spec.is_object()) pod_spec = Json::object();
  Json& containers = list_at(pod_spec, "containers");
  if (containers.empty()) containers.push_back(Json::object());
  Json& container = containers[std::max(0, training_container(containers))];
  fill_container(container, job, settings);
  add_restrictions(pod_spec, container);
  add_volumes(pod_spec, job, settings, container);
  add_tolerations(pod_spec);
  pod_spec["restartPolicy"] = "Never";
  pod_spec["automountServiceAccountToken"] = false;
  pod_spec["enableServiceLinks"] = false;
  if (spec.priorityClassName) pod_spec["priorityClassName"] = *spec.priorityClassName;
  const Json& grace = member(pod_spec, "terminationGracePeriodSeconds");
  const std::int64_t given = grace.is_number_integer() ? grace.get<std::int64_t>() : 0;
  pod_spec["terminationGracePeriodSeconds"] = std::max(given, spec.lifecycle.checkpointGraceSeconds + kAgentEndsWithinSeconds);
  if (place.node) pin(pod_spec, spec.placement.binding, *place.node);
  return {{"apiVersion", "v1"},
          {"kind", "Pod"},
          {"metadata", metadata(job, member(spec.workers.templ, "metadata"), place, template_hash(spec, settings))},
          {"spec", std::move(pod_spec)}};
}

}  // namespace trainyard::decide
