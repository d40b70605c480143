// What this controller's own writes, and reads beside the watch, do to what is believed: they count until the watch shows them.

#include <string>
#include <utility>
#include <vector>

#include "controller/cache/cache.h"
#include "controller/cache/decode.h"
#include "controller/cache/expected_pod.h"

namespace trainyard::cache {

using contract::Time;
using decide::ObjectKey;

void Cache::expect_pod(const Json& body, Time now) {
  const ObjectKey key = key_of(body);
  if (cluster_.pod(key) != nullptr) return;
  auto pod = decode_pod(body, std::string(kExpected) + decide::to_text(key));
  if (!pod) return;
  pod->created = now;
  cluster_.put(std::move(*pod));
}

void Cache::give_up_pod(const ObjectKey& key) {
  const auto* pod = cluster_.pod(key);
  if (pod != nullptr && is_expected(*pod)) erase_pod(*pod);
}

void Cache::give_up_pods() {
  std::vector<ObjectKey> expected;
  for (const auto& [key, pod] : cluster_.pods()) {
    if (is_expected(pod)) expected.push_back(key);
  }
  for (const auto& key : expected) give_up_pod(key);
}

void Cache::assume_pod(const Json& object) {
  const ObjectKey key = key_of(object);
  const std::int64_t revision = revision_of(object);
  if (gone_.contains(uid_of(object)) || revision <= progress(Watched::kPods, key.ns).seen) return;
  const auto assumed = assumed_pods_.find(key);
  if (assumed != assumed_pods_.end() && revision < assumed->second) return;
  assumed_pods_[key] = revision;
  put_pod(object);
}

void Cache::assume_pod_gone(const ObjectKey& key, const std::string& uid) {
  const auto* pod = cluster_.pod(key);
  if (pod == nullptr || pod->uid != uid) return;
  gone_.emplace(uid, key.ns);
  assumed_pods_.erase(key);
  erase_pod(*pod);
}

void Cache::expect_status(const ObjectKey& key, const contract::TrainingJobStatus& status) { expected_[key] = status; }

/// An answer about a job may come after the watch told of the job's end.
bool Cache::knows_better(const Json& object) const {
  if (gone_.contains(uid_of(object))) return true;
  const ObjectKey key = key_of(object);
  const auto* known = cluster_.job(key);
  const bool holds = known != nullptr && known->uid == uid_of(object);
  const std::int64_t revision = revision_of(object);
  return !holds && revision != 0 && revision <= progress(Watched::kJobs, key.ns).seen;
}

void Cache::assume_status(const Json& object, Time now) {
  expected_.erase(key_of(object));
  if (!knows_better(object)) put_job(object, now);
}

void Cache::assume_job(const Json& object) {
  if (!knows_better(object)) put_job(object);
}

void Cache::assume_queue_status(const Json& object, Time now) {
  const auto* known = cluster_.queue(key_of(object).name);
  if (known != nullptr && known->uid == uid_of(object)) put_queue(object, now);
}

void Cache::assume_job_gone(const ObjectKey& key, const std::string& uid) {
  const auto* job = cluster_.job(key);
  if (job == nullptr || job->uid != uid) return;
  gone_.emplace(uid, key.ns);
  expected_.erase(key);
  cluster_.erase_job(key);
  changes_.jobs.insert(key);
  changes_.room = true;
}

void Cache::put_template_check(const ObjectKey& job, const std::string& job_uid, const std::string& template_hash,
                               decide::TemplateCheck check) {
  const auto* known = cluster_.job(job);
  if (known == nullptr || known->uid != job_uid) return;
  cluster_.put_template_check(job_uid, template_hash, std::move(check));
  changes_.jobs.insert(job);
  changes_.room = true;
}

void Cache::put_refusal(const ObjectKey& key, const std::string& job_uid, const std::string& request,
                        const std::string& message) {
  const auto* job = cluster_.job(key);
  if (job == nullptr || job->uid != job_uid) return;
  // Of many that are refused alike, the first stands for all: else the condition that tells of it would change each time.
  const auto* known = cluster_.refusal(*job);
  if (known != nullptr && known->message == message) return;
  cluster_.put_refusal(job_uid, {.generation = job->status.generation, .request = request, .message = message});
  changes_.jobs.insert(key);
}

void Cache::forget_refusal(const ObjectKey& key) {
  if (const auto* job = cluster_.job(key)) cluster_.erase_refusal(job->uid);
}

void Cache::notice_told(const std::string& pod_uid, std::int64_t number) {
  const auto* known = cluster_.agent(pod_uid);
  if (known == nullptr || known->events_made >= number) return;
  decide::AgentView view = *known;
  view.events_made = number;
  cluster_.put_agent(pod_uid, std::move(view));
}

}  // namespace trainyard::cache
