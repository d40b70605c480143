#include "controller/decide/unseen_nodes.h"

#include <algorithm>
#include <set>
#include <string>

#include "controller/decide/starting.h"
#include "controller/decide/text_hash.h"

namespace trainyard::decide {
namespace {

using contract::Problem;

constexpr const char* kSeesNothingElse =
    "this controller reads nothing but its namespaces (the chart's values watchNamespaces and readCluster)";

}  // namespace

std::vector<Problem> beyond_namespaces(const contract::TrainingJobSpec& spec) {
  std::vector<Problem> out;
  const auto refuse = [&out](const char* field, const std::string& why) {
    out.push_back({field, why + ", and " + kSeesNothingElse});
  };
  if (spec.placement.binding == contract::Binding::kDirect) {
    refuse(
        "spec.placement.binding",
        "must be Scheduler, so that kube-scheduler chooses the nodes: Direct takes sight of the nodes and of all pods on them");
  }
  if (spec.placement.pack) refuse("spec.placement.pack", "must be left out: it takes sight of the nodes");
  if (spec.queue) refuse("spec.queue", "must be left out: TrainingQueues are of the cluster");
  if (spec.dryRun) refuse("spec.dryRun", "must be left out: what would become of the job takes sight of the nodes");
  if (spec.workers.minCount && *spec.workers.minCount < spec.workers.count) {
    refuse("spec.workers.minCount",
           "must be spec.workers.count or left out: how many workers there is room for takes sight of the nodes");
  }
  if (spec.workers.spares > 0) {
    refuse("spec.workers.spares",
           "must be 0 or left out: whether there is room for spares beside the gang takes sight of the nodes");
  }
  return out;
}

bool await_nodes(Review& review) {
  if (review.cluster.settings.sees_cluster) return false;
  const Worker* waits = nullptr;
  std::int64_t with_node = 0;
  Time news{};
  for (const auto& worker : review.gang.workers) {
    if (worker.pod == nullptr || worker.pod->is_finished()) continue;
    const Pod& pod = *worker.pod;
    if (pod.node.empty()) {
      if (waits == nullptr) waits = &worker;
      news = std::max(news, pod.created);
    } else {
      ++with_node;
      news = std::max(news, pod.worker->scheduled_at.value_or(pod.created));
    }
  }
  if (waits == nullptr || with_node == 0) return false;
  const std::chrono::seconds limit(review.job.spec.lifecycle.startTimeoutSeconds);
  if (review.now < news + limit) {
    review.look_again(news + limit);
    return false;
  }
  review.set(condition::kPlaced, false, reason::kPartlyScheduled,
             "kube-scheduler found nodes for " + std::to_string(with_node) + " of " + std::to_string(review.gang.workers.size()) +
                 " workers, and for no other one within lifecycle.startTimeoutSeconds, " + std::to_string(limit.count()) +
                 " s: the gang leaves them to others for a while; " + name_of_worker(*waits) + " " + waits_for(*waits));
  return true;
}

Time stands_back_until(const Cluster& cluster, const Job& job) {
  const std::string hash = text_hash(job.uid + "/" + std::to_string(job.status.generation));
  const auto share = std::stoll(hash.substr(0, 4), nullptr, 16);  // of 65,536
  const std::chrono::seconds wait = cluster.settings.refused_wait;
  return since_of(job.status, condition::kPlaced) + wait + std::chrono::seconds(3 * wait.count() * share / 65'536);
}

void count_nodes(Review& review) {
  if (review.cluster.settings.sees_cluster || !review.status.placement) return;
  std::set<std::string> nodes;
  for (const auto& worker : review.gang.workers) nodes.insert(worker.pod == nullptr ? "" : worker.pod->node);
  if (!nodes.contains("")) review.status.placement->nodes = static_cast<std::int32_t>(nodes.size());
}

}  // namespace trainyard::decide
