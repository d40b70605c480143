#include "controller/decide/start_timeout.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "controller/decide/avoided_nodes.h"
#include "controller/decide/starting.h"

namespace trainyard::decide {
namespace {

using contract::Failure;
using contract::FailureClass;

constexpr std::chrono::seconds kFirstWait{10}, kLongestWait{300};

std::chrono::seconds limit_of(const Review& review) {
  return std::chrono::seconds(review.job.spec.lifecycle.startTimeoutSeconds);
}

/// Since when it is waited for the worker; nothing where it is up, or a controller that begins to lead has yet to ask its agent.
std::optional<Time> waited_for_since(const Review& review, const Worker& worker) {
  if (has_refused(worker)) {
    const auto failed = contract::parse_rfc3339(review.status.failure ? review.status.failure->at : "");
    const Time restarted = std::min(failed.value_or(Time{}), review.now);
    return std::max({worker.pod->created, since_of(review.status, condition::kPlaced), restarted});
  }
  if (worker.state != WorkerState::kComing) return std::nullopt;
  Time begun = worker.pod->created;
  if (!review.cluster.settings.sees_cluster) {
    if (worker.pod->node.empty()) return std::nullopt;         // await_nodes()
    begun = worker.pod->worker->scheduled_at.value_or(begun);  // it may have waited for hours before
  }
  if (worker.pod->worker->ip.empty() || review.job.spec.engine == contract::Engine::kCustom) return begun;
  if (worker.agent == nullptr) return std::nullopt;
  return std::max(begun, worker.agent->since);
}

bool is_late(const Review& review, const Worker& worker) {
  const auto since = waited_for_since(review, worker);
  return since && review.now >= *since + limit_of(review);
}

bool some_came_up(const Review& review) {
  const auto& workers = review.gang.workers;
  return std::any_of(workers.begin(), workers.end(), [](const Worker& worker) {
    const bool is_up =
        worker.state == WorkerState::kUp || worker.state == WorkerState::kStopped || worker.state == WorkerState::kSucceeded;
    return is_up && !has_refused(worker);
  });
}

/// And no kubelet says that it would be as bad elsewhere.
bool waits_on_one_node(const GangView& gang) {
  std::set<std::string> nodes;
  for (const auto& worker : gang.workers) {
    if (worker.pod == nullptr || is_stuck(*worker.pod->worker)) return false;
    nodes.insert(worker.pod->node);
  }
  return nodes.size() == 1;
}

/// The gang has not been begun anew, as by a resume, since the last failure, which was another one of these: one that trains in between ends
/// by another failure before it starts again.
bool is_second_in_a_row(const contract::TrainingJobStatus& before) {
  if (!before.failure || before.failure->reason != kStartTimeout) return false;
  const auto failed = contract::parse_rfc3339(before.failure->at);
  const auto begun = contract::parse_rfc3339(before.startTime.value_or(""));
  return !(failed && begun && *begun > *failed);
}

std::string avoided_text(const std::map<std::string, std::string>& nodes) {
  std::string out;
  for (const auto& [node, reason] : nodes) out += (out.empty() ? "; " : ", ") + node;
  return out.empty() ? "" : out + (nodes.size() == 1 ? " is" : " are") + " avoided for a while";
}

}  // namespace

bool is_kept_by_its_node(const Review& review, const Worker& worker) {
  if (worker.state != WorkerState::kComing || !is_late(review, worker)) return false;
  return some_came_up(review) || waits_on_one_node(review.gang);
}

std::optional<Failure> start_timeout(Review& review) {
  const Worker* late = nullptr;
  std::int64_t number = 0;
  for (const auto& worker : review.gang.workers) {
    const auto since = waited_for_since(review, worker);
    if (!since) continue;
    if (is_late(review, worker)) {
      if (late == nullptr) late = &worker;
      ++number;
    } else {
      review.look_again(*since + limit_of(review));
    }
  }
  if (late == nullptr) return std::nullopt;
  Failure cause{.worker = late->index, .reason = kStartTimeout, .at = contract::to_rfc3339(review.now)};
  if (!late->pod->node.empty()) cause.node = late->pod->node;
  const auto at_fault = failing_nodes(review, cause);
  if (!at_fault.empty() && some_came_up(review) && !is_second_in_a_row(review.job.status)) {
    cause.failureClass = FailureClass::kInfrastructure;
  }
  cause.message = std::to_string(number) + " of " + std::to_string(review.gang.workers.size()) +
                  " workers did not come up within lifecycle.startTimeoutSeconds, " + std::to_string(limit_of(review).count()) +
                  " s; " + name_of_worker(*late) + " " + waits_for(*late) + avoided_text(at_fault);
  return cause;
}

Time starts_again_at(const contract::TrainingJobStatus& status) {
  if (!status.failure || status.failure->reason != kStartTimeout || status.failuresInARow <= 0) return Time{};
  const auto failed = contract::parse_rfc3339(status.failure->at);
  if (!failed) return Time{};
  return *failed + std::min(kLongestWait, kFirstWait * (1 << std::min(status.failuresInARow - 1, 10)));
}

}  // namespace trainyard::decide
