#include "controller/decide/creation.h"

#include <algorithm>

#include "controller/decide/elastic.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/unseen_nodes.h"

namespace trainyard::decide {
namespace {

std::string counted(std::int32_t number, const char* noun) {
  return std::to_string(number) + " " + noun + (number == 1 ? "" : "s");
}

/// Why pods are missing, as far as the API server said.
std::string words_of(const Refusal* refusal) {
  return refusal == nullptr ? "" : ": the API server refuses to " + refusal->request + ": " + refusal->message;
}

}  // namespace

std::string placed_message(const contract::TrainingJobSpec& spec, const contract::TrainingJobStatus& status) {
  const std::int32_t size = gang_size(spec, status), wanted = spec.workers.count;
  const std::string workers =
      size >= wanted ? counted(size, "worker") : std::to_string(size) + " of " + counted(wanted, "worker");
  const std::int32_t nodes = status.placement ? status.placement->nodes : 0;
  return nodes == 0 ? workers + ", whose nodes kube-scheduler chooses" : workers + " on " + counted(nodes, "node");
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
    return false;
  }
  const auto limit = std::chrono::seconds(review.job.spec.lifecycle.startTimeoutSeconds);
  const Time over = since_of(review.status, condition::kPlaced) + limit;
  const Refusal* refusal = review.cluster.refusal(review.job);
  const std::string which = std::to_string(missing) + " of " + counted(static_cast<std::int32_t>(workers.size()), "worker");
  if (const std::string change = template_change(review.job, review.cluster.settings); !change.empty()) {
    review.set(condition::kPlaced, false, reason::kGangRemoved, change + " before all workers were created");
  } else if (review.now >= over) {
    review.set(condition::kPlaced, false, reason::kGangRemoved,
               which + " could not be created within lifecycle.startTimeoutSeconds, " + std::to_string(limit.count()) + " s" +
                   words_of(refusal));
  } else {
    review.look_again(over);
    review.set(condition::kPlaced, true, reason::kCreatingWorkers,
               refusal == nullptr ? placed : placed + "; " + which + " could not be created yet" + words_of(refusal));
  }
  return true;
}

Time makes_room_until(const Cluster& cluster, const Job& job) {
  if (reason_of(job.status, condition::kPlaced) == reason::kPartlyScheduled) return stands_back_until(cluster, job);
  const bool was_refused = reason_of(job.status, condition::kPlaced) == reason::kGangRemoved && cluster.refusal(job) != nullptr &&
                           template_change(job, cluster.settings).empty();
  return was_refused ? since_of(job.status, condition::kPlaced) + cluster.settings.refused_wait : Time{};
}

}  // namespace trainyard::decide
