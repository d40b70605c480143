#pragma once
// Which agents are polled and what they are told: the union of what all jobs' plans want.

#include <map>
#include <optional>
#include <set>
#include <string>

#include "controller/agents/agent_api.h"
#include "controller/decide/cluster.h"
#include "controller/reconcile/executor.h"

namespace trainyard::reconcile {

/// Lives on the brain. Hands changes on at once, but one time for all that change in one turn of the brain's loop.
class AgentTargets {
 public:
  using Wanted = std::map<std::string, std::optional<contract::Assignment>>;  // by pod UID, as in decide::Plan

  AgentTargets(Executor& executor, agents::AgentApi& api, std::string controller_key);

  /// Replaces what the job wants. Pods without an IP address, which nobody can poll, are left out until they have one.
  void set(const decide::ObjectKey& job, const decide::Cluster& cluster, const Wanted& wanted);
  void erase(const decide::ObjectKey& job);
  /// Of jobs that are there alone.
  void keep(const decide::Cluster& cluster);
  /// Polls nobody any more.
  void clear();

 private:
  void put(agents::Target target);
  void remove(const std::string& pod_uid);
  void flush_soon();

  Executor& executor_;
  agents::AgentApi& api_;
  const std::string controller_key_;
  std::map<std::string, agents::Target> targets_;
  std::map<std::string, std::optional<agents::Target>> changes_;  // since they were handed on
  std::map<decide::ObjectKey, std::set<std::string>> pods_;
  bool flush_posted_ = false;
};

}  // namespace trainyard::reconcile
