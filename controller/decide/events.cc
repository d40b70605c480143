#include "controller/decide/events.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "controller/decide/conditions.h"
#include "controller/decide/creation.h"
#include "controller/decide/elastic.h"
#include "controller/decide/text_hash.h"
#include "crds/contract/shortened.h"

namespace trainyard::decide {
namespace {

using contract::Condition;
using contract::ConditionStatus;

constexpr std::size_t kLongestNote = 1024;  // the message of an Event, which events.k8s.io/v1 calls note

Event make_event(const Job& job, EventType type, std::string reason, std::string message, const std::string& happening) {
  return {.job = job.key,
          .job_uid = job.uid,
          .type = type,
          .reason = std::move(reason),
          .message = contract::shortened(std::move(message), kLongestNote),
          .name = job.key.name + "." + text_hash(job.uid + "/" + happening)};
}

/// Some reasons are steps on the way to one that is told.
bool is_told(const Condition& item) {
  static constexpr std::array<std::string_view, 9> kSilent{reason::kGangPlaced, reason::kWorkerLost, reason::kWorkersStarting,
                                                           reason::kRestarting, "Finished",          "Suspended",
                                                           "Resumed",           "NoQueue",           reason::kDrained};
  if (item.type == condition::kSuspended) return true;
  if (item.type == condition::kAdmitted) return false;  // Placed tells of it
  if (item.type == condition::kProgressing) return item.reason == "NoProgress";
  if (item.reason == reason::kPreempted) return item.type == condition::kPlaced;
  return std::find(kSilent.begin(), kSilent.end(), item.reason) == kSilent.end();
}

bool is_warning(const Condition& item) {
  if (item.type == condition::kFailed) return true;
  if (item.type == condition::kSuspended || item.reason == reason::kSuspending || item.reason == reason::kDraining ||
      item.reason == reason::kResizing || item.reason == reason::kReserved) {
    return false;
  }
  return item.status == ConditionStatus::kFalse || item.reason == reason::kAgentUnreachable ||
         item.reason == reason::kOtherControllerKey;
}

}  // namespace

std::vector<Action> transition_events(const Job& job, const contract::TrainingJobStatus& next) {
  std::vector<Action> out;
  const auto& last = job.status;
  if (next.uncountedRestarts > last.uncountedRestarts && next.failure) {
    out.push_back(make_event(job, EventType::kWarning, reason::kRestarting,
                             "restart, which lifecycle.maxRestarts does not count: " + next.failure->message,
                             "uncounted/" + std::to_string(next.uncountedRestarts)));
  }
  if (next.restarts > last.restarts && next.failure) {
    out.push_back(make_event(job, EventType::kWarning, reason::kRestarting,
                             "restart " + std::to_string(next.restarts) + " of at most " +
                                 std::to_string(job.spec.lifecycle.maxRestarts) + ": " + next.failure->message,
                             "restart/" + std::to_string(next.restarts)));
  }
  const auto is_new = [&last](const Condition& item) {
    const auto* before = find_condition(last, item.type);
    return before == nullptr || before->status != item.status || before->reason != item.reason;
  };
  const auto* placed = find_condition(next, condition::kPlaced);
  const bool tells_of_place = placed != nullptr && is_new(*placed) && is_told(*placed);
  for (const auto& item : next.conditions) {
    if (!is_new(item) || !is_told(item)) continue;
    // Of a new job: who has a place, or waits for one, was accepted.
    const bool goes_without_saying = item.type == condition::kAccepted && item.status == ConditionStatus::kTrue &&
                                     find_condition(last, condition::kAccepted) == nullptr;
    if (goes_without_saying && tells_of_place) continue;
    const std::string name = item.reason == reason::kCreatingWorkers ? reason::kGangPlaced : item.reason;
    out.push_back(make_event(job, is_warning(item) ? EventType::kWarning : EventType::kNormal, name, item.message,
                             item.type + "/" + item.reason + "/" + job.resource_version));
  }
  return out;
}

Event placed_smaller_event(const Job& job, const contract::TrainingJobStatus& next, const std::string& why) {
  return make_event(job, EventType::kNormal, "PlacedSmaller",
                    placed_message(job.spec, next) + ", since " + why +
                        (can_resize(job.spec) ? "; it grows at a checkpoint when there is room for more"
                                              : "; it has a chance to get more when its workers are next made anew"),
                    "smaller/" + std::to_string(next.generation));
}

Event spare_event(const Job& job, EventType type, const char* reason, std::string message, const Pod& pod) {
  return make_event(job, type, reason, std::move(message), std::string(reason) + "/" + pod.uid);
}

std::vector<Action> notice_events(const Job& job, const GangView& gang) {
  std::vector<Action> out;
  for (const auto& worker : gang.workers) {
    if (worker.agent == nullptr || !worker.agent->state) continue;
    for (const auto& notice : worker.agent->state->notices) {
      if (notice.number <= worker.agent->events_made) continue;
      Event event =
          make_event(job, notice.warning ? EventType::kWarning : EventType::kNormal, notice.reason,
                     name_of_worker(worker) + ": " + notice.message, worker.pod->uid + "/" + std::to_string(notice.number));
      event.pod_uid = worker.pod->uid;
      event.notice = notice.number;
      out.push_back(std::move(event));
    }
  }
  return out;
}

}  // namespace trainyard::decide
