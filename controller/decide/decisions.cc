#include "controller/decide/decisions.h"

#include <utility>
#include <variant>

#include "controller/decide/plan.h"
#include "controller/decide/text_hash.h"

namespace trainyard::decide {
namespace {

struct ActionWords {
  Json operator()(const WriteStatus& it) const {
    return {{"writeStatus", to_text(it.key)}, {"status", contract::encode(it.status)}};
  }
  Json operator()(const CreatePod& it) const { return {{"createPod", to_text(it.key)}, {"body", it.body}}; }
  Json operator()(const DeletePod& it) const {
    Json out = {{"deletePod", to_text(it.key)}, {"uid", it.uid}, {"why", it.why}};
    if (it.grace_seconds) out["graceSeconds"] = *it.grace_seconds;
    return out;
  }
  Json operator()(const CreateSecret& it) const { return {{"createSecret", to_text(it.key)}, {"job", it.job_uid}}; }
  Json operator()(const CreateService& it) const { return {{"createService", to_text(it.key)}, {"job", it.job_uid}}; }
  Json operator()(const CreateWorkload& it) const {
    return {{"createWorkload", to_text(it.group.key)}, {"job", it.group.job_uid}};
  }
  Json operator()(const CreatePodGroup& it) const {
    return {{"createPodGroup", to_text(it.group.key)}, {"job", it.group.job_uid}};
  }
  Json operator()(const DryRunPod& it) const { return {{"dryRunPod", to_text(it.job)}, {"body", it.body}}; }
  Json operator()(const Event& it) const {
    return {{"event", it.name}, {"job", to_text(it.job)}, {"reason", it.reason}, {"message", it.message}};
  }
  Json operator()(const WriteQueueStatus& it) const {
    return {{"writeQueueStatus", it.name}, {"status", contract::encode(it.status)}};
  }
  Json operator()(const DeleteJob& it) const { return {{"deleteJob", to_text(it.key)}, {"uid", it.uid}, {"why", it.why}}; }
};

/// Nothing where there is nothing to do.
Json words_of(const Plan& plan) {
  Json out;
  for (const auto& phase : plan.phases) {
    Json actions = Json::array();
    for (const auto& action : phase) actions.push_back(std::visit(ActionWords{}, action));
    out["phases"].push_back(std::move(actions));
  }
  for (const auto& [uid, assignment] : plan.agents) out["agents"][uid] = assignment ? contract::encode(*assignment) : Json();
  if (plan.look_again) out["lookAgainMilliseconds"] = plan.look_again->count();
  if (!plan.reasons.empty()) out["reasons"] = plan.reasons;
  return out;
}

}  // namespace

Json decisions(const Cluster& cluster, Time now) {
  // As whoever reads the snapshot decides, who has found nothing out before.
  LayoutAnswers known = std::exchange(cluster.layouts(), {});
  for (const auto& [key, job] : cluster.jobs()) job.device_needs.forget();  // what is reckoned again is the same
  Json out = {{"room", Json::object()}, {"jobs", Json::object()}};
  if (Json words = words_of(plan_queues(cluster, now)); !words.is_null()) out["queues"] = std::move(words);
  for (const auto& [key, plan] : schedule(cluster, now)) {
    if (Json words = words_of(plan); !words.is_null()) out["room"][to_text(key)] = std::move(words);
  }
  for (const auto& key : cluster.job_keys()) {
    if (Json words = words_of(plan_job(cluster, key, now)); !words.is_null()) out["jobs"][to_text(key)] = std::move(words);
  }
  cluster.layouts() = std::move(known);
  return out;
}

std::string hash_of(const Json& decisions) { return json_hash(decisions); }

}  // namespace trainyard::decide
