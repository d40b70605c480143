#include "controller/decide/spares.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/decide/admission.h"
#include "controller/decide/avoided_nodes.h"
#include "controller/decide/elastic.h"
#include "controller/decide/events.h"
#include "controller/decide/node_health.h"
#include "controller/decide/pod_failure.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/review.h"
#include "controller/decide/topology.h"
#include "controller/decide/traffic.h"

namespace trainyard::decide {
namespace {

using contract::TrainingJobStatus;

/// So many exchanges of places are worth a look.
constexpr std::size_t kMostExchanges = 1'024;

std::string name_of(const Pod& pod) { return "pod " + to_text(pod.key) + (pod.node.empty() ? "" : " on " + pod.node); }

/// Its gang is not whole, and the pods that it has stay.
bool awaits_workers(const TrainingJobStatus& status) {
  static constexpr std::array<std::string_view, 4> kReasons{reason::kWorkerLost, reason::kNoReplacement, reason::kLostRace,
                                                            reason::kResizing};
  return is_false(status, condition::kPlaced) &&
         std::find(kReasons.begin(), kReasons.end(), reason_of(status, condition::kPlaced)) != kReasons.end();
}

bool is_ready(const Cluster& cluster, const TrainingJobStatus& status, const Pod& pod) {
  const auto* agent = cluster.agent(pod.uid);
  const Node* node = cluster.node(pod.node);
  const bool is_up = is_live(pod) && !pod.deletion_time && !pod.worker->exit_code && !pod.worker->ip.empty();
  return is_up && agent != nullptr && agent->reachable && agent->state && !agent->other_key && node != nullptr && node->ready &&
         !is_out_of_service(*node) && !must_leave(cluster, pod) && !is_on_failed_node(status, pod) &&
         pod.worker->template_hash == status.templateHash;
}

/// Until when its ranks may run; nothing where they have ended, or nobody waits for them any more.
std::optional<Time> ranks_run_until(const Cluster& cluster, const Worker& worker, Time now) {
  const bool have_ended =
      worker.said != nullptr && (worker.state == WorkerState::kFailed || worker.state == WorkerState::kStopped);
  if (worker.pod == nullptr || have_ended) return std::nullopt;
  return may_run_until(cluster, *worker.pod, now);
}

struct TakeOver {
  std::vector<const Worker*> lost;  // no more than there are spares, the first of them
  std::vector<const Pod*> spares;   // that are ready
  std::optional<Time> again;        // when others may be out of the way
};

TakeOver possible(const Cluster& cluster, const Job& job, const TrainingJobStatus& status, const GangView& gang, Time now) {
  TakeOver out;
  if (gang.spares.empty() || !status.spares || !awaits_workers(status)) return out;
  if (!template_change(job, cluster.settings).empty()) return out;
  for (const auto& worker : gang.workers) {
    const bool stays = worker.reusable && !is_on_failed_node(status, *worker.pod);
    if (stays) continue;
    if (const auto until = ranks_run_until(cluster, worker, now)) {
      out.again = std::min(out.again.value_or(Time::max()), *until);
    } else {
      out.lost.push_back(&worker);
    }
  }
  if (out.lost.empty()) return out;
  for (const auto* pod : gang.spares) {
    if (is_idle_spare(status, *pod) && is_ready(cluster, status, *pod)) out.spares.push_back(pod);
  }
  if (out.spares.size() < out.lost.size()) out.lost.resize(out.spares.size());
  return out;
}

/// Puts the spares that get the lost places first, in their order.
void match(const Cluster& cluster, const Job& job, const GangView& gang, TakeOver& places) {
  const auto size = static_cast<std::int32_t>(gang.workers.size());
  const auto links = links_of(size == job.spec.workers.count ? job.spec : at_size(job.spec, size));
  if (links.empty() || places.spares.size() < 2 || places.lost.size() * places.spares.size() > kMostExchanges) return;
  const Topology topology(cluster);
  std::vector<std::string> nodes(gang.workers.size());
  for (const auto& worker : gang.workers) {
    if (worker.pod != nullptr) nodes[static_cast<std::size_t>(worker.index)] = worker.pod->node;
  }
  const auto crossed = [&] {
    for (std::size_t i = 0; i < places.lost.size(); ++i) {
      nodes[static_cast<std::size_t>(places.lost[i]->index)] = places.spares[i]->node;
    }
    return crossings(topology, links, nodes);
  };
  Crossings least = crossed();
  for (bool goes_on = true; goes_on;) {
    goes_on = false;
    for (std::size_t i = 0; i < places.lost.size(); ++i) {
      for (std::size_t k = i + 1; k < places.spares.size(); ++k) {
        std::swap(places.spares[i], places.spares[k]);
        if (Crossings now = crossed(); now < least) {
          least = std::move(now);
          goes_on = true;
        } else {
          std::swap(places.spares[i], places.spares[k]);
        }
      }
    }
  }
}

/// Of those whose agent has yet to answer, or does so no more.
std::optional<Time> silent_since(const Cluster& cluster, const Pod& pod) {
  const auto* agent = cluster.agent(pod.uid);
  if (agent == nullptr)
    return pod.worker->ip.empty() ? std::optional(pod.created) : std::nullopt;  // else it is about to be asked
  if (agent->reachable && agent->state) return std::nullopt;
  return std::max(pod.created, agent->since);
}

/// Nothing where it stays.
std::optional<std::string> why_it_goes(Review& review, const Pod& pod) {
  const auto& cluster = review.cluster;
  if (pod.is_finished() || pod.worker->exit_code) return "has ended: " + pod_ended(pod).message;
  if (!pod.node.empty() && is_node_lost(cluster, pod.node, review.now)) return "is lost, since its node is";
  if (const auto departure = must_leave(cluster, pod)) return "leaves, since " + departure->why;
  if (is_on_failed_node(review.status, pod)) return "leaves its node, which failed the job";
  if (pod.worker->template_hash != review.status.templateHash) return "was made from another template than the gang";
  const auto* agent = cluster.agent(pod.uid);
  if (agent != nullptr && agent->other_key) return "was started under another controller key";
  const std::chrono::seconds limit(review.job.spec.lifecycle.startTimeoutSeconds);
  const auto since = silent_since(cluster, pod);
  if (!since) return std::nullopt;
  if (review.now >= *since + limit) {
    return "did not answer within lifecycle.startTimeoutSeconds, " + std::to_string(limit.count()) + " s" +
           (pod.worker->waiting_reason.empty() ? "" : ": " + pod.worker->waiting_reason + ": " + pod.worker->waiting_message);
  }
  review.look_again(*since + limit);
  return std::nullopt;
}

/// Those that stay, the ready ones first.
std::vector<const Pod*> remove_the_lost(Review& review) {
  std::vector<const Pod*> out;
  for (const auto* pod : review.gang.spares) {
    if (pod->deletion_time || !is_idle_spare(review.status, *pod)) continue;
    const auto why = why_it_goes(review, *pod);
    if (!why) {
      out.push_back(pod);
      continue;
    }
    review.events.push_back(
        spare_event(review.job, EventType::kWarning, "SpareLost", "spare " + name_of(*pod) + " " + *why, *pod));
    review.remove(*pod, *why);
  }
  const auto order = [&review](const Pod* pod) {
    return std::pair(!is_ready(review.cluster, review.status, *pod), *pod->worker->spare);
  };
  std::stable_sort(out.begin(), out.end(), [&order](const Pod* a, const Pod* b) { return order(a) < order(b); });
  return out;
}

/// The quota of spares that are gone is given back; the pods of a job ask for the same, all of them.
void keep_quota_of(Review& review, const Pod& pod) {
  const auto pods = std::int64_t{gang_size(review.job.spec, review.status)} + spares_placed(review.status);
  lower_admission(review.status, times(pod.requests, pods));
}

}  // namespace

const contract::StandIn* stand_in_of(const TrainingJobStatus& status, const Pod& pod) {
  if (!status.spares || !pod.worker->spare) return nullptr;
  const auto& all = status.spares->standIns;
  const auto found = std::find_if(all.begin(), all.end(), [&pod](const auto& item) { return item.pod == pod.key.name; });
  return found == all.end() ? nullptr : &*found;
}

bool is_idle_spare(const TrainingJobStatus& status, const Pod& pod) {
  return pod.worker->spare && stand_in_of(status, pod) == nullptr;
}

std::int32_t spares_wanted(const contract::TrainingJobSpec& spec, const TrainingJobStatus& status) {
  const bool has_gang = is_true(status, condition::kPlaced) || awaits_workers(status);
  return has_gang && gang_size(spec, status) >= spec.workers.count ? spec.workers.spares : 0;
}

std::int32_t spares_placed(const TrainingJobStatus& status) { return status.spares ? status.spares->placed : 0; }

void take_over(Review& review) {
  TakeOver places = possible(review.cluster, review.job, review.status, review.gang, review.now);
  if (places.again && *places.again != Time::max()) review.look_again(*places.again);
  if (places.lost.empty()) return;
  match(review.cluster, review.job, review.gang, places);
  auto& spares = *review.status.spares;
  std::erase_if(spares.standIns, [&review](const contract::StandIn& item) {
    return review.cluster.pod({review.job.key.ns, item.pod}) == nullptr;
  });
  for (std::size_t i = 0; i < places.lost.size(); ++i) {
    const Worker& worker = *places.lost[i];
    const Pod& pod = *places.spares[i];
    spares.standIns.push_back({.worker = worker.index, .pod = pod.key.name, .generation = review.job.status.generation + 1});
    review.events.push_back(spare_event(review.job, EventType::kNormal, "SpareTookOver",
                                        "spare " + name_of(pod) + " takes the place of " + name_of_worker(worker) +
                                            (worker.failure ? ": " + worker.failure->message : ", which has to leave its node"),
                                        pod));
  }
  const auto number = static_cast<std::int32_t>(places.lost.size());
  spares.placed = std::max(0, spares.placed - number);
  spares.ready = std::max(0, spares.ready - number);
  keep_quota_of(review, *places.spares.front());
}

bool may_take_over(const Cluster& cluster, const Job& job, const GangView& gang, Time now) {
  return !possible(cluster, job, job.status, gang, now).lost.empty();
}

void tend_spares(Review& review) {
  auto& known = review.status.spares;
  const std::int32_t wanted = spares_wanted(review.job.spec, review.status);
  if (is_finished(review.status) || (!known && wanted == 0 && review.gang.spares.empty())) return;
  if (!known) known.emplace();
  known->desired = review.job.spec.workers.spares;
  std::vector<const Pod*> stay = remove_the_lost(review);
  const auto most = static_cast<std::size_t>(std::min(wanted, known->placed));
  for (; stay.size() > most; stay.pop_back()) review.remove(*stay.back(), "the job is to have fewer spares");
  known->ready = static_cast<std::int32_t>(std::count_if(
      stay.begin(), stay.end(), [&review](const Pod* pod) { return is_ready(review.cluster, review.status, *pod); }));
  if (wanted > 0 && known->ready >= wanted) known->attempts = 0;
  if (known->placed >= wanted) known->message.reset();
  if (const auto number = static_cast<std::int32_t>(stay.size());
      number < known->placed && reason_of(review.status, condition::kPlaced) == reason::kGangPlaced &&
      !is_stopping(review.status)) {
    const auto& workers = review.gang.workers;
    const auto with_pod = std::find_if(workers.begin(), workers.end(), [](const Worker& worker) {
      return worker.pod != nullptr && is_live(*worker.pod);  // of one that has ended nobody knows any more what it asked for
    });
    if (with_pod != workers.end()) {
      known->placed = number;
      keep_quota_of(review, *with_pod->pod);
    }
  }
  // Those that have their place hold quota until the gang's pods are there, which tell how much a spare's is.
  if (known->desired == 0 && known->placed == 0 && stay.empty() && known->standIns.empty()) known.reset();
}

}  // namespace trainyard::decide
