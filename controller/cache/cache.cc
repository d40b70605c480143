#include "controller/cache/cache.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "controller/cache/decode.h"
#include "controller/cache/expected_pod.h"
#include "controller/decide/conditions.h"

namespace trainyard::cache {
namespace {

using contract::Time;
using decide::ObjectKey;

std::int64_t to_revision(const std::string& text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

ObjectKey job_of(const decide::Pod& pod) { return {pod.key.ns, pod.worker->job}; }

/// Whether schedule() may decide otherwise now that the pod is there, which it expected.
bool is_as_expected(const decide::Pod& expected, decide::Pod pod) {
  pod.uid = expected.uid;
  pod.created = expected.created;
  return !decide::matters_to_schedule(expected, pod);
}

}  // namespace

Cache::Cache(decide::Settings settings) {
  for (auto& source : sources(settings)) progress_.push_back({.kind = source.kind, .ns = std::move(source.ns)});
  cluster_.settings = std::move(settings);
}

const Cache::Progress& Cache::progress(Watched kind, const std::string& ns) const {
  static const Progress kUnwatched;
  const auto found = std::find_if(progress_.begin(), progress_.end(),
                                  [&](const Progress& item) { return item.kind == kind && item.covers(ns); });
  return found == progress_.end() ? kUnwatched : *found;
}

bool Cache::synced() const {
  return std::all_of(progress_.begin(), progress_.end(), [](const Progress& progress) { return progress.listed; });
}

Changes Cache::take_changes() {
  cluster_.pack_resting_jobs();
  if (changes_.room || !changes_.jobs.empty()) changes_.queues = !cluster_.queues().empty();
  return std::exchange(changes_, {});
}

void Cache::apply(const kube::WatchBatch& batch, Time now) {
  if (batch.target >= progress_.size()) return;
  Progress& at = progress_[batch.target];
  const Watched kind = at.kind;
  const std::int64_t revision = to_revision(batch.resource_version);
  if (batch.relisted) {
    if (kind == Watched::kNodes && at.listed && batch.server_was_away) {
      outage_start_ = at.heard;
      outage_grace_end_ = now + kOutageGrace;
    }
    if (revision < at.watched) {  // the server's store was set back to a backup: what was believed counts for nothing
      at.seen = 0;
      erase_missing(at, {}, std::numeric_limits<std::int64_t>::max());
      assumed_pods_.clear();
      gone_.clear();
    }
    replace(batch);
  } else {
    for (const auto& event : batch.events) {
      const std::int64_t of_event = revision_of(*event.object);
      const bool is_news = of_event == 0 || of_event > at.seen;
      if (event.type == kube::EventType::kDeleted) {
        gone_.erase(uid_of(*event.object));
        if (is_news) erase(kind, key_of(*event.object), uid_of(*event.object));
      } else if (is_news) {
        put(kind, *event.object);
      }
      at.seen = std::max(at.seen, of_event);
    }
    at.seen = std::max(at.seen, revision);
  }
  at.watched = revision != 0 ? revision : at.watched;
  at.heard = now;
}

void Cache::apply_list(const kube::WatchBatch& batch, Time) {
  if (batch.target < progress_.size()) replace(batch);
}

void Cache::replace(const kube::WatchBatch& batch) {
  Progress& at = progress_[batch.target];
  const std::int64_t revision = to_revision(batch.resource_version);
  const bool outdated = at.listed && revision < at.seen;  // whoever told of later changes told of all before them
  if (!batch.has_more) at.listed = true;
  if (outdated) return;
  if (!batch.has_more) erase_missing(at, batch, revision);
  for (const auto& event : batch.events) put(at.kind, *event.object);
  cluster_.pack_resting_jobs();  // a page at a time: all of a list at once would take many times the room
  if (batch.has_more) return;    // what the rest of the list tells may also be told first by somebody else
  at.seen = std::max(at.seen, revision);
  if (at.kind != Watched::kPods) return;
  std::erase_if(assumed_pods_, [&](const auto& item) { return item.second <= revision && at.covers(item.first.ns); });
}

void Cache::erase_missing(const Progress& at, const kube::WatchBatch& batch, std::int64_t revision) {
  const Watched kind = at.kind;
  std::set<ObjectKey> keys;
  std::set<std::string> uids;
  for (const auto& event : batch.events) {
    keys.insert(key_of(*event.object));
    uids.insert(uid_of(*event.object));
  }
  for (const auto& item : batch.earlier) {
    keys.insert({item.ns, item.name});
    uids.insert(item.uid);
  }
  std::vector<std::pair<ObjectKey, std::string>> missing;
  if (kind == Watched::kJobs) {
    const auto is_missing = [&](const ObjectKey& key, const auto& job) {
      return at.covers(key.ns) && !keys.contains(key) && to_revision(job.resource_version) <= revision;
    };
    for (const auto& [key, job] : cluster_.jobs()) {
      if (is_missing(key, job)) missing.emplace_back(key, job.uid);
    }
    for (const auto& [key, job] : cluster_.packed_jobs()) {
      if (is_missing(key, job)) missing.emplace_back(key, job.uid);
    }
  } else if (kind == Watched::kPods) {
    for (const auto& [key, pod] : cluster_.pods()) {
      const auto assumed = assumed_pods_.find(key);
      const bool newer = assumed != assumed_pods_.end() && assumed->second > revision;
      if (at.covers(key.ns) && !keys.contains(key) && !newer && !is_expected(pod)) missing.emplace_back(key, pod.uid);
    }
    std::erase_if(gone_, [&](const auto& item) { return at.covers(item.second) && !uids.contains(item.first); });
  } else if (kind == Watched::kNodes) {
    for (const auto& [name, node] : cluster_.nodes()) {
      if (!keys.contains({"", name})) missing.emplace_back(ObjectKey{"", name}, "");
    }
  } else if (kind == Watched::kVolumes) {
    for (const auto& [name, volume] : cluster_.volumes()) {
      if (!keys.contains({"", name})) missing.emplace_back(ObjectKey{"", name}, "");
    }
  } else if (kind == Watched::kPriorityClasses) {
    for (const auto& [name, priority_class] : cluster_.priority_classes()) {
      if (!keys.contains({"", name})) missing.emplace_back(ObjectKey{"", name}, "");
    }
  } else if (kind == Watched::kQueues) {
    for (const auto& [name, queue] : cluster_.queues()) {
      if (!keys.contains({"", name}) && to_revision(queue.resource_version) <= revision)
        missing.emplace_back(ObjectKey{"", name}, queue.uid);
    }
  } else if (kind == Watched::kNamespaces) {
    for (const auto& [name, name_space] : cluster_.namespaces()) {
      if (!keys.contains({"", name})) missing.emplace_back(ObjectKey{"", name}, "");
    }
  } else {
    for (const auto& [key, claim] : cluster_.claims()) {
      if (at.covers(key.ns) && !keys.contains(key)) missing.emplace_back(key, "");
    }
  }
  for (const auto& [key, uid] : missing) erase(kind, key, uid);
}

void Cache::put(Watched kind, const Json& object) {
  if (gone_.contains(uid_of(object))) return;
  if (kind == Watched::kJobs) put_job(object);
  if (kind == Watched::kNodes) put_node(object);
  if (kind == Watched::kClaims) put_claim(object);
  if (kind == Watched::kVolumes) put_volume(object);
  if (kind == Watched::kPriorityClasses) put_priority_class(object);
  if (kind == Watched::kQueues) put_queue(object);
  if (kind == Watched::kNamespaces) put_namespace(object);
  if (kind != Watched::kPods) return;
  const auto assumed = assumed_pods_.find(key_of(object));
  if (assumed != assumed_pods_.end()) {
    if (revision_of(object) < assumed->second) return;
    assumed_pods_.erase(assumed);
  }
  put_pod(object);
}

void Cache::erase(Watched kind, const ObjectKey& key, const std::string& uid) {
  gone_.erase(uid);
  if (kind == Watched::kNodes) {
    if (cluster_.node(key.name) == nullptr) return;
    cluster_.erase_node(key.name);
    node_changed(key.name);
  } else if (kind == Watched::kClaims) {
    cluster_.erase_claim(key);
    changes_.room = true;
  } else if (kind == Watched::kVolumes) {
    cluster_.erase_volume(key.name);
    changes_.room = true;
  } else if (kind == Watched::kPriorityClasses) {
    cluster_.erase_priority_class(key.name);
    every_job_changed();
  } else if (kind == Watched::kQueues) {
    const auto* queue = cluster_.queue(key.name);
    if (queue == nullptr || queue->uid != uid) return;  // the name has been taken again since
    cluster_.erase_queue(key.name);
    every_job_changed();
  } else if (kind == Watched::kNamespaces) {
    cluster_.erase_namespace(key.name);
  } else if (kind == Watched::kPods) {
    const auto* pod = cluster_.pod(key);
    if (pod == nullptr || pod->uid != uid) return;  // the name has been taken again since
    assumed_pods_.erase(key);
    erase_pod(*pod);
  } else if (const auto* job = cluster_.job(key); job != nullptr && job->uid == uid) {
    cluster_.erase_job(key);
    expected_.erase(key);
    changes_.jobs.insert(key);
    changes_.room = true;
  }
}

void Cache::put_pod(const Json& object) {
  auto pod = decode_pod(object);
  if (!pod) return;
  const auto* old = cluster_.pod(pod->key);
  if (old != nullptr) {
    if (*old == *pod) return;
    touch_job_of(*old);
    if (old->uid != pod->uid) pod_by_uid_.erase(old->uid);
  }
  touch_job_of(*pod);
  const bool was_expected = old != nullptr && is_expected(*old) && is_as_expected(*old, *pod);
  if (old == nullptr || (!was_expected && decide::matters_to_schedule(*old, *pod))) changes_.room = true;
  if (pod->worker) {
    pod_by_uid_[pod->uid] = pod->key;
  } else {
    pod_by_uid_.erase(pod->uid);  // somebody took its labels away
  }
  cluster_.put(std::move(*pod));
}

void Cache::put_node(const Json& object) {
  auto node = decode_node(object, cluster_.settings.unhealthy_conditions);
  if (!node) return;
  if (!node->ready && node->ready_since >= outage_start_ && node->ready_since <= outage_grace_end_) {
    node->ready_since = outage_grace_end_;
  }
  const auto* old = cluster_.node(node->name);
  if (old != nullptr && *old == *node) return;
  const std::string name = node->name;
  cluster_.put(std::move(*node));
  node_changed(name);
}

void Cache::put_claim(const Json& object) {
  auto claim = decode_claim(object);
  if (!claim) return;
  const auto* old = cluster_.claim(claim->key);
  if (old != nullptr && *old == *claim) return;
  cluster_.put(std::move(*claim));
  changes_.room = true;
}

void Cache::put_volume(const Json& object) {
  auto volume = decode_volume(object);
  if (!volume) return;
  const auto* old = cluster_.volume(volume->name);
  if (old != nullptr && *old == *volume) return;
  cluster_.put(std::move(*volume));
  changes_.room = true;
}

void Cache::put_priority_class(const Json& object) {
  auto found = decode_priority_class(object);
  if (!found) return;
  const auto old = cluster_.priority_classes().find(found->name);
  if (old != cluster_.priority_classes().end() && old->second == *found) return;
  cluster_.put(std::move(*found));
  every_job_changed();
}

void Cache::put_queue(const Json& object, std::optional<Time> written) {
  auto queue = decode_queue(object);
  if (!queue) return;
  const auto* old = cluster_.queue(queue->name);
  const bool same = old != nullptr && old->uid == queue->uid;
  if (same && written) queue->status_written = *written;
  if (same && !written) queue->status_written = old->status_written;
  const std::int64_t revision = revision_of(object);
  if (same && revision != 0 && revision <= to_revision(old->resource_version)) {
    if (!written) return;
    decide::Queue known = *old;  // the watch was faster than the answer to the write
    known.status_written = *written;
    return cluster_.put(std::move(known));
  }
  const bool is_news = !same || !decide::have_same_spec(*old, *queue);
  cluster_.put(std::move(*queue));
  changes_.queues = true;
  if (is_news) every_job_changed();
}

void Cache::put_namespace(const Json& object) {
  auto found = decode_namespace(object);
  if (!found) return;
  const auto* old = cluster_.name_space(found->name);
  if (old != nullptr && *old == *found) return;
  const std::string name = found->name;
  cluster_.put(std::move(*found));
  const auto change_jobs_of = [&](const auto& jobs) {
    for (auto job = jobs.lower_bound({name, ""}); job != jobs.end() && job->first.ns == name; ++job) {
      changes_.jobs.insert(job->first);
      changes_.room = true;
    }
  };
  change_jobs_of(cluster_.jobs());
  change_jobs_of(cluster_.packed_jobs());
}

/// Jobs may name a class or a queue that is there only now.
void Cache::every_job_changed() {
  for (auto& key : cluster_.job_keys()) changes_.jobs.insert(std::move(key));
  changes_.room = true;
}

void Cache::put_job(const Json& object, std::optional<Time> written) {
  const auto* old = cluster_.job(key_of(object));
  const std::int64_t revision = revision_of(object);
  const bool same = old != nullptr && old->uid == uid_of(object);
  // Also one that had the name before.
  const bool is_older = old != nullptr && revision != 0 && revision <= to_revision(old->resource_version);
  if (is_older) {
    if (same && written) {  // the watch was faster than the answer to the write
      decide::Job known = *old;
      known.status_written = *written;
      cluster_.put(std::move(known));
    }
    return;
  }
  auto job = decode_job(object, same ? old : nullptr);
  if (!job) return;
  if (same) {
    job->status_written = old->status_written;
    if (!written && is_foreign(*old, *job)) changes_.foreign_status = true;
  } else if (old != nullptr) {
    cluster_.erase_job(job->key);  // another one of that name: what was known of the first is of no use
  }
  if (written) job->status_written = *written;
  changes_.jobs.insert(job->key);
  if (!same || decide::matters_to_schedule(*old, *job)) changes_.room = true;
  cluster_.put(std::move(*job));
}

bool Cache::is_foreign(const decide::Job& known, const decide::Job& now) {
  if (now.status == known.status) return false;
  const auto expected = expected_.find(known.key);
  return expected == expected_.end() || expected->second != now.status;
}

void Cache::erase_pod(const decide::Pod& pod) {
  touch_job_of(pod);
  changes_.room = true;
  pod_by_uid_.erase(pod.uid);
  const ObjectKey key = pod.key;
  cluster_.erase_pod(key);
}

void Cache::touch_job_of(const decide::Pod& pod) {
  if (pod.worker) changes_.jobs.insert(job_of(pod));
}

void Cache::node_changed(const std::string& name) {
  changes_.room = true;
  for (const auto* pod : cluster_.pods_on(name)) {
    if (pod->worker) changes_.jobs.insert(job_of(*pod));
  }
}

void Cache::apply(const agents::Observation& observation, Time now) {
  const auto found = pod_by_uid_.find(observation.pod_uid);
  if (found == pod_by_uid_.end()) return;
  const auto* known = cluster_.agent(observation.pod_uid);
  decide::AgentView view = known != nullptr ? *known : decide::AgentView{};
  const bool reachable = observation.state.has_value();
  if (known == nullptr || known->reachable != reachable) view.since = now;
  view.reachable = reachable;
  view.error = observation.error;
  view.other_key = observation.other_key;
  if (reachable) view.state = observation.state;
  if (known != nullptr && *known == view) return;
  // Whether a pod of a gang that waits for others can be kept depends on its agent.
  const ObjectKey key = job_of(*cluster_.pod(found->second));
  const bool turns = known == nullptr || known->reachable != view.reachable || known->other_key != view.other_key;
  const auto* job = turns ? cluster_.job(key) : nullptr;
  if (job != nullptr && !decide::is_true(job->status, decide::condition::kPlaced)) changes_.room = true;
  cluster_.put_agent(observation.pod_uid, std::move(view));
  changes_.jobs.insert(key);
}

void Cache::forget_agents() {
  for (const auto& [uid, key] : pod_by_uid_) cluster_.erase_agent(uid);
}

}  // namespace trainyard::cache
