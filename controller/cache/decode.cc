#include "controller/cache/decode.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <iterator>
#include <string_view>
#include <utility>

#include "controller/decide/quantity.h"
#include "crds/contract/names.h"
#include "crds/contract/parse_json.h"

namespace trainyard::cache {
namespace {

using contract::Problem;
using contract::Time;

const Json& member(const Json& json, std::string_view name) {
  static const Json null;
  if (!json.is_object()) return null;
  const auto found = json.find(name);
  return found == json.end() ? null : *found;
}

const std::string& text(const Json& json) {
  static const std::string empty;
  return json.is_string() ? json.get_ref<const std::string&>() : empty;
}
const std::string& text(const Json& json, std::string_view name) { return text(member(json, name)); }

bool flag(const Json& json, std::string_view name) { return member(json, name) == true; }

/// The elements of a list, none where it is no list.
const Json& list(const Json& json, std::string_view name) {
  static const Json none = Json::array();
  const Json& found = member(json, name);
  return found.is_array() ? found : none;
}

template <class Number>
std::optional<Number> number(std::string_view digits) {
  Number value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<Time> time(const Json& json, std::string_view name) { return contract::parse_rfc3339(text(json, name)); }

/// The element of a status.conditions list of that type.
const Json& condition(const Json& status, std::string_view type) {
  static const Json null;
  for (const Json& item : list(status, "conditions")) {
    if (text(item, "type") == type) return item;
  }
  return null;
}

/// What `kind`, containers of a spec or containerStatuses of a status, has of the container that trains: kContainerName, or the only one.
const Json& trainer(const Json& json, std::string_view kind) {
  static const Json null;
  const Json& containers = list(json, kind);
  for (const Json& item : containers) {
    if (text(item, "name") == contract::kContainerName) return item;
  }
  return containers.size() == 1 ? containers[0] : null;
}

constexpr std::size_t kLongestExitMessage = 2'048;

/// The end of it, since causes stand at the end; from the start of a line on where it has several.
std::string tail(const std::string& message) {
  if (message.size() <= kLongestExitMessage) return message;
  const std::size_t from = message.size() - kLongestExitMessage, line = message.find('\n', from);
  if (line != std::string::npos && line + 1 < message.size()) return message.substr(line + 1);
  const auto start = std::find_if(message.begin() + static_cast<std::ptrdiff_t>(from), message.end(),
                                  [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
  return {start, message.end()};
}

/// A termination message that is an agent's last State; anything else (an image without the agent) is no last word.
std::optional<contract::State> last_word(const std::string& message) {
  if (message.empty() || message.front() != '{') return std::nullopt;
  const Json json = contract::parse_json(message);
  if (!json.is_object() || !json.contains("podUid")) return std::nullopt;
  auto decoded = contract::decode<contract::State>(json);
  if (!decoded.problems.empty()) return std::nullopt;
  return std::move(decoded.value);
}

void read_container(const Json& container, decide::WorkerPod& worker) {
  const Json& state = member(container, "state");
  worker.container_running = member(state, "running").is_object();
  worker.started_at = time(member(state, worker.container_running ? "running" : "terminated"), "startedAt");
  const Json& waiting = member(state, "waiting");
  worker.waiting_reason = text(waiting, "reason");
  worker.waiting_message = text(waiting, "message");
  const Json& terminated = member(state, "terminated");
  if (!terminated.is_object()) return;
  const Json& code = member(terminated, "exitCode");
  worker.exit_code = code.is_number_integer() ? code.get<std::int32_t>() : -1;
  worker.exit_reason = text(terminated, "reason");
  worker.exited_at = time(terminated, "finishedAt");
  worker.last_word = last_word(text(terminated, "message"));
  if (!worker.last_word) worker.exit_message = tail(text(terminated, "message"));
}

/// The UID of the TrainingJob that controls the object; empty where none does.
const std::string& controlling_job(const Json& metadata) {
  for (const Json& owner : list(metadata, "ownerReferences")) {
    if (flag(owner, "controller") && text(owner, "kind") == contract::kKind &&
        text(owner, "apiVersion").starts_with(contract::kGroup)) {
      return text(owner, "uid");
    }
  }
  return text(Json());
}

std::optional<decide::WorkerPod> read_worker(const Json& metadata, const Json& status) {
  const Json& labels = member(metadata, "labels");
  const std::string& job = text(labels, contract::kJobLabel);
  const std::string& job_uid = job.empty() ? job : controlling_job(metadata);
  const auto index = number<std::int32_t>(text(labels, contract::kWorkerLabel));
  const auto spare = number<std::int32_t>(text(labels, contract::kSpareLabel));
  const auto generation = number<std::int64_t>(text(labels, contract::kGenerationLabel));
  if (job_uid.empty() || !(index || spare) || !generation) return std::nullopt;
  decide::WorkerPod worker{.job = job, .job_uid = job_uid, .worker = index.value_or(-1), .generation = *generation};
  if (!index) worker.spare = spare;
  worker.template_hash = text(member(metadata, "annotations"), contract::kTemplateHashAnnotation);
  worker.ip = text(status, "podIP");
  worker.reason = text(status, "reason");
  worker.message = text(status, "message");
  const Json& scheduled = condition(status, "PodScheduled");
  if (text(scheduled, "status") == "False") worker.unscheduled_message = text(scheduled, "message");
  if (text(scheduled, "status") == "True") worker.scheduled_at = time(scheduled, "lastTransitionTime");
  read_container(trainer(status, "containerStatuses"), worker);
  return worker;
}

/// The node that a pod of ours with binding Scheduler is pinned to: it takes up room there before kube-scheduler has bound it.
const std::string& pinned_node(const Json& spec) {
  const Json& required =
      member(member(member(spec, "affinity"), "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution");
  for (const Json& term : list(required, "nodeSelectorTerms")) {
    for (const Json& field : list(term, "matchFields")) {
      const Json& values = list(field, "values");
      if (text(field, "key") == "metadata.name" && text(field, "operator") == "In" && values.size() == 1) return text(values[0]);
    }
  }
  return text(Json());
}

std::map<std::string, std::string> read_labels(const Json& json) {
  std::map<std::string, std::string> labels;
  if (!json.is_object()) return labels;
  for (const auto& [name, value] : json.items()) labels.emplace(name, text(value));
  return labels;
}

/// To be changed in place; what is left out stays so.
Json& part(Json& json, const char* name) {
  static thread_local Json none;
  if (!json.is_object()) return none = nullptr;
  const auto found = json.find(name);
  return found == json.end() ? none = nullptr : *found;
}

void erase(Json& json, std::initializer_list<const char*> names) {
  if (!json.is_object()) return;
  for (const char* name : names) json.erase(name);
}

void keep(Json& json, std::initializer_list<std::string_view> names) {
  if (!json.is_object()) return;
  for (auto it = json.begin(); it != json.end();) {
    it = std::find(names.begin(), names.end(), it.key()) == names.end() ? json.erase(it) : std::next(it);
  }
}

constexpr std::int32_t kMostWorkers = 20'000;  // workers.count and minCount have this maximum
constexpr std::int32_t kMostSpares = 1'000'000;

/// What is made room for by number: whoever may write a status may write any.
void bound(contract::TrainingJobStatus& status) {
  const auto between = [](std::int32_t least, std::int32_t& number, std::int32_t most) {
    number = std::clamp(number, least, most);
  };
  between(0, status.workers.desired, kMostWorkers);
  if (status.placement && status.placement->workers) between(1, *status.placement->workers, kMostWorkers);
  if (status.resize) between(1, status.resize->workers, kMostWorkers);
  if (!status.spares) return;
  auto& spares = *status.spares;
  for (auto* number : {&spares.desired, &spares.placed, &spares.ready, &spares.made, &spares.attempts})
    between(0, *number, kMostSpares);
}

bool is_agent_port(const Json& port) { return text(port, "name") == contract::kPortName; }

/// The port where the pod's agent listens; 0: no container declares one.
std::uint16_t agent_port(const Json& spec) {
  for (const char* kind : {"containers", "initContainers"}) {
    for (const Json& container : list(spec, kind)) {
      for (const Json& port : list(container, "ports")) {
        const Json& number = member(port, "containerPort");
        if (is_agent_port(port) && number.is_number_integer()) return static_cast<std::uint16_t>(number.get<std::int64_t>());
      }
    }
  }
  return 0;
}

void keep_agent_port(Json& container) {
  Json& ports = part(container, "ports");
  if (!ports.is_array()) return;
  std::erase_if(ports.get_ref<Json::array_t&>(), [](const Json& port) { return !is_agent_port(port); });
  if (ports.empty()) container.erase("ports");
}

}  // namespace

decide::ObjectKey key_of(const Json& object) {
  const Json& metadata = member(object, "metadata");
  return {text(metadata, "namespace"), text(metadata, "name")};
}

std::string uid_of(const Json& object) { return text(member(object, "metadata"), "uid"); }

std::int64_t revision_of(const Json& object) {
  return number<std::int64_t>(text(member(object, "metadata"), "resourceVersion")).value_or(0);
}

void drop_managed_fields(Json& object) { erase(part(object, "metadata"), {"managedFields"}); }

void shrink_pod(Json& object) {
  Json& metadata = part(object, "metadata");
  erase(metadata, {"managedFields"});
  if (Json& annotations = part(metadata, "annotations"); annotations.is_object()) {
    keep(annotations, {contract::kTemplateHashAnnotation});
  }
  Json& spec = part(object, "spec");
  erase(spec, {"volumes", "ephemeralContainers"});
  for (const char* kind : {"containers", "initContainers"}) {
    for (Json& container : part(spec, kind)) {
      keep(container, {"name", "resources", "restartPolicy", "ports"});
      keep_agent_port(container);
    }
  }
  erase(part(object, "status"), {"initContainerStatuses", "ephemeralContainerStatuses"});
}

void shrink_node(Json& object) {
  erase(part(object, "metadata"), {"managedFields", "annotations"});
  erase(part(object, "status"), {"images", "volumesInUse", "volumesAttached"});
}

void shrink_volume(Json& object) {
  erase(part(object, "metadata"), {"managedFields", "annotations"});
  part(object, "spec") = {{"nodeAffinity", member(member(object, "spec"), "nodeAffinity")}};
}

void shrink_namespace(Json& object) {
  erase(part(object, "metadata"), {"managedFields", "annotations"});
  erase(object, {"spec", "status"});
}

std::optional<decide::Pod> decode_pod(const Json& object, const std::string& uid) {
  const Json& metadata = member(object, "metadata");
  const Json& spec = member(object, "spec");
  const Json& status = member(object, "status");
  decide::Pod pod{.key = key_of(object), .uid = uid.empty() ? text(metadata, "uid") : uid};
  if (pod.key.ns.empty() || pod.key.name.empty() || pod.uid.empty()) return std::nullopt;
  pod.node = text(spec, "nodeName");
  pod.nominated_node = text(status, "nominatedNodeName");
  pod.phase = contract::enum_from<decide::PodPhase>(text(status, "phase")).value_or(decide::PodPhase::kPending);
  pod.created = time(metadata, "creationTimestamp").value_or(Time{});
  pod.deletion_time = time(metadata, "deletionTimestamp");
  std::vector<Problem> problems;  // what is no quantity counts as nothing, as it takes nothing
  if (!pod.is_finished()) pod.requests = decide::pod_requests(spec, problems);
  pod.worker = read_worker(metadata, status);
  if (pod.worker) pod.worker->pod_group = text(member(spec, "schedulingGroup"), "podGroupName");
  if (pod.worker) {
    pod.worker->agent_port = agent_port(spec);
    pod.worker->tolerations = decide::read_node_rules(spec).tolerations;
    pod.worker->memory_limited = !member(member(member(trainer(spec, "containers"), "resources"), "limits"), "memory").is_null();
  }
  if (pod.worker && pod.node.empty() && pod.nominated_node.empty()) pod.nominated_node = pinned_node(spec);
  return pod;
}

std::optional<decide::Node> decode_node(const Json& object, const std::vector<std::string>& unhealthy_conditions) {
  decide::Node node{.name = key_of(object).name};
  if (node.name.empty()) return std::nullopt;
  const Json& spec = member(object, "spec");
  const Json& status = member(object, "status");
  std::vector<Problem> problems;
  node.labels = read_labels(member(member(object, "metadata"), "labels"));
  node.allocatable = decide::read_resources(member(status, "allocatable"), "status.allocatable", problems);
  node.unschedulable = flag(spec, "unschedulable");
  for (const Json& taint : list(spec, "taints")) {
    node.taints.push_back({text(taint, "key"), text(taint, "value"), text(taint, "effect")});
  }
  const Json& ready = condition(status, "Ready");
  node.ready = text(ready, "status") == "True";
  node.ready_since = time(ready, "lastTransitionTime").value_or(Time{});
  node.memory_pressure = text(condition(status, "MemoryPressure"), "status") == "True";
  for (const auto& type : unhealthy_conditions) {
    if (node.trouble.empty() && text(condition(status, type), "status") == "True") node.trouble = type;
  }
  return node;
}

std::optional<decide::Claim> decode_claim(const Json& object) {
  decide::Claim claim{.key = key_of(object), .phase = text(member(object, "status"), "phase")};
  if (claim.key.ns.empty() || claim.key.name.empty()) return std::nullopt;
  if (claim.phase == "Bound") claim.volume = text(member(object, "spec"), "volumeName");
  claim.deleting = member(member(object, "metadata"), "deletionTimestamp").is_string();
  return claim;
}

std::optional<decide::Volume> decode_volume(const Json& object) {
  decide::Volume volume{.name = key_of(object).name};
  if (volume.name.empty()) return std::nullopt;
  const Json& terms = member(member(member(member(object, "spec"), "nodeAffinity"), "required"), "nodeSelectorTerms");
  if (terms.is_array()) volume.required_terms = terms;
  return volume;
}

std::optional<decide::PriorityClass> decode_priority_class(const Json& object) {
  decide::PriorityClass out{.name = key_of(object).name};
  const Json& value = member(object, "value");
  if (out.name.empty() || !value.is_number_integer()) return std::nullopt;
  out.value = value.get<std::int32_t>();
  out.is_default = flag(object, "globalDefault");
  out.preempts = text(object, "preemptionPolicy") != "Never";
  return out;
}

std::optional<decide::Queue> decode_queue(const Json& object) {
  const Json& metadata = member(object, "metadata");
  decide::Queue queue{
      .name = key_of(object).name, .uid = text(metadata, "uid"), .resource_version = text(metadata, "resourceVersion")};
  if (queue.name.empty() || queue.uid.empty()) return std::nullopt;
  const Json& generation = member(metadata, "generation");
  if (generation.is_number_integer()) queue.generation = generation.get<std::int64_t>();
  std::vector<Problem> ignored;  // the schema has checked it
  contract::TrainingQueueSpec spec;
  contract::decode_into(spec, member(object, "spec"), "spec", contract::UnknownFields::kIgnore, ignored);
  queue.parent = spec.parent.value_or("");
  queue.weight = std::max(1, spec.weight);
  queue.stop = spec.stop;
  queue.namespaces = std::move(spec.namespaceSelector);
  for (auto& flavor : spec.flavors) {
    decide::Flavor& out = queue.flavors.emplace_back(decide::Flavor{.labels = std::move(flavor.nodeLabels), .resources = {}});
    for (const auto& quota : flavor.resources) {
      const auto amount = [&quota](const contract::Quantity& quantity) {
        return std::max<std::int64_t>(0, decide::parse_quantity(quota.name, quantity.text).value_or(0));
      };
      decide::QuotaLimits& limits = out.resources[quota.name];
      limits.nominal = amount(quota.nominal);
      if (quota.borrowingLimit) limits.borrowing = amount(*quota.borrowingLimit);
      if (quota.lendingLimit) limits.lending = amount(*quota.lendingLimit);
    }
  }
  const Json& status = member(object, "status");
  if (status.is_object()) contract::decode_into(queue.status, status, "status", contract::UnknownFields::kIgnore, ignored);
  return queue;
}

std::optional<decide::Namespace> decode_namespace(const Json& object) {
  decide::Namespace out{.name = key_of(object).name, .labels = read_labels(member(member(object, "metadata"), "labels"))};
  if (out.name.empty()) return std::nullopt;
  return out;
}

std::optional<decide::Job> decode_job(const Json& object, const decide::Job* known) {
  const Json& metadata = member(object, "metadata");
  decide::Job job{.key = key_of(object), .uid = text(metadata, "uid"), .resource_version = text(metadata, "resourceVersion")};
  if (job.key.ns.empty() || job.key.name.empty() || job.uid.empty()) return std::nullopt;
  const Json& generation = member(metadata, "generation");
  if (generation.is_number_integer()) job.generation = generation.get<std::int64_t>();
  job.created = time(metadata, "creationTimestamp").value_or(Time{});
  job.deleting = member(metadata, "deletionTimestamp").is_string();
  job.traceparent = text(member(metadata, "annotations"), decide::kTraceparentAnnotation);
  if (known != nullptr && known->uid == job.uid && known->generation == job.generation && job.generation > 0) {
    job.spec = known->spec;
    job.problems = known->problems;
  } else {
    contract::decode_into(job.spec, member(object, "spec"), "spec", contract::UnknownFields::kIgnore, job.problems);
  }
  // The status is this program's own; what an older or newer one wrote differently is written anew.
  std::vector<Problem> ignored;
  const Json& status = member(object, "status");
  if (status.is_object()) contract::decode_into(job.status, status, "status", contract::UnknownFields::kIgnore, ignored);
  bound(job.status);
  return job;
}

}  // namespace trainyard::cache
