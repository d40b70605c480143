#pragma once
// Where what the cache knows comes from.

#include <cstddef>
#include <string>
#include <vector>

#include "controller/decide/cluster.h"
#include "controller/kube/kube_api.h"

namespace trainyard::cache {

/// What is watched; where the whole cluster is, the value is a batch's `target`, an index of watch_targets().
enum class Watched : std::size_t { kJobs, kPods, kNodes, kClaims, kVolumes, kPriorityClasses, kQueues, kNamespaces };
inline constexpr std::size_t kNumWatched = 8;
/// Jobs; all pods and nodes of the cluster, since every pod takes up room; and the PersistentVolumeClaims that templates may name, with
/// the volumes behind them, not all of which every node can mount; PriorityClasses, which say who goes first; TrainingQueues, and the namespaces that may use them.
/// Where the controller runs the jobs of some namespaces (Settings::namespaces), one target for each of them in the place of jobs and claims;
/// and where it sees nothing else (Settings::sees_cluster), the same of pods, and none of the rest.
std::vector<kube::WatchTarget> watch_targets(const decide::Settings& settings = {});

/// One of watch_targets(), with what it has; `ns` is empty where it is read everywhere.
struct Source {
  Watched kind;
  std::string ns;
  kube::WatchTarget target;
};
std::vector<Source> sources(const decide::Settings& settings);

}  // namespace trainyard::cache
