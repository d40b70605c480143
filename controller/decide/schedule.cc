#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "controller/decide/accept.h"
#include "controller/decide/avoided_nodes.h"
#include "controller/decide/claims.h"
#include "controller/decide/creation.h"
#include "controller/decide/dry_run.h"
#include "controller/decide/elastic.h"
#include "controller/decide/estimate.h"
#include "controller/decide/events.h"
#include "controller/decide/expected_end.h"
#include "controller/decide/fair_order.h"
#include "controller/decide/gang_objects.h"
#include "controller/decide/growth.h"
#include "controller/decide/line.h"
#include "controller/decide/moves.h"
#include "controller/decide/next_generation.h"
#include "controller/decide/no_room.h"
#include "controller/decide/plan.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/preemption.h"
#include "controller/decide/review.h"
#include "controller/decide/room.h"
#include "controller/decide/text_hash.h"
#include "controller/decide/traffic.h"
#include "crds/contract/names.h"

namespace trainyard::decide {
namespace {

/// Nobody is stopped for room that there will be so soon, or before he would have made any.
constexpr std::chrono::seconds kSoon{60};
/// Estimates of when there will be room are made anew at least so often.
constexpr std::chrono::seconds kEstimatesLast{30};
/// A job that waits is told why, its position and its start anew at most so often.
constexpr std::chrono::seconds kWaitToldAgain{15};
/// Those of many that began to wait together are told at about this rate, not all at once.
constexpr std::size_t kToldASecond = 10;
constexpr std::size_t kExplanations = 64;  // each is compared with
constexpr std::size_t kNamed = 3;
/// So many searches in vain for gangs whose end would give quota; each costs as much as a reservation.
constexpr std::size_t kVainReclaims = 64;

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i) {
    out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  return names.size() > kNamed ? out + " and " + std::to_string(names.size() - kNamed) + " more" : out;
}

/// What schedule() has to say may be the first that is said of the job.
Review review_of(const Cluster& cluster, const Job& job, Time now) {
  Review review(cluster, job, now);
  if (!is_true(job.status, condition::kAccepted)) accept(review);
  review.holds_status = false;
  return review;
}

class Scheduling {
 public:
  Scheduling(const Cluster& cluster, Time now)
      : cluster_(cluster),
        now_(now),
        line_(line(cluster, now)),
        room_(cluster, line_, now),
        order_(cluster, line_, admission_.queues()) {}

  std::map<ObjectKey, Plan> place_all() {
    std::int32_t position = 0;
    while (const Candidate* candidate = order_.next()) {
      Plan plan = place(*candidate, ++position);
      if (!plan.is_empty() || plan.look_again) plans_.emplace(candidate->job->key, std::move(plan));
    }
    grow_those_that_run(cluster_, now_, room_, plans_);
    return std::move(plans_);
  }

 private:
  /// Why a job waits on.
  struct Wait {
    const char* reason = nullptr;
    std::string message;
    std::int32_t position = 0;
    std::optional<Time> estimated_start = std::nullopt;
    std::optional<Time> again = std::nullopt;  // when to look at it again, though nothing may have changed
    bool is_within_quota = true;
  };

  Plan place(const Candidate& candidate, std::int32_t position) {
    if (candidate.needs == nullptr || candidate.blocked_until) {
      keep_room(candidate);
      return candidate.blocked_until ? look_again_at(*candidate.blocked_until) : Plan{};
    }
    const bool is_whole = candidate.missing.empty() && candidate.sizes.front() == candidate.size;
    if (is_whole) return start(candidate, {}, {}, {}, "");
    auto trouble = claim_trouble(cluster_, *candidate.job, *candidate.needs);  // of pods that are yet to be made
    const std::vector<Reservation*> binding = room_.binding_for(*candidate.job);
    const auto& sizes = candidate.sizes;
    const auto avoided = avoided_nodes(*candidate.job, now_);
    std::string why_not_all;
    Tried tried;
    // Better fewer workers than a node that failed it, and better such a node than none.
    for (const bool spares : {true, false}) {
      if (!spares && avoided.empty()) continue;
      const auto spared = spares ? avoided : std::set<std::string>{};
      for (std::size_t i = 0, next = 0; i < sizes.size(); i = next) {
        const Sized sized(candidate, sizes[i]);
        next = i + 1;
        if (trouble && !sized->missing.empty()) continue;
        tried = try_to_start(*sized, binding, spared, why_not_all);
        if (tried.plan) return std::move(*tried.plan);
        if (i == 0 && sizes.size() > 1) why_not_all = why_not(*sized, tried.place, spared);
        next = next_size(candidate, i, tried);
      }
    }
    if (trouble) return wait(candidate, {trouble->reason, std::move(trouble->message), position});
    const Sized least(candidate, sizes.back());
    const auto& demand = tried.place.demand;
    if (demand.fits.empty()) return wait_for_quota(*least, position, demand);
    return hold_back(*least, position, demand, binding);
  }

  /// What came of an attempt to place a gang of one size.
  struct Tried {
    Room::Place place{};
    std::optional<Plan> plan{};  // nothing: there is no room for it, or no quota
  };

  /// `avoided`: nodes that are left alone.
  Tried try_to_start(const Candidate& candidate, const std::vector<Reservation*>& binding, const std::set<std::string>& avoided,
                     const std::string& why_not_all) {
    if (candidate.missing.empty() && candidate.in_the_way.empty()) return {.plan = start(candidate, {}, {}, {}, why_not_all)};
    Tried tried{.place = room_.find(candidate, binding, avoided)};
    auto& [demand, flavor, nodes, device, is_there, fit] = tried.place;
    if (!is_there) return tried;
    if (!candidate.in_the_way.empty()) {
      room_.take(candidate, nodes, binding);
      tried.plan = shrink(candidate, why_not_all);
      return tried;
    }
    if (!candidate.has_others()) {
      Gang gang = sparing(gang_of(cluster_, candidate, *candidate.needs, now_, flavor), avoided);
      gang.rules.device = device;
      if (cluster_.settings.sees_cluster) {
        nodes = least_traffic(topology_, limited(std::move(gang), binding), links_of(spec_of(candidate)), std::move(nodes));
      }
    }
    room_.take(candidate, nodes, binding);
    explanations_.clear();
    admission_.start(*candidate.job, demand, flavor);
    if (!demand.is_charged) order_.count(demand.queue, admission_.uncounted(demand, flavor));
    tried.plan = start(candidate, nodes, demand, flavor, why_not_all);
    return tried;
  }

  /// Which of its sizes is worth a try after that one: the next that there is quota for, and not one that needs more room than there is. The
  /// least always is.
  std::size_t next_size(const Candidate& candidate, std::size_t last, const Tried& tried) {
    const auto& sizes = candidate.sizes;
    if (last + 1 >= sizes.size()) return sizes.size();
    const auto begin = sizes.begin() + static_cast<std::ptrdiff_t>(last) + 1, least = std::prev(sizes.end());
    auto next = begin;
    if (tried.place.demand.fits.empty()) {
      next = std::partition_point(begin, least, [&](std::int32_t size) {
        return admission_.demand(*Sized(candidate, size), *candidate.needs).fits.empty();
      });
    } else if (!candidate.has_others()) {
      next = std::partition_point(begin, least, [&](std::int32_t size) { return size > tried.place.fit; });
    }
    return static_cast<std::size_t>(next - sizes.begin());
  }

  static contract::TrainingJobSpec spec_of(const Candidate& candidate) {
    const auto& spec = candidate.job->spec;
    return candidate.size == spec.workers.count ? spec : at_size(spec, candidate.size);
  }

  /// For a job that can't be placed at this moment, but before those behind it: its last pods are still leaving, or the API server has yet
  /// to be asked about its template, as by a controller that begins to lead.
  void keep_room(const Candidate& waiting) {
    const Sized sized(waiting, waiting.waits_for);
    const Candidate& candidate = *sized;
    if (room_.keeps_no_more() || candidate.missing.empty()) return;
    std::optional<PodNeeds> by_template;
    if (candidate.needs == nullptr) {
      const WorkerPlace nowhere{.worker = candidate.missing.front(), .generation = 0, .node = {}};
      by_template = read_pod_needs(worker_pod(*candidate.job, cluster_.settings, nowhere).at("spec"));
    }
    const PodNeeds& needs = by_template ? *by_template : *candidate.needs;
    const Admission::Demand demand = admission_.demand(candidate, needs);
    if (demand.fits.empty()) return;
    const Gang gang = gang_of_known_need(candidate, needs, demand.fits.front());
    auto reservation = room_.reserve_for(candidate, gang);
    if (!reservation) return;
    room_.keep(std::move(*reservation));
    keep_quota(demand, demand.fits.front());
  }

  /// Of one for which nodes are kept.
  void keep_quota(const Admission::Demand& demand, const Labels& flavor) {
    admission_.keep(demand, flavor);
    if (!demand.is_charged) order_.count(demand.queue, admission_.uncounted(demand, flavor));
  }

  /// With what its ranks need of their GPUs, which takes long to reckon: for those near the head of the line, and those that are told why they
  /// wait.
  Gang gang_of_known_need(const Candidate& candidate, const PodNeeds& needs, const Labels& flavor) const {
    Gang gang = gang_of(cluster_, candidate, needs, now_, flavor);
    gang.rules.device = device_need(candidate);
    return gang;
  }

  Plan look_again_at(Time at) const {
    Plan plan;
    if (at != Time::max()) plan.look_again = std::chrono::ceil<std::chrono::seconds>(at - now_);
    return plan;
  }

  /// No flavor has enough quota now. Gangs that leave may give some, or some may be taken back.
  Plan wait_for_quota(const Candidate& candidate, std::int32_t position, const Admission::Demand& demand) {
    const Job& job = *candidate.job;
    Wait why{.position = position, .is_within_quota = false};
    for (const auto& flavor : demand.later) {
      if (room_.keeps_no_more() || !may_preempt(job)) break;
      const std::tuple kind(demand.queue, flavor, candidate.priority.value);
      if (vain_reclaims_.size() >= kVainReclaims || vain_reclaims_.contains(kind)) continue;
      const Gang gang = gang_of_known_need(candidate, *candidate.needs, flavor);
      const bool is_promised = admission_.has_room_later(demand, flavor);
      auto reservation = is_promised ? room_.reserve_for(candidate, gang) : reclaim(candidate, gang, demand, flavor);
      if (!reservation) {
        vain_reclaims_.insert(kind);
        if (const Time at = protection_ends(); at != Time::max()) why.again = at;
        continue;
      }
      admission_.promise(demand, flavor);
      why.again = changes_at(candidate, *reservation);
      if (reservation->start) why.estimated_start = std::max(now_, *reservation->start);
      room_.keep(std::move(*reservation));
      why.reason = reason::kMakingRoom;
      why.message = "quota that others leave is kept for it: " + leaving(flavor);
      order_.count(demand.queue, admission_.uncounted(demand, flavor));
      break;
    }
    if (why.reason == nullptr && !demand.later.empty()) admission_.keep(demand, demand.later.front());
    if (const auto due = explained_until(candidate, false)) return look_again_at(std::min(*due, why.again.value_or(Time::max())));
    Admission::Refusal refusal = admission_.why_not(job, *candidate.needs, demand);
    if (why.reason == nullptr) {
      why.reason = refusal.reason;
      why.message = std::move(refusal.message);
    }
    return wait(candidate, std::move(why));
  }

  /// Stops gangs whose end gives the quota and the nodes that it needs. Nothing where no choice of them does.
  std::optional<Reservation> reclaim(const Candidate& candidate, const Gang& gang, const Admission::Demand& demand,
                                     const Labels& flavor) {
    const auto victims = room_.victims_for(candidate, gang, demand, flavor, true);
    if (victims.empty()) return std::nullopt;
    stop(victims, candidate, demand);
    return room_.reserve_for(candidate, gang);
  }

  /// The first of those with enough quota that will have nodes, as far as one can see.
  const Labels& flavor_to_wait_for(const Candidate& candidate, const Admission::Demand& demand) {
    if (demand.fits.size() == 1 || room_.keeps_no_more()) return demand.fits.front();
    const auto found = std::find_if(demand.fits.begin(), demand.fits.end(), [&](const Labels& flavor) {
      return room_.reserve_for(candidate, gang_of_known_need(candidate, *candidate.needs, flavor)).has_value();
    });
    return found == demand.fits.end() ? demand.fits.front() : *found;
  }

  /// Keeps room for it where it is near enough to the head of the line, and makes some where it may.
  Plan hold_back(const Candidate& candidate, std::int32_t position, const Admission::Demand& demand,
                 const std::vector<Reservation*>& binding) {
    const Labels& flavor = flavor_to_wait_for(candidate, demand);
    if (room_.keeps_no_more()) {
      if (const auto due = explained_until(candidate, true)) return look_again_at(*due);
    }
    const Gang gang = gang_of_known_need(candidate, *candidate.needs, flavor);
    std::vector<std::string> before;
    for (const auto* reservation : binding) before.push_back(to_text(reservation->job->key));
    std::vector<std::string> makers;
    std::optional<Time> estimated_start, again;
    if (!room_.keeps_no_more()) {
      if (auto reservation = reserve_or_preempt(candidate, gang, demand, flavor)) {
        keep_quota(demand, flavor);
        again = changes_at(candidate, *reservation);
        makers = makers_of_room(*reservation);
        if (reservation->start) estimated_start = std::max(now_, *reservation->start);
        room_.keep(std::move(*reservation));
      }
    }
    if (const auto due = explained_until(candidate, true)) return look_again_at(std::min(*due, again.value_or(Time::max())));
    const auto without_limits = room_.search(gang, {});
    const auto* none = std::get_if<NoRoom>(&without_limits);
    Wait why{.position = position, .estimated_start = estimated_start, .again = again};
    if (!makers.empty()) {
      why.reason = reason::kMakingRoom;
      why.message = listed(makers) + (makers.size() == 1 ? " stops" : " stop") + " at a checkpoint and will make room";
    } else if (none == nullptr) {
      why.reason = reason::kReserved;
      why.message = "there is room now, which is kept for " + listed(before) + ", before it in the line" +
                    (expected_end_if_started(*candidate.job, now_)
                         ? "; it would not be over by then"
                         : "; a job with lifecycle.activeDeadlineSeconds may use it until then, where it is over in time");
    } else {
      Explanation explanation = why_no_room(gang, *none);
      const bool has_one_flavor = demand.fits.size() + demand.later.size() == 1;
      why.reason = explanation.never && has_one_flavor ? reason::kNeverFits : reason::kUnschedulable;
      why.message = std::move(explanation.message);
      if (estimated_start || again) why.message += what_if_moved(gang, explanation.never);
      if (!flavor.empty()) why.message += " The flavor of its queue has the nodes with " + to_text(flavor) + " alone.";
    }
    return wait(candidate, std::move(why));
  }

  /// As explain(), once for gangs that are alike while nothing is taken in between: of those that wait most are like another, and to find
  /// the words takes long.
  Explanation why_no_room(const Gang& gang, const NoRoom& none) {
    const auto known = std::find_if(explanations_.begin(), explanations_.end(), [&gang](const auto& item) {
      const Gang& other = item.first;
      return std::tie(other.count, other.requests, other.rules, other.pack, other.beside, other.avoid) ==
             std::tie(gang.count, gang.requests, gang.rules, gang.pack, gang.beside, gang.avoid);
    });
    if (known != explanations_.end()) return known->second;
    Explanation explanation = explain(cluster_, topology_, gang, none);
    if (explanations_.size() < kExplanations) explanations_.emplace_back(gang, explanation);
    return explanation;
  }

  /// For a job near the head of the line: who would have to move so that it finds room in what is free. Words, with a space before them.
  std::string what_if_moved(const Gang& gang, bool never) {
    if (never) return "";
    const auto moves = moves_for(cluster_, topology_, room_.held(), gang);
    const std::int32_t level = gang.pack ? topology_.level_of(gang.pack->level) : topology_.num_levels();
    return moves ? " " + to_text(topology_, *moves, level) : "";
  }

  std::optional<Reservation> reserve_or_preempt(const Candidate& candidate, const Gang& gang, const Admission::Demand& demand,
                                                const Labels& flavor) {
    auto reservation = room_.reserve_for(candidate, gang);
    if (!reservation || !may_preempt(*candidate.job)) return reservation;
    const auto victims = room_.victims_for(candidate, gang, demand, flavor, false);
    if (victims.empty()) return reservation;
    Time room_at = now_ + kSoon;
    for (const auto i : victims) {
      room_at = std::max(room_at, now_ + std::chrono::seconds(room_.held()[i].job->spec.lifecycle.checkpointGraceSeconds));
    }
    if (reservation->start && *reservation->start > now_ && *reservation->start <= room_at) return reservation;
    stop(victims, candidate, demand);
    return room_.reserve_for(candidate, gang);
  }

  void stop(const std::vector<std::size_t>& victims, const Candidate& candidate, const Admission::Demand& demand) {
    for (const auto i : victims) {
      Holding& victim = room_.held()[i];
      Review review(cluster_, *victim.job, now_);
      const bool is_lower = victim.priority.value < candidate.priority.value;
      preempt(review, *candidate.job, candidate.priority, victim.priority,
              is_lower ? "" : admission_.queues().queue(demand.queue).name);
      plans_.emplace(victim.job->key, review.plan());
      room_.stop(victim);
    }
    std::stable_sort(room_.held().begin(), room_.held().end(), ends_before);
  }

  /// The jobs that vacate and hold quota of that flavor.
  std::string leaving(const Labels& flavor) {
    std::set<std::string> out;
    for (const auto& holding : room_.held()) {
      if (!room_.is_leaving(holding)) continue;
      const Charge* charge = admission_.charge(*holding.job);
      if (charge != nullptr && charge->labels == flavor) out.insert(to_text(holding.job->key));
    }
    return listed({out.begin(), out.end()}) + (out.size() == 1 ? " stops" : " stop") + " at a checkpoint";
  }

  /// Nobody is stopped for pods that the API server would not have.
  bool may_preempt(const Job& job) const {
    const auto* check = cluster_.template_check(job.uid, template_hash(job.spec, cluster_.settings));
    return check != nullptr && !check->over_quota && cluster_.refusal(job) == nullptr;
  }

  /// The jobs that are about to leave the nodes that it is to get, at a checkpoint.
  std::vector<std::string> makers_of_room(const Reservation& reservation) {
    std::set<std::string> out;
    for (const auto& holding : room_.held()) {
      if (!room_.is_leaving(holding)) continue;
      const bool is_there = std::any_of(holding.pods.begin(), holding.pods.end(),
                                        [&](const auto& pod) { return reservation.takes.contains(pod.first); });
      if (is_there) out.insert(to_text(holding.job->key));
    }
    return {out.begin(), out.end()};
  }

  /// When time alone may change what is decided for a job at the head of the line: gangs end, or don't when they were expected to; one
  /// that was left alone after its last preemption may be stopped again.
  Time changes_at(const Candidate& candidate, const Reservation& reservation) {
    Time at = now_ + kEstimatesLast;
    if (reservation.start && *reservation.start > now_) at = std::min(at, *reservation.start + std::chrono::seconds(1));
    return candidate.priority.preempts ? std::min(at, protection_ends()) : at;
  }

  /// When the next of those that were stopped before may be stopped again.
  Time protection_ends() {
    Time at = Time::max();
    for (const auto& holding : room_.held()) {
      const auto until = holding.job == nullptr ? std::nullopt : protected_until(*holding.job, cluster_.settings);
      if (until && *until > now_) at = std::min(at, *until);
    }
    return at;
  }

  /// A job that was told why there is no room is told so anew when it is its turn: to find the words takes longer than to find room.
  /// Until when it has to wait; nothing where it is its turn.
  std::optional<Time> explained_until(const Candidate& candidate, bool is_within_quota) const {
    const Job& job = *candidate.job;
    const std::string told = reason_of(job.status, condition::kPlaced);
    static constexpr std::array<std::string_view, 7> kTold{reason::kUnschedulable, reason::kNeverFits,     reason::kReserved,
                                                           reason::kMakingRoom,    reason::kQuotaExceeded, reason::kQuotaTooSmall,
                                                           reason::kQueueStopped};
    if (candidate.has_others() || std::find(kTold.begin(), kTold.end(), told) == kTold.end()) return std::nullopt;
    if (is_false(job.status, condition::kAdmitted) == is_within_quota) return std::nullopt;  // that is news
    const std::chrono::seconds turn(text_number(job.uid) % (line_.size() / kToldASecond + 1));
    const Time due = std::max(numbers_due(cluster_, job), job.status_written + kWaitToldAgain + turn);
    return now_ < due ? std::optional(due) : std::nullopt;
  }

  /// How far first estimates were off: the median over the jobs that have started since.
  std::optional<std::int64_t> estimate_error() {
    if (!errors_) {
      errors_.emplace();
      for (const auto& [key, job] : cluster_.jobs()) {
        const auto& queue = job.status.queue;
        if (queue && queue->startDelaySeconds) errors_->push_back(std::abs(*queue->startDelaySeconds));
      }
      std::sort(errors_->begin(), errors_->end());
    }
    return errors_->empty() ? std::nullopt : std::optional((*errors_)[errors_->size() / 2]);
  }

  /// `why_not_all`: of a gang with fewer workers than were asked for.
  Plan start(const Candidate& candidate, const std::vector<std::string>& nodes, const Admission::Demand& demand,
             const Labels& flavor, const std::string& why_not_all) const {
    const Job& job = *candidate.job;
    Review review = review_of(cluster_, job, now_);
    auto& status = review.status;
    if (!is_true(status, condition::kPlaced)) {
      const std::int32_t before = gang_size(job);
      if (candidate.has_others()) lower_admission(status, needed_by(candidate));
      status.placement = placement_status(candidate, nodes);
      begin_generation(review);
      // What it goes on with if the API server would not have the new ones (creation.h), where the spec does not say so.
      const bool grows = candidate.has_others() && candidate.size > before;
      if (grows && before < gang_sizes(job.spec).back()) {
        status.resize = contract::ResizeStatus{.workers = before, .at = contract::to_rfc3339(now_)};
      }
      status.templateHash = template_hash(job.spec, cluster_.settings);
      status.workers.desired = job.spec.workers.count;
      if (!status.startTime) status.startTime = contract::to_rfc3339(now_);
      if (const auto& queue = job.status.queue; queue && queue->firstEstimate) {
        const auto first = contract::parse_rfc3339(*queue->firstEstimate).value_or(now_);
        status.queue = contract::QueueStatus{};
        status.queue->startDelaySeconds = std::chrono::round<std::chrono::seconds>(now_ - first).count();
      }
      status.dryRun.reset();
      if (!demand.is_charged && !nodes.empty()) admit(review, admission_.queues(), demand, flavor);
      review.set(condition::kPlaced, true, nodes.empty() ? reason::kGangPlaced : reason::kCreatingWorkers,
                 placed_message(job.spec, status));
      if (!why_not_all.empty()) review.events.push_back(placed_smaller_event(job, status, why_not_all));
      if (reason_of(status, condition::kProgressing) != reason::kRestarting) {
        review.set(condition::kRunning, false, reason::kWorkersStarting, "worker pods are being created");
        review.set(condition::kProgressing, false, "Starting", "no step was done yet");
      }
    }
    Plan plan = review.plan();
    if (nodes.empty()) return plan;
    const bool keeps_some = candidate.num_kept > 0;
    const std::string group = group_of_new_pods(job, candidate.gang, keeps_some, cluster_.settings);
    std::vector<Action> pods;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      WorkerPlace place{
          .worker = candidate.missing[i], .generation = status.generation, .node = nodes[i], .num_workers = candidate.size};
      place.pod_group = group;
      if (nodes[i].empty()) {
        place.node.reset();
        place.avoid = avoided_nodes(job, now_);
      }
      pods.push_back(CreatePod{{job.key.ns, contract::pod_name(job.key.name, place.worker, place.generation)},
                               worker_pod(job, cluster_.settings, place)});
    }
    // They are the job's, and of no generation: they need not wait until that is in the status.
    if (plan.phases.empty()) plan.phases.emplace_back();
    for (auto& object : gang_objects(job, cluster_.settings, !group.empty() && !keeps_some)) {
      plan.phases.front().push_back(std::move(object));
    }
    plan.phases.push_back(std::move(pods));
    return plan;
  }

  /// The gang is to go on without some of its workers, which go first; then the others get what is missing.
  Plan shrink(const Candidate& candidate, const std::string& why_not_all) const {
    Review review = review_of(cluster_, *candidate.job, now_);
    auto& status = review.status;
    if (!status.placement) status.placement.emplace();
    status.placement->workers = candidate.size;
    review.set(condition::kPlaced, false, reason::kResizing,
               "the gang goes on with " + std::to_string(candidate.size) + " workers instead of " +
                   std::to_string(gang_size(*candidate.job)) + (why_not_all.empty() ? "" : ": " + why_not_all));
    return review.plan();
  }

  /// What a gang asks for of which some pods stay: a smaller one gives the rest of its quota back, once the others' pods are gone.
  static Resources needed_by(const Candidate& candidate) {
    Resources out = times(candidate.needs->requests, static_cast<std::int64_t>(candidate.missing.size()));
    const std::set<std::int32_t> missing(candidate.missing.begin(), candidate.missing.end());
    for (const auto& worker : candidate.gang.workers) {
      if (worker.pod != nullptr && !missing.contains(worker.index)) out += worker.pod->requests;
    }
    return out;
  }

  contract::PlacementStatus placement_status(const Candidate& candidate, const std::vector<std::string>& added) const {
    const auto spec = spec_of(candidate);
    std::vector<std::string> by_worker(static_cast<std::size_t>(candidate.size));
    for (const auto& worker : candidate.gang.workers) {
      if (worker.pod != nullptr) by_worker[static_cast<std::size_t>(worker.index)] = worker.pod->node;
    }
    for (std::size_t i = 0; i < added.size(); ++i) by_worker[static_cast<std::size_t>(candidate.missing[i])] = added[i];
    std::set<std::string> nodes(by_worker.begin(), by_worker.end());
    if (nodes.contains("")) nodes.clear();  // kube-scheduler chooses
    const std::int32_t level = spec.placement.pack ? topology_.level_of(spec.placement.pack->level) : 0;
    std::set<std::string> domains;
    for (const auto& node : nodes) {
      const auto index = topology_.find_node(node);
      if (index < 0 || topology_.num_levels() == 0) continue;
      const auto& domain = topology_.domains()[static_cast<std::size_t>(topology_.ancestor(index, level))];
      if (!domain.name.empty()) domains.insert(domain.name);
    }
    contract::PlacementStatus place{.workers = candidate.size,
                                    .wanted = candidate.job->spec.workers.count,
                                    .domains = {domains.begin(), domains.end()},
                                    .nodes = static_cast<std::int32_t>(nodes.size())};
    if (nodes.empty()) std::fill(by_worker.begin(), by_worker.end(), "");
    tell_place(topology_, spec, by_worker, place);
    return place;
  }

  /// Says why the gang, or what is missing of it, has no place.
  Plan wait(const Candidate& candidate, Wait why) {
    const Job& job = *candidate.job;
    Review review = review_of(cluster_, job, now_);
    if (why.again) review.look_again(*why.again);
    review.status.dryRun.reset();
    if (!candidate.has_others()) {
      if (!why.is_within_quota) {
        review.set(condition::kAdmitted, false, why.reason, why.message);
        review.status.admission.reset();
      } else if (!queue_name(cluster_, job).empty()) {
        review.set(condition::kAdmitted, true, "WithinQuota", "its queue's quota has room for it; it waits for nodes");
      }
      review.set(condition::kPlaced, false, why.reason, std::move(why.message));
      contract::QueueStatus queue;
      if (job.status.queue) queue.firstEstimate = job.status.queue->firstEstimate;
      queue.position = why.position;
      if (why.estimated_start) {
        queue.estimatedStartTime = contract::to_rfc3339(*why.estimated_start);
        queue.estimateErrorSeconds = estimate_error();
        if (!queue.firstEstimate) queue.firstEstimate = queue.estimatedStartTime;
      }
      review.status.queue = std::move(queue);
      return review.plan();
    }
    const std::string reason = reason_of(job.status, condition::kPlaced);
    // A gang does not hold nodes in vain: two halves could wait for each other for ever.
    const Time patience = since_of(job.status, condition::kPlaced) + std::chrono::seconds(job.spec.lifecycle.startTimeoutSeconds);
    const bool was_running = reason == reason::kWorkerLost || reason == reason::kNoReplacement || reason == reason::kResizing;
    if (!was_running || now_ >= patience) {
      review.set(condition::kPlaced, false, reason::kGangRemoved, "the gang is not whole, and can't be made so: " + why.message);
    } else {
      review.set(condition::kPlaced, false, reason::kNoReplacement, "a lost worker can't be replaced: " + why.message);
      review.look_again(patience);
    }
    return review.plan();
  }

  const Cluster& cluster_;
  const Time now_;
  const std::vector<Candidate> line_;
  Room room_;
  const Topology& topology_ = room_.topology();
  Admission& admission_ = room_.admission();
  FairOrder order_;
  std::vector<std::pair<Gang, Explanation>> explanations_;                      // since something was taken
  std::optional<std::vector<std::int64_t>> errors_;                             // of estimates, sorted, in seconds
  std::set<std::tuple<Admission::Index, Labels, std::int32_t>> vain_reclaims_;  // in this look, by queue, flavor and priority
  std::map<ObjectKey, Plan> plans_;
};

}  // namespace

std::map<ObjectKey, Plan> schedule(const Cluster& cluster, Time now) {
  const PlaceAll place_all = [](const Cluster& all, Time at) { return Scheduling(all, at).place_all(); };
  auto plans = place_all(cluster, now);
  answer_dry_runs(cluster, now, place_all, plans);
  return plans;
}

bool matters_to_schedule(const Pod& before, const Pod& after) {
  if (!takes_same_room(before, after) || before.uid != after.uid) return true;
  if (!before.worker) return false;
  const auto seen = [](Pod pod) {  // what is left tells whether it can be kept, or when it is out of the way
    if (!pod.is_finished()) pod.phase = PodPhase::kPending;
    auto& worker = *pod.worker;
    worker.ip.clear();
    worker.started_at.reset();
    worker.container_running = false;
    worker.waiting_reason.clear();
    worker.waiting_message.clear();
    worker.unscheduled_message.clear();
    return pod;
  };
  return seen(before) != seen(after);
}

bool matters_to_schedule(const Job& before, const Job& after) {
  return before.uid != after.uid || before.generation != after.generation || before.deleting != after.deleting ||
         differs_in_kind(before.status, after.status);
}

}  // namespace trainyard::decide
