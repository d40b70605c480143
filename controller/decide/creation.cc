#include "controller/decide/creation.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "controller/decide/elastic.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/spares.h"
#include "controller/decide/start_timeout.h"
#include "controller/decide/unseen_nodes.h"
#include "controller/decide/words.h"

namespace trainyard::decide {
namespace {

/// Why pods are missing, as far as the API server said.
std::string words_of(const Refusal* refusal) {
  return refusal == nullptr ? "" : ": the API server refuses to " + refusal->request + ": " + refusal->message;
}

struct Fallback {
  std::int32_t size = 0, refused = 0;  // how many workers the gang can have, and the least number that it can't
};

/// The largest of its sizes, or the one that it had before it grew, for which pods are there.
std::optional<Fallback> fallback(const Review& review, std::int64_t num_pods) {
  auto sizes = gang_sizes(review.job.spec);
  const auto* grew_from = resize_for(review.status, contract::ResizeReason::kGrewFrom);
  if (grew_from != nullptr && grew_from->workers < sizes.back()) sizes.push_back(grew_from->workers);
  Fallback out{.refused = gang_size(review.job)};
  for (const auto size : sizes) {
    if (size >= out.refused) continue;
    if (size <= num_pods) {
      out.size = size;
      return out;
    }
    out.refused = size;
  }
  return std::nullopt;
}

/// The others are not asked for again for a while. Programs of the engine Custom were told how many they are, so they are made anew.
void fall_back(Review& review, const Fallback& to, const std::string& why) {
  const bool is_custom = review.job.spec.engine == contract::Engine::kCustom;
  refuse_size(review.status, to.refused, review.cluster.settings, review.now);
  if (!is_custom && review.status.placement) review.status.placement->workers = to.size;
  review.set(condition::kPlaced, false, is_custom ? reason::kGangRemoved : reason::kResizing,
             "the gang goes on with " + counted(to.size, "worker") + " instead of " + std::to_string(gang_size(review.job)) +
                 ", since " + why);
}

std::string spares_message(const contract::TrainingJobSpec& spec, const contract::TrainingJobStatus& status) {
  if (!status.spares || status.spares->desired == 0 || gang_size(spec, status) < spec.workers.count) return "";
  const std::int32_t wanted = status.spares->desired, placed = status.spares->placed;
  return " and " + (placed < wanted ? std::to_string(placed) + " of " : "") + counted(wanted, "spare");
}

}  // namespace

std::string placed_message(const contract::TrainingJobSpec& spec, const contract::TrainingJobStatus& status) {
  const std::int32_t size = gang_size(spec, status), wanted = spec.workers.count;
  const std::string workers =
      size >= wanted ? counted(size, "worker") : std::to_string(size) + " of " + counted(wanted, "worker");
  const std::int32_t nodes = status.placement ? status.placement->nodes : 0;
  return (nodes == 0 ? workers + ", whose nodes kube-scheduler chooses" : workers + " on " + counted(nodes, "node")) +
         spares_message(spec, status);
}

bool tells_why_not_more(const contract::TrainingJobStatus& status, const std::string& placed) {
  const auto* told = find_condition(status, condition::kPlaced);
  return told != nullptr && told->reason == reason::kGangPlaced && told->message.starts_with(placed_message(placed, ""));
}

bool programs_have_ended(const Job& job, const GangView& gang) {
  return job.spec.engine == contract::Engine::kCustom &&
         std::any_of(gang.workers.begin(), gang.workers.end(),
                     [](const Worker& worker) { return worker.pod != nullptr && worker.pod->worker->exit_code.has_value(); });
}

bool watch_creation(Review& review) {
  const auto& workers = review.gang.workers;
  const auto missing =
      std::count_if(workers.begin(), workers.end(), [](const Worker& w) { return w.state == WorkerState::kMissing; });
  const std::string placed = placed_message(review.job.spec, review.status);
  if (missing == 0 || programs_have_ended(review.job, review.gang)) {
    review.set(condition::kPlaced, true, reason::kGangPlaced, placed);
    forget_resize(review.status, review.now);
    return false;
  }
  const auto limit = std::chrono::seconds(review.job.spec.lifecycle.startTimeoutSeconds);
  const Time over = since_of(review.status, condition::kPlaced) + limit;
  const Refusal* refusal = review.cluster.refusal(review.job);
  const std::string which = std::to_string(missing) + " of " + counted(static_cast<std::int32_t>(workers.size()), "worker");
  const auto smaller = refusal == nullptr ? std::nullopt : fallback(review, std::ssize(workers) - missing);
  const Time falls_back = std::min(over, since_of(review.status, condition::kPlaced) + review.cluster.settings.template_retry);
  if (const std::string change = template_change(review.job, review.cluster.settings); !change.empty()) {
    review.set(condition::kPlaced, false, reason::kGangRemoved, change + " before all workers were created");
  } else if (smaller && review.now >= falls_back) {
    fall_back(review, *smaller, which + " could not be created" + words_of(refusal));
  } else if (review.now >= over) {
    review.set(condition::kPlaced, false, reason::kGangRemoved,
               which + " could not be created within lifecycle.startTimeoutSeconds, " + std::to_string(limit.count()) + " s" +
                   words_of(refusal));
  } else {
    review.look_again(smaller ? falls_back : over);
    review.set(condition::kPlaced, true, reason::kCreatingWorkers,
               refusal == nullptr ? placed : placed + "; " + which + " could not be created yet" + words_of(refusal));
  }
  return true;
}

Time makes_room_until(const Cluster& cluster, const Job& job) {
  if (reason_of(job.status, condition::kPlaced) == reason::kPartlyScheduled) return stands_back_until(cluster, job);
  if (reason_of(job.status, condition::kPlaced) != reason::kGangRemoved) return Time{};
  Time until = starts_again_at(job.status);
  if (cluster.refusal(job) != nullptr) {
    until = std::max(until, since_of(job.status, condition::kPlaced) + cluster.settings.refused_wait);
  }
  return until == Time{} || template_change(job, cluster.settings).empty() ? until : Time{};
}

}  // namespace trainyard::decide
