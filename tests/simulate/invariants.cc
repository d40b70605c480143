#include "tests/simulate/invariants.h"

#include <algorithm>

#include "controller/cache/decode.h"
#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "crds/contract/validate.h"

namespace trainyard::simulate {
namespace {

using contract::Phase;

constexpr seconds kPartialInterval{5};

bool ended(const contract::TrainingJobStatus& status) {
  return status.phase == Phase::kSucceeded || status.phase == Phase::kFailed;
}

bool may_have(const contract::TrainingJobSpec& spec, std::int32_t workers) {
  if (workers > spec.workers.count || workers < spec.workers.minCount.value_or(spec.workers.count)) return false;
  // Some specs of stories have what the API server would refuse at any size.
  const auto problems = [&spec](std::int32_t size) { return contract::to_text(contract::validate(decide::at_size(spec, size))); };
  return problems(workers) == problems(spec.workers.count);
}

}  // namespace

Invariants::Invariants(World& world) : world_(world) {
  world_.api.on_change(test::kJobs, [this](const test::FakeKubeApi::Change& change) { job_changed(change); });
  world_.api.on_change(test::kPodsPath, [this](const test::FakeKubeApi::Change& change) { pod_changed(change); });
  watch_partial_gangs();
}

void Invariants::fail(const std::string& what) {
  violations_.push_back("at " + std::to_string(world_.time.uptime().count()) + " ms: " + what);
}

std::vector<std::string> Invariants::violations() const {
  std::vector<std::string> out = violations_;
  for (const auto& [uid, truth] : world_.workers.truths())
    out.insert(out.end(), truth.violations.begin(), truth.violations.end());
  const auto& of_programs = world_.programs.violations();
  out.insert(out.end(), of_programs.begin(), of_programs.end());
  return out;
}

void Invariants::job_changed(const test::FakeKubeApi::Change& change) {
  const auto job = cache::decode_job(*change.object);
  if (change.type == kube::EventType::kDeleted) {
    jobs_.erase(job->uid);
    jobs_were_deleted_ = true;
    return;
  }
  Seen after{.spec = job->spec, .status = job->status};
  const auto before = jobs_.find(job->uid);
  after.highest_priority = after.lowest_priority = priority_of(job->spec);
  check_size(before == jobs_.end() ? nullptr : &before->second, after);
  check_admission(after);
  if (before != jobs_.end()) {
    after.highest_priority = std::max(after.highest_priority, before->second.highest_priority);
    after.lowest_priority = std::min(after.lowest_priority, before->second.lowest_priority);
    after.partial_since = before->second.partial_since;
    after.rewound = before->second.rewound;
    compare(job->uid, before->second, after);
  }
  jobs_[job->uid] = std::move(after);
}

int Invariants::priority_of(const contract::TrainingJobSpec& spec) const {
  const Json* found = spec.priorityClassName ? world_.api.get(test::kPriorityClasses, {"", *spec.priorityClassName}) : nullptr;
  return found == nullptr ? 0 : found->at("value").get<int>();
}

/// A gang gets no other number of workers than its spec, as it is at that write, allows; or the one that it had before it grew.
void Invariants::check_size(const Seen* before, const Seen& after) {
  if (!after.status.placement) return;
  const auto size = after.status.placement->workers.value_or(0);
  const auto had = before != nullptr && before->status.placement ? before->status.placement->workers : std::nullopt;
  if (had == size) return;
  const auto& resize = before == nullptr ? std::nullopt : before->status.resize;
  if (had && size < *had && resize && resize->workers == size) return;
  if (!may_have(after.spec, size)) fail("a gang of " + std::to_string(size) + " workers");
}

/// A gang that has its place holds quota for its workers, for no more and no fewer; one that is to grow for those that come as well.
void Invariants::check_admission(const Seen& after) {
  const auto& status = after.status;
  const bool has_place = decide::is_true(status, decide::condition::kPlaced) && status.placement;
  if (!status.admission || !has_place || ended(status) || decide::is_vacating(status)) return;  // all of it is about to go
  const auto held = status.admission->resources.find("cpu");                                    // each worker asks for one
  if (held == status.admission->resources.end() || admission_changes) return;
  const int size = decide::gang_size(after.spec, status);
  const bool is_resizing = decide::reason_of(status, decide::condition::kRunning) == decide::reason::kResizing && status.resize;
  const int most = is_resizing ? std::max(size, status.resize->workers) : size;
  const int cpus = std::stoi(held->second.text);
  if (cpus != size && cpus != most)
    fail("a gang of " + std::to_string(size) + " workers holds quota for " + std::to_string(cpus));
}

void Invariants::compare(const std::string& uid, const Seen& before, Seen& after) {
  const auto& was = before.status;
  const auto& is = after.status;
  const auto& truth = world_.workers.truth(uid);
  if (is.generation < was.generation) fail("the generation went back");
  if (is.restarts < was.restarts) fail("restarts went back");
  if (is.uncountedRestarts < was.uncountedRestarts) fail("uncounted restarts went back");
  if (is.avoidedNodes.size() > 32) fail("too many nodes are remembered");
  if (is.preemptions < was.preemptions || is.preemptions > was.preemptions + 1) fail("preemptions are miscounted");
  const auto is_preempted_by = [&](const auto& other) { return other.second.highest_priority > after.lowest_priority; };
  const bool may_be_by_right = queues && after.spec.queue;
  if (is.preemptions > was.preemptions && !may_be_by_right && std::none_of(jobs_.begin(), jobs_.end(), is_preempted_by) &&
      !jobs_were_deleted_) {
    fail("a job was preempted, and no other is of higher priority");
  }
  if (is.restarts > after.spec.lifecycle.maxRestarts) fail("restarts exceed the budget");
  if (ended(was) && is.phase != was.phase) fail("an ended job changed its phase");
  if (is.phase == Phase::kSucceeded && !world_.work_is_done(uid, after.spec.engine))
    fail("Succeeded, but not all steps were done");
  if (is.progress && is.progress->step > truth.most_steps) fail("the status tells of a step that nobody did");
  if (was.progress && (!is.progress || is.progress->step < was.progress->step)) {
    // A generation begins at the checkpoint: once each, the step that is told may go back. A status may tell the last step of one
    // together with the number of the next.
    if (is.generation <= before.rewound) fail("the step went back without a restart");
    after.rewound = before.rewound + 1;
  }
}

void Invariants::pod_changed(const test::FakeKubeApi::Change& change) {
  const auto pod = cache::decode_pod(*change.object);
  if (!pod->worker) return;
  const auto& worker = *pod->worker;
  auto& place = places_[{worker.job_uid, worker.worker, worker.generation}];
  if (change.type == kube::EventType::kDeleted || pod->is_finished()) {
    place.erase(pod->uid);
    return;
  }
  place.insert(pod->uid);
  const std::string name = decide::to_text(pod->key);
  if (place.size() > 1) fail("two live pods for one worker and generation: " + name);
  if (change.type != kube::EventType::kAdded) return;
  if (queues && !late_pods.contains(name)) check_quota();
  const auto job = jobs_.find(worker.job_uid);
  if (job != jobs_.end() && worker.generation > job->second.status.generation) fail("a pod before its generation: " + name);
  decide::Resources used;
  for (const auto& object : world_.api.list(test::kPodsPath)) {
    const auto other = cache::decode_pod(*object);
    const bool counts = other->worker && other->node == pod->node && !other->is_finished();
    if (counts && !late_pods.contains(decide::to_text(other->key))) used += other->requests;
  }
  const Json& spec = change.object->at("spec");
  for (const auto& claim : decide::read_pod_needs(spec).claims) {
    const Json* found = world_.api.get(test::kClaims, {pod->key.ns, claim});
    const auto known = found == nullptr ? std::nullopt : cache::decode_claim(*found);
    if (!known || (spec.contains("nodeName") && known->volume.empty())) fail("a pod before its claim: " + name);
  }
  const Json* node = world_.api.get(test::kNodes, {"", pod->node});
  if (pod->node.empty()) return;
  if (node == nullptr) return fail("a pod on a node that is not there: " + name);
  const auto allocatable = cache::decode_node(*node)->allocatable;
  for (const auto& [resource, amount] : used.entries()) {
    if (amount > allocatable[resource] && !admission_changes)
      fail("our pods on " + pod->node + " ask for more " + resource + " than it has: " + name);
  }
}

void Invariants::check_quota() {
  std::map<std::string, std::int64_t> used;  // by queue
  std::set<std::string> counted;
  for (const auto& object : world_.api.list(test::kPodsPath)) {
    const auto pod = cache::decode_pod(*object);
    if (!pod->worker || pod->is_finished() || late_pods.contains(decide::to_text(pod->key))) continue;
    const auto job = jobs_.find(pod->worker->job_uid);
    if (job == jobs_.end() || !job->second.status.admission || !counted.insert(job->first).second) continue;
    const auto& admission = *job->second.status.admission;
    used[admission.queue] += std::stoll(admission.resources.at("cpu").text);
  }
  const std::int64_t kept = queues->a_lends ? std::max<std::int64_t>(0, queues->a - *queues->a_lends) : 0;
  const std::int64_t of_a = queues->a - kept;
  const bool holds = used["b"] <= queues->b + std::min(of_a, queues->b_borrows.value_or(of_a)) &&
                     std::max<std::int64_t>(0, used["a"] - kept) + used["b"] <= of_a + queues->b;
  if (!holds) fail("quota exceeded: a uses " + std::to_string(used["a"]) + ", b " + std::to_string(used["b"]));
}

void Invariants::watch_partial_gangs() {
  world_.time.after(kPartialInterval, [this] { watch_partial_gangs(); });
  std::map<std::string, int> live;
  for (const auto& object : world_.api.list(test::kPodsPath)) {
    const auto pod = cache::decode_pod(*object);
    if (pod->worker && !pod->is_finished() && !pod->deletion_time && world_.kubelets.is_up(pod->node))
      ++live[pod->worker->job_uid];
  }
  const milliseconds now = world_.time.uptime();
  for (auto& [uid, job] : jobs_) {
    const int pods = live[uid];
    const int size = decide::gang_size(job.spec, job.status);
    const bool partial = pods > 0 && pods < size && !ended(job.status);
    if (!partial || world_.api.is_away() || world_.leader() < 0) {
      job.partial_since = milliseconds(-1);
    } else if (job.partial_since < milliseconds(0)) {
      job.partial_since = now;
    } else if (now - job.partial_since > seconds(job.spec.lifecycle.startTimeoutSeconds) + partial_slack) {
      fail("a gang has been partial for too long: " + std::to_string(pods) + " of " + std::to_string(size));
      job.partial_since = now;
    }
  }
}

}  // namespace trainyard::simulate
