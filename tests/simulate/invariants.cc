#include "tests/simulate/invariants.h"

#include <algorithm>

#include "controller/cache/decode.h"
#include "controller/decide/conditions.h"
#include "controller/decide/elastic.h"
#include "controller/decide/spares.h"
#include "controller/decide/worker_view.h"
#include "crds/contract/validate.h"
#include "tests/support/builders.h"

namespace trainyard::simulate {
namespace {

using contract::Phase;

constexpr seconds kPartialInterval{5};

bool has_stand_in(const contract::TrainingJobStatus& status, const std::string& pod) {
  const auto& spares = status.spares;
  return spares && std::any_of(spares->standIns.begin(), spares->standIns.end(),
                               [&pod](const contract::StandIn& item) { return pod.ends_with("/" + item.pod); });
}

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
  world_.api.on_change(test::kNodes, [this](const test::FakeKubeApi::Change&) { relieved(); });
  world_.api.on_change(test::kQueues, [this](const test::FakeKubeApi::Change& change) {
    const Json& spec = change.object->at("spec");  // its status changes with every job
    if (std::exchange(queue_specs_[cache::key_of(*change.object).name], spec) != spec) relieved();
  });
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
  const auto before = jobs_.find(cache::uid_of(*change.object));
  if (change.type == kube::EventType::kDeleted) {
    if (before != jobs_.end()) jobs_.erase(before);
    jobs_were_deleted_ = true;
    return relieved();
  }
  const bool is_known = before != jobs_.end();
  Seen after{.job = *cache::decode_job(*change.object, is_known ? &before->second.job : nullptr)};
  const std::string uid = after.job.uid;
  after.highest_priority = after.lowest_priority = priority_of(after.job.spec);
  check_size(is_known ? &before->second : nullptr, after);
  check_admission(after);
  check_stand_ins(uid, is_known ? &before->second : nullptr, after);
  if (is_known) {
    const bool has_ended = ended(after.job.status) && !ended(before->second.job.status);
    if (after.job.generation != before->second.job.generation || after.job.deleting || has_ended) relieved();
    after.highest_priority = std::max(after.highest_priority, before->second.highest_priority);
    after.lowest_priority = std::min(after.lowest_priority, before->second.lowest_priority);
    after.partial_since = before->second.partial_since;
    after.rewound = before->second.rewound;
    compare(uid, before->second, after);
  }
  jobs_[uid] = std::move(after);
}

int Invariants::priority_of(const contract::TrainingJobSpec& spec) const {
  const Json* found = spec.priorityClassName ? world_.api.get(test::kPriorityClasses, {"", *spec.priorityClassName}) : nullptr;
  return found == nullptr ? 0 : found->at("value").get<int>();
}

/// A gang gets no other number of workers than its spec, as it is at that write, allows; or the one that it had before it grew.
void Invariants::check_size(const Seen* before, const Seen& after) {
  if (!after.job.status.placement) return;
  const auto size = after.job.status.placement->workers.value_or(0);
  const auto* placed = before == nullptr || !before->job.status.placement ? nullptr : &*before->job.status.placement;
  const std::int32_t had = placed == nullptr ? -1 : placed->workers.value_or(-1);
  if (had == size) return;
  const auto& resize = before == nullptr ? std::nullopt : before->job.status.resize;
  const bool is_of_use =
      resize && (resize->reason == contract::ResizeReason::kGrewFrom || resize->reason == contract::ResizeReason::kStopping);
  if (size < had && is_of_use && resize->workers == size) return;
  if (!may_have(after.job.spec, size)) fail("a gang of " + std::to_string(size) + " workers");
}

/// A spare takes a place once, and no two have the same at once.
void Invariants::check_stand_ins(const std::string& uid, const Seen* before, const Seen& after) {
  const auto& status = after.job.status;
  if (!status.spares) return;
  auto& known = stand_ins_[uid];
  std::set<std::pair<int, std::int64_t>> places;
  for (const auto& item : status.spares->standIns) {
    const auto [found, is_new] = known.emplace(item.pod, item.worker);
    if (!is_new && found->second != item.worker) fail("spare " + item.pod + " takes a second place");
    if (!places.emplace(item.worker, item.generation).second) fail("two spares in the place of one worker");
  }
  const int had = before == nullptr ? 0 : decide::spares_placed(before->job.status);
  if (status.spares->placed > std::max(had, after.job.spec.workers.spares)) fail("more spares than were asked for");
}

/// A gang that has its place holds quota for its workers, for no more and no fewer; one that is to grow for those that come as well.
void Invariants::check_admission(const Seen& after) {
  const auto& status = after.job.status;
  const bool has_place = decide::is_true(status, decide::condition::kPlaced) && status.placement;
  if (!status.admission || !has_place || ended(status) || decide::is_vacating(status)) return;  // all of it is about to go
  const auto held = status.admission->resources.find("cpu");                                    // each worker asks for one
  if (held == status.admission->resources.end() || admission_changes) return;
  const int size = decide::gang_size(after.job) + decide::spares_placed(status);
  const bool is_resizing = decide::reason_of(status, decide::condition::kRunning) == decide::reason::kResizing &&
                           decide::resize_for(status, contract::ResizeReason::kStopping) != nullptr;
  const int most = is_resizing ? std::max(size, status.resize->workers + decide::spares_placed(status)) : size;
  const int cpus = std::stoi(held->second.text);
  if (cpus != size && cpus != most)
    fail("a gang of " + std::to_string(size) + " workers and spares holds quota for " + std::to_string(cpus));
}

void Invariants::compare(const std::string& uid, const Seen& before, Seen& after) {
  const auto& was = before.job.status;
  const auto& is = after.job.status;
  const auto& spec = after.job.spec;
  const auto& truth = world_.workers.truth(uid);
  if (is.generation < was.generation) fail("the generation went back");
  if (is.restarts < was.restarts) fail("restarts went back");
  if (is.uncountedRestarts < was.uncountedRestarts) fail("uncounted restarts went back");
  if (is.avoidedNodes.size() > 32) fail("too many nodes are remembered");
  if (is.preemptions < was.preemptions || is.preemptions > was.preemptions + 1) fail("preemptions are miscounted");
  const auto is_preempted_by = [&](const auto& other) { return other.second.highest_priority > after.lowest_priority; };
  const bool may_be_by_right = spec.queue.has_value();
  if (is.preemptions > was.preemptions && !may_be_by_right && std::none_of(jobs_.begin(), jobs_.end(), is_preempted_by) &&
      !jobs_were_deleted_) {
    fail("a job was preempted, and no other is of higher priority");
  }
  const auto is_making_room = [](const contract::TrainingJobStatus& status) {
    return decide::reason_of(status, decide::condition::kRunning) == decide::reason::kPreempting;
  };
  if (is_making_room(is) && !is_making_room(was)) check_victim(uid, after);
  if (is.restarts > spec.lifecycle.maxRestarts) fail("restarts exceed the budget");
  if (ended(was) && is.phase != was.phase) fail("an ended job changed its phase");
  if (is.phase == Phase::kSucceeded && !world_.work_is_done(uid, spec.engine)) fail("Succeeded, but not all steps were done");
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
  const bool is_gone = change.type == kube::EventType::kDeleted || pod->is_finished();
  if (is_gone) {
    pods_.erase(pod->uid);
    relieved();
    if (decide::is_rejected(*pod)) rejections_[pod->node] = world_.time.uptime();
  } else {
    pods_[pod->uid] = {.name = decide::to_text(pod->key),
                       .job_uid = pod->worker ? pod->worker->job_uid : "",
                       .node = pod->node.empty() ? pod->nominated_node : pod->node,
                       .requests = pod->requests,
                       .dying = pod->deletion_time.has_value(),
                       .spare = pod->worker && pod->worker->spare};
  }
  if (!pod->worker) return;
  const auto& worker = *pod->worker;
  auto& place = places_[{worker.job_uid, worker.spare ? -*worker.spare : worker.worker, worker.generation}];  // spares begin at 1
  if (is_gone) {
    place.erase(pod->uid);
    return;
  }
  place.insert(pod->uid);
  if (place.size() > 1) fail("two live pods for one worker and generation: " + decide::to_text(pod->key));
  if (change.type == kube::EventType::kAdded) check_new_pod(*pod, change.object->at("spec"));
}

void Invariants::check_new_pod(const decide::Pod& pod, const Json& spec) {
  const std::string name = decide::to_text(pod.key);
  if (!quota.is_empty() && !late_pods.contains(name)) check_quota();
  const auto job = jobs_.find(pod.worker->job_uid);
  if (job != jobs_.end() && pod.worker->generation > job->second.job.status.generation) {
    fail("a pod before its generation: " + name);
  }
  const auto& spare = pod.worker->spare;
  const bool is_known = !spare || job == jobs_.end() || pod.worker->generation < job->second.job.status.generation ||
                        (job->second.job.status.spares && job->second.job.status.spares->made >= *spare);
  if (!is_known && !late_pods.contains(name)) fail("a spare before its number: " + name);
  decide::Resources used;
  for (const auto& [uid, other] : pods_) {
    if (!other.job_uid.empty() && other.node == pod.node && !late_pods.contains(other.name)) used += other.requests;
  }
  for (const auto& claim : decide::read_pod_needs(spec).claims) {
    const Json* found = world_.api.get(test::kClaims, {pod.key.ns, claim});
    const auto known = found == nullptr ? std::nullopt : cache::decode_claim(*found);
    if (!known || (spec.contains("nodeName") && known->volume.empty())) fail("a pod before its claim: " + name);
  }
  if (pod.node.empty()) return;
  const Json* node = world_.api.get(test::kNodes, {"", pod.node});
  if (node == nullptr) return fail("a pod on a node that is not there: " + name);
  const auto allocatable = cache::decode_node(*node)->allocatable;
  for (const auto& [resource, amount] : used.entries()) {
    if (amount > allocatable[resource] && !admission_changes)
      fail("our pods on " + pod.node + " ask for more " + resource + " than it has: " + name);
  }
}

/// Where nothing has changed for so long that every controller must know of it.
void Invariants::check_victim(const std::string& uid, const Seen& victim) {
  const bool is_quota_known = !quota.is_empty() || !victim.job.spec.queue;
  if (admission_changes || !is_quota_known || world_.time.uptime() - relieved_at_ < staleness) return;
  ++num_victims_judged_;
  if (is_needed(uid, victim)) return;
  world_.time.after(kTogether, [this, uid, victim] {
    if (!is_needed(uid, victim)) fail("a job was told to make room that nobody needs: " + decide::to_text(victim.job.key));
  });
}

/// Whether somebody who waits lacks what the victim holds, and may have it: for its higher priority, or since its queue would stay within
/// its own quota and the victim's borrows. Each worker of a story asks for one cpu, and for no more than one GPU, so that no room is lost
/// between them. Where one cannot say, as of what becomes of the room that a gang of which workers are missing waits for, it is needed.
bool Invariants::is_needed(const std::string& uid, const Seen& victim) const {
  const auto& its = victim.job.spec;
  const CpuQuota::Held all = held(true), later = held(false);
  CpuQuota::Held wanted;
  std::int64_t cpus = 0, gpus = 0, all_cpus = 0, all_gpus = 0;
  bool by_priority = false, by_right = false;
  for (const auto& [other_uid, other] : jobs_) {
    const auto& spec = other.job.spec;
    const bool waits = !ended(other.job.status) && !spec.suspend &&
                       decide::reason_of(other.job.status, decide::condition::kPlaced) != decide::reason::kGangPlaced;
    if (other_uid == uid || !waits) continue;
    const std::int64_t least = decide::gang_sizes(spec).back();  // minCount, where so many can share the batch
    const bool is_higher = other.highest_priority > victim.lowest_priority;
    const bool has_pods =
        std::any_of(pods_.begin(), pods_.end(), [&id = other_uid](const auto& pod) { return pod.second.job_uid == id; });
    by_priority = by_priority || is_higher;
    if (spec.queue && quota.is_empty() && is_higher) return true;
    if (!quota.is_empty() && spec.queue) {
      by_right = by_right || (its.queue && quota.stays_within(*spec.queue, least, later, *its.queue) &&
                              quota.borrows(*its.queue, all, *spec.queue));
      wanted[*spec.queue] += least;
    }
    (spec.workers.gpusPerWorker > 0 ? all_gpus : all_cpus) += least;
    if (is_higher || has_pods) (spec.workers.gpusPerWorker > 0 ? gpus : cpus) += least;  // others come after it
  }
  const auto lacks_quota = [&](CpuQuota::Held held) {
    for (const auto& [queue, amount] : wanted) held[queue] += amount;
    return !quota.is_empty() && its.queue && !quota.may_hold(held);
  };
  const Free now = free_without(""), then = free_without(uid);
  const auto lacks_nodes = [&](std::int64_t without_gpu, std::int64_t with_gpu) {
    const bool lacks_cpus = without_gpu + with_gpu > now.cpus && then.cpus > now.cpus;
    // At worst those without GPUs take the cpus that GPUs need.
    const bool gives_gpus = then.gpus > now.gpus || (without_gpu > 0 && then.cpus > now.cpus);
    return lacks_cpus || (with_gpu > 0 && without_gpu + with_gpu > now.gpus && gives_gpus);
  };
  // Who takes quota back takes the nodes along; of several that it takes, some may be on their way.
  return (by_right && (lacks_quota(later) || (lacks_quota(all) && lacks_nodes(all_cpus, all_gpus)))) ||
         (by_priority && (lacks_quota(later) || lacks_nodes(cpus, gpus)));
}

Invariants::Free Invariants::free_without(const std::string& job_uid) const {
  std::map<std::string, decide::Resources> used;
  for (const auto& [uid, pod] : pods_) {
    const auto job = jobs_.find(pod.job_uid);
    const bool leaves =
        pod.dying || (job != jobs_.end() && (job->first == job_uid || decide::is_vacating(job->second.job.status)));
    if (!leaves) used[pod.node] += pod.requests;
  }
  Free sum;
  for (const auto& object : world_.api.list(test::kNodes)) {
    const auto node = cache::decode_node(*object, world_.settings.unhealthy_conditions);
    const auto rejection = rejections_.find(node->name);
    const bool is_avoided = rejection != rejections_.end() &&
                            world_.time.uptime() - rejection->second < world_.settings.rejecting_node_avoided + staleness;
    if (!node->ready || !node->trouble.empty() || !node->taints.empty() || is_avoided) continue;
    const auto& taken = used[node->name];
    const std::int64_t cpus = std::max<std::int64_t>(0, node->allocatable["cpu"] - taken["cpu"]) / 1'000;
    const std::int64_t gpus = std::max<std::int64_t>(0, node->allocatable[test::kGpu] - taken[test::kGpu]);
    sum.cpus += cpus;
    sum.gpus += std::min(cpus, gpus);
  }
  return sum;
}

/// `by_those_that_go_too`: also by gangs that were told to go.
CpuQuota::Held Invariants::held(bool by_those_that_go_too) const {
  CpuQuota::Held out;
  for (const auto& [uid, job] : jobs_) {
    const auto& status = job.job.status;
    if (!status.admission || (decide::is_vacating(status) && !by_those_that_go_too)) continue;
    const bool has_pods =
        std::any_of(pods_.begin(), pods_.end(), [&id = uid](const auto& pod) { return pod.second.job_uid == id; });
    if (ended(status) && !has_pods) continue;  // what it had is in its status still
    out[status.admission->queue] += std::stoll(status.admission->resources.at("cpu").text);
  }
  return out;
}

void Invariants::check_quota() {
  CpuQuota::Held used;
  std::set<std::string> counted;
  for (const auto& [uid, pod] : pods_) {
    if (pod.job_uid.empty() || late_pods.contains(pod.name)) continue;
    const auto job = jobs_.find(pod.job_uid);
    if (job == jobs_.end() || !job->second.job.status.admission || !counted.insert(job->first).second) continue;
    const auto& admission = *job->second.job.status.admission;
    used[admission.queue] += std::stoll(admission.resources.at("cpu").text);
  }
  if (quota.may_hold(used)) return;
  std::string text;
  for (const auto& [queue, amount] : used) text += (text.empty() ? "" : ", ") + queue + " uses " + std::to_string(amount);
  fail("quota exceeded: " + text);
}

void Invariants::watch_partial_gangs() {
  world_.time.after(kPartialInterval, [this] { watch_partial_gangs(); });
  std::map<std::string, int> live;
  for (const auto& [uid, pod] : pods_) {
    if (pod.job_uid.empty() || pod.dying || !world_.kubelets.is_up(pod.node)) continue;
    const auto job = jobs_.find(pod.job_uid);
    if (job == jobs_.end() || !pod.spare || has_stand_in(job->second.job.status, pod.name)) ++live[pod.job_uid];
  }
  const milliseconds now = world_.time.uptime();
  for (auto& [uid, job] : jobs_) {
    const int pods = live[uid];
    const int size = decide::gang_size(job.job);
    const bool partial = pods > 0 && pods < size && !ended(job.job.status);
    if (!partial || world_.api.is_away() || world_.leader() < 0) {
      job.partial_since = milliseconds(-1);
    } else if (job.partial_since < milliseconds(0)) {
      job.partial_since = now;
    } else if (now - job.partial_since > seconds(job.job.spec.lifecycle.startTimeoutSeconds) + partial_slack) {
      fail("a gang has been partial for too long: " + std::to_string(pods) + " of " + std::to_string(size));
      job.partial_since = now;
    }
  }
}

}  // namespace trainyard::simulate
