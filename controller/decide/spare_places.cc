#include "controller/decide/spare_places.h"

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>
#include <variant>

#include "controller/decide/accept.h"
#include "controller/decide/avoided_nodes.h"
#include "controller/decide/elastic.h"
#include "controller/decide/gang_objects.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/review.h"
#include "controller/decide/spares.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

constexpr std::chrono::seconds kFirstSpareWait{10}, kLongestSpareWait{600};
constexpr std::chrono::seconds kForgiven{60};  // nodes that are avoided now may be taken again
constexpr const char* kNoMore = "no node that could have another one has room for it now";

/// When spares may be made again.
Time makes_again_at(const contract::TrainingJobStatus& status) {
  if (!status.spares || status.spares->attempts == 0) return {};
  const auto made = contract::parse_rfc3339(status.spares->madeAt.value_or("")).value_or(Time{});
  return made + std::min(kLongestSpareWait, kFirstSpareWait * (1 << std::min(status.spares->attempts - 1, 10)));
}

/// Nodes for up to so many pods, each as near to the gang's own (`gang.beside`) as there is room; taken.
std::vector<std::string> take_places(Room& room, const Candidate& candidate, const Gang& gang, std::int32_t most,
                                     const std::vector<Reservation*>& binding) {
  std::vector<std::string> out;
  for (const bool apart : {true, false}) {
    if (std::ssize(out) >= most) break;
    Gang one = limited(apart ? sparing(gang, gang.beside) : gang, binding);
    one.count = 1;
    GangFit fit(room.topology(), one);
    while (std::ssize(out) < most) {
      const auto found = fit.place();
      const auto* place = std::get_if<Placement>(&found);
      if (place == nullptr) break;
      room.take(candidate, place->nodes, binding);
      out.push_back(place->nodes.front());
      fit.refresh(static_cast<std::size_t>(room.topology().find_node(out.back())));
    }
  }
  return out;
}

/// A gang that lacks spares.
struct Lack {
  Candidate candidate;
  std::int32_t number = 0;
};

std::optional<Lack> lack_of(const Cluster& cluster, const Job& job, Time now) {
  const auto& status = job.status;
  if (job.deleting || job.spec.managedBy != contract::kManagedBy || job.spec.suspend || is_finished(status)) return std::nullopt;
  if (is_stopping(status) || reason_of(status, condition::kPlaced) != reason::kGangPlaced) return std::nullopt;
  const std::int32_t number = spares_wanted(job.spec, status) - spares_placed(status);
  if (number <= 0 || !template_change(job, cluster.settings).empty()) return std::nullopt;
  const auto* check = cluster.template_check(job.uid, status.templateHash);
  Lack out{.candidate = {.job = &job,
                         .needs = check == nullptr ? nullptr : &check->needs,
                         .priority = priority_of(cluster, job),
                         .gang = view_gang(cluster, job, now)},
           .number = number};
  const auto& workers = out.candidate.gang.workers;
  // Whoever lost a worker needs the room for that.
  if (std::any_of(workers.begin(), workers.end(), [](const Worker& worker) { return worker.failure.has_value(); }))
    return std::nullopt;
  out.candidate.size = out.candidate.num_kept = static_cast<std::int32_t>(workers.size());
  return out;
}

class Making {
 public:
  Making(const Cluster& cluster, Time now, Room& room) : cluster_(cluster), now_(now), room_(room) {}

  Plan make(const Lack& lack) {
    const Candidate& candidate = lack.candidate;
    const Job& job = *candidate.job;
    if (const Time at = makes_again_at(job.status); now_ < at) return stay(job, why_later(job), at);
    if (candidate.needs == nullptr) {  // as by a controller that begins to lead
      SecondLook look = second_look(cluster_, job, now_);
      if (!look.ask) return stay(job, look.problem, look.again);
      Plan plan;
      plan.phases.push_back({std::move(*look.ask)});
      return plan;
    }
    Admission& admission = room_.admission();
    const Charge* charge = admission.charge(job);
    const auto queue = charge == nullptr ? Admission::Index{-1} : admission.queues().find(charge->queue);
    const Labels flavor = charge == nullptr ? Labels{} : charge->labels;
    const Resources& requests = candidate.needs->requests;
    const bool is_queue_gone = queue < 0 && charge != nullptr && !charge->queue.empty();
    const std::int32_t most = is_queue_gone ? 0 : admission.room_for_more(queue, flavor, requests, lack.number);
    if (most == 0) return stay(job, "its queue's quota has no room for another one now", std::nullopt);
    const auto avoided = avoided_nodes(job, now_);
    Gang gang = gang_of(cluster_, candidate, *candidate.needs, now_, flavor);
    gang.rules.device = room_.need_of(candidate);
    const auto binding = room_.binding_for(job);
    Gang one = gang;
    one.count = 1;
    const bool may_have_room = std::holds_alternative<Placement>(room_.search(one, binding));
    const auto nodes =
        may_have_room ? take_places(room_, candidate, sparing(gang, avoided), most, binding) : std::vector<std::string>{};
    if (nodes.empty()) {
      return stay(job, kNoMore, avoided.empty() ? std::nullopt : std::optional(now_ + kForgiven));
    }
    const Resources more = times(requests, std::ssize(nodes));
    admission.add_more(queue, flavor, more);
    return make_at(candidate, nodes, more, lack.number);
  }

 private:
  std::string why_later(const Job& job) const {
    const auto& spares = *job.status.spares;
    const auto* refusal = cluster_.refusal(job);
    if (refusal != nullptr) return "the API server refuses to " + refusal->request + ": " + refusal->message;
    if (spares.attempts == 1) return spares.message.value_or("");
    return "those that were made last did not come up, or were lost; more are made later";
  }

  Plan make_at(const Candidate& candidate, const std::vector<std::string>& nodes, const Resources& more,
               std::int32_t lacking) const {
    const Job& job = *candidate.job;
    Review review(cluster_, job, now_);
    auto& spares = review.status.spares;
    if (!spares) spares.emplace();
    const auto number = static_cast<std::int32_t>(nodes.size());
    spares->desired = job.spec.workers.spares;
    spares->placed += number;
    spares->made += number;
    ++spares->attempts;
    spares->madeAt = contract::to_rfc3339(now_);
    spares->message = number < lacking ? std::optional<std::string>(kNoMore) : std::nullopt;
    raise_admission(review.status, more);
    Plan plan = review.plan();
    for (auto& object : gang_objects(job, cluster_.settings, gang_size(job), false)) {
      plan.phases.front().push_back(std::move(object));
    }
    plan.phases.push_back(spare_pods(job, cluster_.settings, review.status, nodes,
                                     group_of_new_pods(job, candidate.gang, true, cluster_.settings)));
    return plan;
  }

  /// It has no more, and says why.
  Plan stay(const Job& job, const std::string& why, const std::optional<Time>& again) const {
    Review review(cluster_, job, now_);
    if (again) review.look_again(*again);
    auto& spares = review.status.spares;
    if (!spares) spares.emplace();
    spares->desired = job.spec.workers.spares;
    if (!why.empty()) spares->message = why;
    return review.plan();
  }

  const Cluster& cluster_;
  const Time now_;
  Room& room_;
};

}  // namespace

std::vector<std::string> take_spare_places(const Cluster& cluster, Time now, Room& room, const Candidate& candidate,
                                           Room::Place& place, const std::set<std::string>& avoided,
                                           const std::vector<Reservation*>& binding) {
  const auto& workers = candidate.job->spec.workers;
  const bool is_due =
      !candidate.has_others() && candidate.size >= workers.count && !is_true(candidate.job->status, condition::kPlaced);
  if (!is_due || workers.spares == 0 || !cluster.settings.sees_cluster) return {};
  const Resources& requests = candidate.needs->requests;
  const auto queue = place.demand.queue;
  const std::int32_t most = room.admission().room_for_more(queue, place.flavor, requests, workers.spares);
  Gang gang = sparing(gang_of(cluster, candidate, *candidate.needs, now, place.flavor), avoided);
  gang.rules.device = place.device;
  gang.groups.clear();
  gang.beside.insert(place.nodes.begin(), place.nodes.end());
  auto nodes = take_places(room, candidate, gang, most, binding);
  const Resources more = times(requests, std::ssize(nodes));
  room.admission().add_more(queue, place.flavor, more);
  place.demand.amounts += more;
  return nodes;
}

std::optional<contract::SparesStatus> spares_status(const Job& job, std::size_t number, Time now) {
  if (job.spec.workers.spares == 0) return std::nullopt;
  contract::SparesStatus out{.desired = job.spec.workers.spares, .placed = static_cast<std::int32_t>(number)};
  out.made = out.placed;
  if (out.made > 0) {
    out.attempts = 1;
    out.madeAt.emplace(contract::to_rfc3339(now));
  }
  if (out.placed < out.desired) out.message.emplace(kNoMore);
  return out;
}

std::vector<Action> spare_pods(const Job& job, const Settings& settings, const contract::TrainingJobStatus& status,
                               const std::vector<std::string>& nodes, const std::string& pod_group) {
  const WorkerPods pods_of(job, settings);
  std::vector<Action> out;
  std::int32_t number = status.spares->made - static_cast<std::int32_t>(nodes.size());
  for (const auto& node : nodes) {
    WorkerPlace place{.worker = -1, .generation = status.generation, .node = node};
    place.pod_group = pod_group;
    place.spare = ++number;
    out.push_back(CreatePod{{job.key.ns, contract::spare_name(job.key.name, number, status.generation)}, pods_of.pod(place)});
  }
  return out;
}

void make_spares(const Cluster& cluster, Time now, Room& room, std::map<ObjectKey, Plan>& plans) {
  if (!cluster.settings.sees_cluster) return;
  std::vector<Lack> all;
  for (const auto& [key, job] : cluster.jobs()) {
    if (job.spec.workers.spares == 0 || plans.contains(key) || room.is_stopped(job)) continue;
    if (auto lack = lack_of(cluster, job, now)) all.push_back(std::move(*lack));
  }
  std::stable_sort(all.begin(), all.end(), [](const Lack& a, const Lack& b) {
    return std::tuple(-std::int64_t{a.candidate.priority.value}, a.candidate.job->created) <
           std::tuple(-std::int64_t{b.candidate.priority.value}, b.candidate.job->created);
  });
  Making making(cluster, now, room);
  for (const auto& lack : all) {
    Plan plan = making.make(lack);
    if (!plan.is_empty() || plan.look_again) plans.emplace(lack.candidate.job->key, std::move(plan));
  }
}

}  // namespace trainyard::decide
