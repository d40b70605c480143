#include "controller/decide/cluster.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/engine_spec.h"
#include "controller/decide/pod_template.h"

namespace trainyard::decide {
namespace {

template <class Map, class Key>
auto* find_in(Map& map, const Key& key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

/// Where a pod takes up room: on its node, or on the one that kube-scheduler empties for it.
const std::string& place_of(const Pod& pod) { return pod.node.empty() ? pod.nominated_node : pod.node; }

std::int64_t is_live(const Job& job) {
  using contract::Phase;
  const auto phase = job.status.phase;
  const bool rests = phase == Phase::kSuspended || phase == Phase::kSucceeded || phase == Phase::kFailed;
  return job.spec.managedBy == contract::kManagedBy && !job.deleting && !rests ? 1 : 0;
}

/// Of a job that has a hash to compare it with; what was known of it before, where that is still true.
std::string spec_hash_of(const Job& job, const Job* old) {
  if (job.status.specHash.empty() || job.spec.engine != contract::Engine::kTrainyard) return "";
  const std::int32_t size = gang_size(job);
  const bool is_known = old != nullptr && !old->spec_hash.empty() && gang_size(*old) == size && old->spec == job.spec;
  return is_known ? old->spec_hash : spec_hash(job.spec, size);
}

std::string template_digest_of(const Job& job, const Job* old) {
  const auto parts = [](const Job& of) {
    const auto& workers = of.spec.workers;
    return std::tie(workers.gpusPerWorker, workers.gpuResourceName, of.spec.placement.binding, workers.templ);
  };
  const bool is_known = old != nullptr && !old->template_digest.text.empty() && parts(*old) == parts(job);
  return is_known ? old->template_digest.text : template_digest(job.spec);
}

}  // namespace

bool takes_same_room(const Pod& a, const Pod& b) {
  const auto job = [](const Pod& pod) { return pod.worker ? pod.worker->job : ""; };
  return place_of(a) == place_of(b) && a.is_finished() == b.is_finished() && a.requests == b.requests && job(a) == job(b);
}

void Cluster::put(Node node) {
  std::string name = node.name;
  nodes_.insert_or_assign(std::move(name), std::move(node));
}

void Cluster::put(Pod pod) {
  const auto* old = this->pod(pod.key);
  if (old != nullptr && old->uid != pod.uid) agents_.erase(old->uid);
  if (old == nullptr || !takes_same_room(*old, pod)) {
    if (old != nullptr) discount(*old);
    count(pod);
  }
  ObjectKey key = pod.key;
  pods_.insert_or_assign(std::move(key), std::move(pod));
}

void Cluster::put(Job job) {
  const auto* old = this->job(job.key);
  if (old != nullptr) num_live_jobs_ -= is_live(*old);
  num_live_jobs_ += is_live(job);
  job.spec_hash = spec_hash_of(job, old);
  job.template_digest.text = template_digest_of(job, old);
  job.device_needs = old != nullptr && old->spec == job.spec ? old->device_needs : DeviceNeeds{};
  ObjectKey key = job.key;
  may_rest_.insert(key);
  jobs_.insert_or_assign(std::move(key), std::move(job));
}

/// It is in no line, holds nothing and is about to give nothing back: whatever goes through jobs() passes over it.
bool Cluster::rests(const Job& job) const {
  if (job.spec.managedBy != contract::kManagedBy || job.deleting) return false;
  const bool has_place = is_true(job.status, condition::kPlaced) || is_stopping(job.status);
  const bool waits = job.status.queue && job.status.queue->position;
  if (!is_finished(job.status) && (!job.spec.suspend || has_place || waits)) return false;
  const auto* pods = find_in(pods_by_job_, job.key);
  return pods == nullptr || std::all_of(pods->begin(), pods->end(), [&](const auto& key) { return pods_.at(key).is_finished(); });
}

void Cluster::pack_resting_jobs() {
  for (const auto& key : std::exchange(may_rest_, {})) {
    const auto found = jobs_.find(key);
    if (found == jobs_.end() || !rests(found->second)) continue;
    if (is_finished(found->second.status)) forget_answers_about(found->second.uid);  // it starts no more
    packed_jobs_.emplace(key, pack(found->second));
    jobs_.erase(found);
  }
}

std::vector<ObjectKey> Cluster::job_keys() const {
  std::vector<ObjectKey> out;
  out.reserve(jobs_.size() + packed_jobs_.size());
  for (const auto& [key, job] : jobs_) out.push_back(key);
  for (const auto& [key, job] : packed_jobs_) out.push_back(key);
  std::inplace_merge(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(jobs_.size()), out.end());
  return out;
}

void Cluster::put(Claim claim) {
  ObjectKey key = claim.key;
  claims_.insert_or_assign(std::move(key), std::move(claim));
}

void Cluster::erase_claim(const ObjectKey& key) { claims_.erase(key); }

void Cluster::put(Volume volume) {
  std::string name = volume.name;
  volumes_.insert_or_assign(std::move(name), std::move(volume));
}

void Cluster::erase_volume(const std::string& name) { volumes_.erase(name); }

void Cluster::put(PriorityClass priority_class) {
  std::string name = priority_class.name;
  priority_classes_.insert_or_assign(std::move(name), std::move(priority_class));
}

void Cluster::erase_priority_class(const std::string& name) { priority_classes_.erase(name); }

bool have_same_spec(const Queue& a, const Queue& b) {
  return std::tie(a.name, a.uid, a.parent, a.weight, a.stop, a.namespaces, a.flavors) ==
         std::tie(b.name, b.uid, b.parent, b.weight, b.stop, b.namespaces, b.flavors);
}

void Cluster::put(Queue queue) {
  std::string name = queue.name;
  queues_.insert_or_assign(std::move(name), std::move(queue));
}

void Cluster::erase_queue(const std::string& name) { queues_.erase(name); }

void Cluster::put(Namespace name_space) {
  std::string name = name_space.name;
  namespaces_.insert_or_assign(std::move(name), std::move(name_space));
}

void Cluster::erase_namespace(const std::string& name) { namespaces_.erase(name); }

void Cluster::erase_node(const std::string& name) { nodes_.erase(name); }

void Cluster::erase_pod(const ObjectKey& key) {
  const auto found = pods_.find(key);
  if (found == pods_.end()) return;
  discount(found->second);
  agents_.erase(found->second.uid);
  pods_.erase(found);
}

void Cluster::erase_job(const ObjectKey& key) {
  const Job* found = job(key);
  if (found == nullptr) return;
  num_live_jobs_ -= is_live(*found);
  forget_answers_about(found->uid);
  jobs_.erase(found->key);
}

void Cluster::forget_answers_about(const std::string& job_uid) {
  auto check = template_checks_.lower_bound(std::pair(std::string_view(job_uid), std::string_view()));
  while (check != template_checks_.end() && check->first.first == job_uid) check = template_checks_.erase(check);
  refusals_.erase(job_uid);
}

void Cluster::put_agent(const std::string& pod_uid, AgentView view) { agents_.insert_or_assign(pod_uid, std::move(view)); }

void Cluster::erase_agent(const std::string& pod_uid) { agents_.erase(pod_uid); }

void Cluster::put_template_check(const std::string& job_uid, const std::string& template_hash, TemplateCheck check) {
  template_checks_.insert_or_assign({job_uid, template_hash}, std::move(check));
}

void Cluster::put_refusal(const std::string& job_uid, Refusal refusal) {
  refusals_.insert_or_assign(job_uid, std::move(refusal));
}

void Cluster::erase_refusal(const std::string& job_uid) { refusals_.erase(job_uid); }

const Node* Cluster::node(const std::string& name) const { return find_in(nodes_, name); }
const Claim* Cluster::claim(const ObjectKey& key) const { return find_in(claims_, key); }
const Volume* Cluster::volume(const std::string& name) const { return find_in(volumes_, name); }
const Queue* Cluster::queue(const std::string& name) const { return find_in(queues_, name); }
const Namespace* Cluster::name_space(const std::string& name) const { return find_in(namespaces_, name); }
const Pod* Cluster::pod(const ObjectKey& key) const { return find_in(pods_, key); }
const Job* Cluster::job(const ObjectKey& key) const {
  if (const Job* found = find_in(jobs_, key)) return found;
  const auto packed = packed_jobs_.find(key);
  if (packed == packed_jobs_.end()) return nullptr;
  const auto out = jobs_.emplace(packed->first, unpack(packed->first, packed->second)).first;
  packed_jobs_.erase(packed);
  may_rest_.insert(out->first);
  return &out->second;
}
const AgentView* Cluster::agent(const std::string& pod_uid) const { return find_in(agents_, pod_uid); }
const TemplateCheck* Cluster::template_check(const std::string& job_uid, const std::string& template_hash) const {
  return find_in(template_checks_, std::pair(std::string_view(job_uid), std::string_view(template_hash)));
}
const TemplateCheck* Cluster::template_check(const Job& job) const {
  return template_check(job.uid, template_hash(job, settings));
}
const Refusal* Cluster::refusal(const Job& job) const {
  const Refusal* found = find_in(refusals_, job.uid);
  return found != nullptr && found->generation == job.status.generation ? found : nullptr;
}

std::vector<const Pod*> Cluster::pods_of(const Job& job) const {
  std::vector<const Pod*> out;
  const auto* keys = find_in(pods_by_job_, job.key);
  if (keys == nullptr) return out;
  for (const auto& key : *keys) {
    const Pod& pod = pods_.at(key);
    if (pod.worker->job_uid == job.uid) out.push_back(&pod);
  }
  return out;
}

bool Cluster::has_pods_of(const Job& job) const {
  const auto* keys = find_in(pods_by_job_, job.key);
  return keys != nullptr &&
         std::any_of(keys->begin(), keys->end(), [&](const auto& key) { return pods_.at(key).worker->job_uid == job.uid; });
}

std::vector<const Pod*> Cluster::pods_on(const std::string& node) const {
  std::vector<const Pod*> out;
  const auto* use = find_in(use_, node);
  if (use == nullptr) return out;
  for (const auto& key : use->pods) out.push_back(&pods_.at(key));
  return out;
}

const Resources& Cluster::used_on(const std::string& node) const {
  static const Resources kNothing;
  const auto* use = find_in(use_, node);
  return use == nullptr ? kNothing : use->used;
}

void Cluster::count(const Pod& pod) {
  if (pod.worker) {
    const ObjectKey job{pod.key.ns, pod.worker->job};
    pods_by_job_[job].insert(pod.key);
    may_rest_.insert(job);
    if (!pod.is_finished()) this->job(job);  // it does not rest while it has such pods
  }
  if (pod.is_finished() || place_of(pod).empty()) return;
  auto& use = use_[place_of(pod)];
  use.used += pod.requests;
  use.pods.insert(pod.key);
}

void Cluster::discount(const Pod& pod) {
  if (pod.worker) {
    const auto found = pods_by_job_.find({pod.key.ns, pod.worker->job});
    found->second.erase(pod.key);
    may_rest_.insert(found->first);
    if (found->second.empty()) pods_by_job_.erase(found);
  }
  if (pod.is_finished() || place_of(pod).empty()) return;
  const auto found = use_.find(place_of(pod));
  Use& use = found->second;
  use.pods.erase(pod.key);
  if (use.pods.empty()) {
    use_.erase(found);
    return;
  }
  // Added up anew: sums saturate, so that taking away what one pod asks for would not give back what they were before it came.
  use.used = {};
  for (const auto& key : use.pods) use.used += pods_.at(key).requests;
}

}  // namespace trainyard::decide
