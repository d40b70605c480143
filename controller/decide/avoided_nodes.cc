#include "controller/decide/avoided_nodes.h"

#include <algorithm>
#include <utility>

#include "controller/decide/lost_connections.h"
#include "controller/decide/start_timeout.h"
#include "crds/contract/hang.h"

namespace trainyard::decide {
namespace {

using contract::AvoidedNode;

constexpr std::chrono::minutes kFirst{10}, kLongest{120};
constexpr std::chrono::minutes kRemembered{120};  // after it was avoided: another failure there is not the first
constexpr std::size_t kMost = 32;                 // as in the schema

Time until_of(const AvoidedNode& entry) { return contract::parse_rfc3339(entry.until).value_or(Time{}); }

std::chrono::minutes span_of(std::int32_t failures) {
  return failures > 4 ? kLongest : std::min(kLongest, kFirst * (1 << (failures - 1)));
}

}  // namespace

void note_failing_node(Review& review, const std::string& node, const std::string& reason) {
  auto& entries = review.status.avoidedNodes;
  std::erase_if(entries, [&review](const AvoidedNode& entry) { return review.now >= until_of(entry) + kRemembered; });
  auto found = std::find_if(entries.begin(), entries.end(), [&node](const AvoidedNode& entry) { return entry.node == node; });
  const auto generation = review.job.status.generation;
  if (found != entries.end() && found->generation == generation) return;
  if (found == entries.end()) found = entries.insert(found, AvoidedNode{.node = node});
  found->reason = reason;
  ++found->failures;
  found->generation = generation;
  found->until = contract::to_rfc3339(review.now + span_of(found->failures));
  std::stable_sort(entries.begin(), entries.end(),
                   [](const AvoidedNode& a, const AvoidedNode& b) { return until_of(a) > until_of(b); });
  if (entries.size() > kMost) entries.resize(kMost);
}

namespace {

/// Of a hang the whole gang's view decides (hang.h), not what each agent thought of its own ranks.
bool is_blamed(const Review& review, const Worker& worker, const contract::Failure& cause) {
  if (cause.reason == kStartTimeout) return is_kept_by_its_node(review, worker);
  if (cause.reason != contract::kRankHung) return worker.blames_node;
  return cause.failureClass == contract::FailureClass::kInfrastructure && cause.rank && cause.worker == worker.index;
}

}  // namespace

std::map<std::string, std::string> failing_nodes(const Review& review, const contract::Failure& cause) {
  std::set<std::string> all;
  std::map<std::string, std::string> failing;
  for (const auto& worker : review.gang.workers) {
    if (worker.pod == nullptr || worker.pod->node.empty()) continue;
    all.insert(worker.pod->node);
    if (!is_blamed(review, worker, cause)) continue;
    failing.emplace(worker.pod->node, worker.failure ? worker.failure->reason : cause.reason);
  }
  if (const auto node = node_that_loses_connections(review, cause)) failing.emplace(*node, cause.reason);
  if (failing.size() > 1 && 2 * failing.size() > all.size()) failing.clear();
  return failing;
}

void note_failing_nodes(Review& review) {
  if (!review.status.failure) return;
  for (const auto& [node, reason] : failing_nodes(review, *review.status.failure)) note_failing_node(review, node, reason);
}

std::set<std::string> avoided_nodes(const Job& job, Time now) {
  std::set<std::string> out;
  for (const auto& entry : job.status.avoidedNodes) {
    if (now < until_of(entry)) out.insert(entry.node);
  }
  return out;
}

bool is_on_failed_node(const contract::TrainingJobStatus& status, const Pod& pod) {
  const auto& entries = status.avoidedNodes;
  return std::any_of(entries.begin(), entries.end(), [&pod](const AvoidedNode& entry) {
    return entry.node == pod.node && pod.worker->generation <= entry.generation;
  });
}

}  // namespace trainyard::decide
