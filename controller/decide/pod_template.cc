#include "controller/decide/pod_template.h"

#include <algorithm>

#include "controller/decide/json_edit.h"
#include "controller/decide/node_filter.h"
#include "controller/decide/quantity.h"
#include "controller/decide/template_shape.h"
#include "controller/decide/text_hash.h"
#include "controller/decide/torch_environment.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

using contract::Problem;
using contract::TrainingJobSpec;

constexpr const char* kShmVolume = "trainyard-shm";
constexpr const char* kShmPath = "/dev/shm";
constexpr std::string_view kOurs = "trainyard.dev/";
constexpr const char* kGraceVariable = "TRAINYARD_GRACE_SECONDS";  // the agent's --grace-seconds
constexpr std::int64_t kAgentEndsWithinSeconds = 10;               // after the checkpoint's grace, to write its last word
const std::string kTemplate = "spec.workers.template";

/// The index of the container that trains: the one called worker, or the only one; -1 where it can't be told.
int training_container(const Json& containers) {
  if (!containers.is_array()) return -1;
  for (std::size_t i = 0; i < containers.size(); ++i) {
    if (member(containers[i], "name") == contract::kContainerName) return static_cast<int>(i);
  }
  return containers.size() == 1 ? 0 : -1;
}

/// What an agent is told from outside: who it is, and the job's key.
void add_agent(Json& container) {
  const auto from_pod = [](const char* name, const char* path) {
    return Json{{"name", name}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
  };
  Json& env = list_at(container, "env");
  put_by(env, "name", from_pod(contract::kPodIpVariable, "status.podIP"));
  put_by(env, "name", from_pod(contract::kPodUidVariable, "metadata.uid"));
  put_by(env, "name", from_pod(contract::kPodNameVariable, "metadata.name"));
  put_by(env, "name", from_pod(contract::kNodeNameVariable, "spec.nodeName"));
  const auto folder = contract::kKeyPath.substr(0, contract::kKeyPath.rfind('/'));
  put_by(list_at(container, "volumeMounts"), "name", {{"name", contract::kKeyVolume}, {"mountPath", folder}, {"readOnly", true}});
}

bool declares_agent(const Json& container) {
  const Json& ports = member(container, "ports");
  return ports.is_array() &&
         std::any_of(ports.begin(), ports.end(), [](const Json& port) { return member(port, "name") == contract::kPortName; });
}

/// Calls `visit` for each container of the pod, those that run before the others too.
template <class PodSpec, class Visit>
void for_each_container(PodSpec& pod_spec, const Visit& visit) {
  for (const char* kind : {"initContainers", "containers"}) {
    if (!member(pod_spec, kind).is_array()) continue;
    for (auto& container : pod_spec.at(kind)) {
      if (container.is_object()) visit(container);
    }
  }
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

/// The container runs Trainyard's agent, and that its engine.
void run_agent(Json& container, const Job& job, const Settings& settings) {
  set_if_silent(container, "image", settings.default_image);
  if (member(container, "command").empty() && member(container, "args").empty()) {
    container["command"] = Json::array({"trainyard-worker", "agent"});
  }
  // The agent's last word is a file; the log's end would take its place where the container fails.
  container["terminationMessagePolicy"] = "File";
  put_by(list_at(container, "ports"), "name",
         {{"name", contract::kPortName}, {"containerPort", contract::kAgentPort}, {"protocol", "TCP"}});
  const std::string grace = std::to_string(job.spec.lifecycle.checkpointGraceSeconds);
  put_by(list_at(container, "env"), "name", {{"name", kGraceVariable}, {"value", grace}});
  add_agent(container);
}

/// The container runs what its image says. Ours comes first in the environment, so that the template's own variables, command and args
/// may refer to it by $(RANK); and what the template sets itself stays.
void run_custom(Json& pod_spec, Json& container, const Job& job, const WorkerPlace& place) {
  set_if_silent(container, "terminationMessagePolicy", "FallbackToLogsOnError");
  const Json ours = torch_environment(job, place);
  for_each_container(pod_spec, [&ours](Json& one) {
    Json env = Json::array();
    Json& given = list_at(one, "env");
    for (const Json& variable : ours) {
      if (find_by(given, "name", variable.at("name").get_ref<const std::string&>()) == nullptr) env.push_back(variable);
    }
    env.insert(env.end(), given.begin(), given.end());
    given = std::move(env);
    if (declares_agent(one)) add_agent(one);
  });
  pod_spec["hostname"] = contract::pod_name(job.key.name, place.worker, place.generation);
  if (needs_service(job, place.num_workers.value_or(job.spec.workers.count))) pod_spec["subdomain"] = workers_service(job).name;
}

void add_key(Json& pod_spec, const Job& job, const Settings& settings) {
  // Whoever the container runs as must be able to read the key, and only this container mounts it. An fsGroup would let a narrower
  // mode do, but would also change the group of every file on the job's own volumes.
  const bool has_group = member(member(pod_spec, "securityContext"), "fsGroup").is_number();
  const int mode = has_group ? 0440 : 0444;
  put_by(list_at(pod_spec, "volumes"), "name",
         {{"name", contract::kKeyVolume}, {"secret", {{"secretName", key_secret(job, settings).name}, {"defaultMode", mode}}}});
}

/// Collectives and data loaders share memory between processes, of which a container runtime gives 64 MB.
void add_shared_memory(Json& pod_spec, Json& container) {
  Json& mounts = list_at(container, "volumeMounts");
  if (find_by(mounts, "mountPath", kShmPath) != nullptr) return;
  mounts.push_back({{"name", kShmVolume}, {"mountPath", kShmPath}});
  put_by(list_at(pod_spec, "volumes"), "name", {{"name", kShmVolume}, {"emptyDir", {{"medium", "Memory"}}}});
}

/// Until SIGKILL. Trainyard's agent needs some of it for itself, to write its last word.
std::int64_t grace_seconds(const Json& pod_spec, const TrainingJobSpec& spec) {
  const Json& given = member(pod_spec, "terminationGracePeriodSeconds");
  const std::int64_t checkpoint = spec.lifecycle.checkpointGraceSeconds;
  if (spec.engine == contract::Engine::kCustom) return given.is_number_integer() ? given.get<std::int64_t>() : checkpoint;
  return std::max(given.is_number_integer() ? given.get<std::int64_t>() : 0, checkpoint + kAgentEndsWithinSeconds);
}

/// The node controller would delete pods of a node that is away for five minutes; whether they are lost, only we decide, who see the node and
/// ask the agent. Who sees no nodes leaves it to the node controller.
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

/// For kube-scheduler, where it chooses the node.
void rather_not(Json& pod_spec, const std::string& node) {
  Json& terms =
      list_at(object_at(object_at(pod_spec, "affinity"), "nodeAffinity"), "preferredDuringSchedulingIgnoredDuringExecution");
  const Json elsewhere{{"key", "metadata.name"}, {"operator", "NotIn"}, {"values", Json::array({node})}};
  terms.push_back({{"weight", 100}, {"preference", {{"matchFields", Json::array({elsewhere})}}}});
}

/// Labels and annotations by which the controller knows its pods: another's would make a spare a worker.
bool is_ours(std::string_view key) { return key.starts_with(kOurs); }

/// Of all pods of the job.
Json metadata_of(const Job& job, const std::string& hash) {
  const Json& own = member(job.spec.workers.templ, "metadata");
  Json out = Json::object();
  out["namespace"] = job.key.ns;
  for (const char* kind : {"labels", "annotations"}) {
    const Json& given = member(own, kind);
    if (!given.is_object()) continue;
    for (const auto& item : given.items()) {
      if (!is_ours(item.key())) out[kind][item.key()] = item.value();
    }
  }
  Json& labels = object_at(out, "labels");
  labels[std::string(contract::kJobLabel)] = job.key.name;
  labels[std::string(contract::kManagedByLabel)] = contract::kManagedByValue;
  object_at(out, "annotations")[std::string(contract::kTemplateHashAnnotation)] = hash;
  out["ownerReferences"] = Json::array({{{"apiVersion", contract::kApiVersion},
                                         {"kind", contract::kKind},
                                         {"name", job.key.name},
                                         {"uid", job.uid},
                                         {"controller", true},
                                         {"blockOwnerDeletion", true}}});  // kubectl delete --cascade=foreground waits for it
  return out;
}

/// What tells it from the others.
void name_after(Json& metadata, const Job& job, const WorkerPlace& place) {
  metadata["name"] = place.spare ? contract::spare_name(job.key.name, *place.spare, place.generation)
                                 : contract::pod_name(job.key.name, place.worker, place.generation);
  Json& labels = metadata["labels"];
  labels[std::string(place.spare ? contract::kSpareLabel : contract::kWorkerLabel)] =
      std::to_string(place.spare.value_or(place.worker));
  labels[std::string(contract::kGenerationLabel)] = std::to_string(place.generation);
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

void check_metadata(const Json& metadata, std::vector<Problem>& problems) {
  for (const char* kind : {"labels", "annotations"}) {
    const Json& given = member(metadata, kind);
    if (!given.is_object()) continue;
    for (const auto& item : given.items()) {
      if (!is_ours(item.key())) continue;
      problems.push_back({kTemplate + ".metadata." + kind + "." + item.key(),
                          "must be left out, since those of trainyard.dev are how the controller knows its pods"});
    }
  }
}

/// Fields that the controller sets, so that a value in the template would be a misunderstanding.
void check_owned_fields(const TrainingJobSpec& spec, const Json& pod_spec, std::vector<Problem>& problems) {
  if (const Json& policy = member(pod_spec, "restartPolicy"); !policy.is_null() && policy != "Never") {
    problems.push_back(
        {kTemplate + ".spec.restartPolicy", "must be Never or left out; spec.lifecycle.maxRestarts says how often to restart"});
  }
  if (const Json& grace = member(pod_spec, "terminationGracePeriodSeconds"); !grace.is_null() && !grace.is_number_integer()) {
    problems.push_back({kTemplate + ".spec.terminationGracePeriodSeconds", "must be a whole number of seconds"});
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
  if (spec.engine == contract::Engine::kCustom) {
    for (const char* name : {"hostname", "subdomain"}) {
      if (member(pod_spec, name).is_null()) continue;
      problems.push_back(
          {kTemplate + ".spec." + name, "must be left out, since workers find each other by what the controller sets"});
    }
  } else if (member(pod_spec, "automountServiceAccountToken") == true) {
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
  for (auto& problem : shape_problems(spec.workers.templ)) problems.push_back(std::move(problem));
  check_metadata(member(spec.workers.templ, "metadata"), problems);
  check_container(containers, problems);
  check_gpus(containers, spec.workers, problems);
  check_owned_fields(spec, pod_spec, problems);
  std::vector<Problem> amounts;
  pod_requests(pod_spec, amounts);
  for (auto& problem : amounts) problems.push_back({kTemplate + "." + problem.field, problem.message});
  if (spec.placement.binding == contract::Binding::kDirect) {
    for (auto& problem : beyond_direct(pod_spec)) problems.push_back(std::move(problem));
  }
  const bool is_custom = spec.engine == contract::Engine::kCustom;
  if (!has_image(containers) && (is_custom || settings.default_image.empty())) {
    problems.push_back({kTemplate + ".spec.containers",
                        std::string("has no image, and ") +
                            (is_custom ? "the engine Custom has none of its own" : "the chart has no default image") +
                            "; set the container's image"});
  }
  return problems;
}

namespace {

/// A digest that ends so is of a template that names no image.
constexpr char kUsesDefaultImage = '-';

/// The image is kept apart, so that a chart's new one is not taken for the user's doing.
std::string with_default_image(const std::string& digest, const Settings& settings) {
  return digest.ends_with(kUsesDefaultImage) ? digest + text_hash(settings.default_image) : digest;
}

}  // namespace

std::string template_digest(const TrainingJobSpec& spec) {
  const Json parts{spec.workers.templ, spec.workers.gpusPerWorker, spec.workers.gpuResourceName,
                   contract::name_of(spec.placement.binding)};
  std::string hash = json_hash(parts);
  if (!has_image(member(member(spec.workers.templ, "spec"), "containers"))) hash += kUsesDefaultImage;
  return hash;
}

std::string template_hash(const TrainingJobSpec& spec, const Settings& settings) {
  return with_default_image(template_digest(spec), settings);
}

std::string template_hash(const Job& job, const Settings& settings) {
  const std::string& known = job.template_digest.text;
  return known.empty() ? template_hash(job.spec, settings) : with_default_image(known, settings);
}

std::string worker_image(const TrainingJobSpec& spec, const Settings& settings) {
  const Json& containers = member(member(spec.workers.templ, "spec"), "containers");
  if (!has_image(containers)) return settings.default_image;
  const Json& image = member(containers[static_cast<std::size_t>(training_container(containers))], "image");
  return image.is_string() ? image.get<std::string>() : image.dump();
}

std::string template_change(const Job& job, const Settings& settings) {
  const std::string hash = template_hash(job, settings);
  const std::string& made_from = job.status.templateHash;
  if (hash == made_from) return "";
  const bool same_template = hash.substr(0, hash.find('-')) == made_from.substr(0, made_from.find('-'));
  return same_template ? "the chart's default image for workers was changed" : "spec.workers.template was changed";
}

bool has_agent(const TrainingJobSpec& spec) {
  bool found = spec.engine == contract::Engine::kTrainyard;
  const Json& pod_spec = member(spec.workers.templ, "spec");
  for_each_container(pod_spec, [&found](const Json& container) { found = found || declares_agent(container); });
  return found;
}

std::optional<std::int64_t> memory_limit(const TrainingJobSpec& spec) {
  const Json& containers = member(member(spec.workers.templ, "spec"), "containers");
  const int index = training_container(containers);
  if (index < 0) return std::nullopt;
  const Json& limits = member(member(containers[static_cast<std::size_t>(index)], "resources"), "limits");
  if (member(limits, "memory").is_null()) return std::nullopt;
  std::vector<Problem> problems;  // are template_problems()' to tell
  return read_resources(limits, "", problems)["memory"];
}

ObjectKey key_secret(const Job& job, const Settings& settings) {
  return {job.key.ns, contract::key_secret_name(job.key.name, job.uid, settings.key_id)};
}

namespace {

/// All but what pins it to its place; of the engine Custom with the place's environment.
Json pod_spec_of(const Job& job, const Settings& settings, const WorkerPlace& place) {
  const auto& spec = job.spec;
  Json pod_spec = member(spec.workers.templ, "spec");
  if (!pod_spec.is_object()) pod_spec = Json::object();
  Json& containers = list_at(pod_spec, "containers");
  if (containers.empty()) containers.push_back(Json::object());
  Json& container = containers[std::max(0, training_container(containers))];
  set_if_silent(container, "name", contract::kContainerName);
  if (spec.engine == contract::Engine::kCustom) {
    run_custom(pod_spec, container, job, place);
    set_if_silent(pod_spec, "automountServiceAccountToken", false);
    set_if_silent(pod_spec, "enableServiceLinks", false);
  } else {
    run_agent(container, job, settings);
    add_restrictions(pod_spec, container);
    pod_spec["automountServiceAccountToken"] = false;
    pod_spec["enableServiceLinks"] = false;
  }
  if (has_agent(spec)) add_key(pod_spec, job, settings);
  add_gpus(container, spec.workers);
  add_shared_memory(pod_spec, container);
  if (settings.sees_cluster) add_tolerations(pod_spec);
  pod_spec["restartPolicy"] = "Never";
  if (spec.priorityClassName) pod_spec["priorityClassName"] = *spec.priorityClassName;
  pod_spec["terminationGracePeriodSeconds"] = grace_seconds(pod_spec, spec);
  return pod_spec;
}

}  // namespace

WorkerPods::WorkerPods(const Job& job, const Settings& settings)
    : job_(job),
      settings_(settings),
      like_all_{{"apiVersion", "v1"}, {"kind", "Pod"}, {"metadata", metadata_of(job, template_hash(job, settings))}} {
  if (job.spec.engine != contract::Engine::kCustom) like_all_["spec"] = pod_spec_of(job, settings, {});
}

Json WorkerPods::pod(const WorkerPlace& place) const {
  Json out = like_all_;
  name_after(out["metadata"], job_, place);
  Json& pod_spec = out["spec"];
  if (pod_spec.is_null()) pod_spec = pod_spec_of(job_, settings_, place);
  if (place.node) pin(pod_spec, job_.spec.placement.binding, *place.node);
  for (const auto& node : place.avoid) rather_not(pod_spec, node);
  if (!place.pod_group.empty()) pod_spec["schedulingGroup"] = {{"podGroupName", place.pod_group}};
  return out;
}

Json worker_pod(const Job& job, const Settings& settings, const WorkerPlace& place) {
  return WorkerPods(job, settings).pod(place);
}

}  // namespace trainyard::decide
