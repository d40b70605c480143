#include "controller/reconcile/agent_targets.h"

#include <utility>

#include "crds/contract/signature.h"

namespace trainyard::reconcile {
namespace {

std::string address_of(const decide::WorkerPod& pod) {
  const std::string& ip = pod.ip;
  const std::string port = ":" + std::to_string(pod.agent_port);
  return ip.find(':') == std::string::npos ? ip + port : "[" + ip + "]" + port;
}

}  // namespace

AgentTargets::AgentTargets(Executor& executor, agents::AgentApi& api, std::string controller_key)
    : executor_(executor), api_(api), controller_key_(std::move(controller_key)) {}

void AgentTargets::set(const decide::ObjectKey& key, const decide::Cluster& cluster, const Wanted& wanted) {
  const auto* job = cluster.job(key);
  if (job == nullptr || wanted.empty()) return erase(key);
  std::set<std::string>& held = pods_[key];
  std::set<std::string> next;
  for (const auto* pod : cluster.pods_of(*job)) {
    const auto found = wanted.find(pod->uid);
    if (found == wanted.end() || pod->worker->ip.empty()) continue;
    next.insert(pod->uid);
    const auto known = targets_.find(pod->uid);
    const std::string address = address_of(*pod->worker);
    if (known != targets_.end() && known->second.address == address && known->second.assignment == found->second) continue;
    put({.pod_uid = pod->uid,
         .address = address,
         .key = contract::job_key(controller_key_, job->uid),
         .assignment = found->second});
  }
  for (const auto& uid : held) {
    if (!next.contains(uid)) remove(uid);
  }
  held = std::move(next);
  if (held.empty()) pods_.erase(key);
}

void AgentTargets::erase(const decide::ObjectKey& job) {
  const auto found = pods_.find(job);
  if (found == pods_.end()) return;
  for (const auto& uid : found->second) remove(uid);
  pods_.erase(found);
}

void AgentTargets::keep(const decide::Cluster& cluster) {
  std::erase_if(pods_, [&](const auto& item) {
    if (cluster.job(item.first) != nullptr) return false;
    for (const auto& uid : item.second) remove(uid);
    return true;
  });
}

void AgentTargets::clear() {
  const auto all = std::exchange(targets_, {});
  for (const auto& [uid, target] : all) changes_[uid].reset();
  pods_.clear();
  flush_soon();
}

void AgentTargets::put(agents::Target target) {
  const std::string uid = target.pod_uid;
  changes_[uid] = target;
  targets_[uid] = std::move(target);
  flush_soon();
}

void AgentTargets::remove(const std::string& pod_uid) {
  if (targets_.erase(pod_uid) == 0) return;
  changes_[pod_uid].reset();
  flush_soon();
}

void AgentTargets::flush_soon() {
  if (std::exchange(flush_posted_, true)) return;
  executor_.brain([this] {
    flush_posted_ = false;
    api_.change_targets(std::exchange(changes_, {}));
  });
}

}  // namespace trainyard::reconcile
