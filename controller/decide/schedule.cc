#include <algorithm>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "controller/decide/avoided_nodes.h"
#include "controller/decide/claims.h"
#include "controller/decide/conditions.h"
#include "controller/decide/dry_run.h"
#include "controller/decide/expected_end.h"
#include "controller/decide/fair_order.h"
#include "controller/decide/forecast.h"
#include "controller/decide/gang_start.h"
#include "controller/decide/growth.h"
#include "controller/decide/line.h"
#include "controller/decide/making_room.h"
#include "controller/decide/moves.h"
#include "controller/decide/no_room.h"
#include "controller/decide/plan.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/review.h"
#include "controller/decide/room.h"
#include "controller/decide/spare_places.h"
#include "controller/decide/traffic.h"
#include "controller/decide/waiting.h"

namespace trainyard::decide {
namespace {

constexpr std::size_t kExplanations = 64;  // each is compared with
constexpr std::size_t kNamed = 3;
/// So many searches in vain for gangs whose end would give quota; each costs as much as a reservation.
constexpr std::int32_t kVainReclaims = 64;
/// So many of those that wait for quota are told when to expect it; each costs a look at all gangs that run.
constexpr std::int32_t kExpected = 16;

std::string first_named(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i) {
    out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  }
  return names.size() > kNamed ? out + " and " + std::to_string(names.size() - kNamed) + " more" : out;
}

/// "default/a and default/b stop at a checkpoint".
std::string stopping(const std::vector<std::string>& jobs) {
  return first_named(jobs) + (jobs.size() == 1 ? " stops" : " stop") + " at a checkpoint";
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
    make_spares(cluster_, now_, room_, plans_);
    return std::move(plans_);
  }

 private:
  Plan place(const Candidate& candidate, std::int32_t position) {
    if (candidate.needs == nullptr || candidate.blocked_until) {
      if (!candidate.makes_room) keep_room(candidate);
      return candidate.blocked_until ? look_again_at(*candidate.blocked_until) : Plan{};
    }
    const bool is_whole = candidate.missing.empty() && candidate.sizes.front() == candidate.size;
    if (is_whole) return start_gang(cluster_, now_, room_, candidate, {}, "");
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
    if (trouble) return waiting_.wait(candidate, {trouble->reason, std::move(trouble->message), position});
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
    if (candidate.missing.empty() && candidate.in_the_way.empty())
      return {.plan = start_gang(cluster_, now_, room_, candidate, {}, why_not_all)};
    Tried tried{.place = room_.find(candidate, binding, avoided)};
    auto& [demand, flavor, nodes, device, is_there, fit, room_beside, spares] = tried.place;
    if (!is_there) return tried;
    if (!candidate.in_the_way.empty()) {
      room_.take(candidate, nodes, binding);
      tried.plan = shrink_gang(cluster_, now_, candidate, why_not_all);
      return tried;
    }
    if (!candidate.has_others()) {
      Gang gang = sparing(gang_of(cluster_, candidate, *candidate.needs, now_, flavor), avoided);
      gang.rules.device = device;
      gang.room_beside = room_beside;
      if (cluster_.settings.sees_cluster) {
        nodes = least_traffic(topology_, limited(std::move(gang), binding), links_of(spec_of(candidate)), std::move(nodes));
      }
    }
    room_.take(candidate, nodes, binding);
    explanations_.clear();
    forecast_.start(candidate, demand, flavor);
    admission_.start(*candidate.job, demand, flavor);
    if (!demand.is_charged) order_.count(demand.queue, admission_.uncounted(demand, flavor));
    spares = take_spare_places(cluster_, now_, room_, candidate, tried.place, avoided, binding);
    tried.plan = start_gang(cluster_, now_, room_, candidate, tried.place, why_not_all);
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
    keep_quota(demand, demand.fits.front(), *reservation);
    if (candidate.needs != nullptr)
      forecast_.line_up(candidate, demand, demand.fits.front(), {.is_searched = true, .start = reservation->start});
    room_.keep(std::move(*reservation));
  }

  /// Of one for which nodes are kept.
  void keep_quota(const Admission::Demand& demand, const Labels& flavor, const Reservation& reservation) {
    admission_.keep(demand, flavor, reservation.start);
    if (!demand.is_charged) order_.count(demand.queue, admission_.uncounted(demand, flavor));
  }

  /// With what its ranks need of their GPUs.
  Gang gang_of_known_need(const Candidate& candidate, const PodNeeds& needs, const Labels& flavor) {
    Gang gang = gang_of(cluster_, candidate, needs, now_, flavor);
    gang.rules.device = room_.need_of(candidate);
    return gang;
  }

  Plan look_again_at(Time at) const {
    Plan plan;
    if (at != Time::max()) plan.look_again = std::chrono::ceil<std::chrono::seconds>(at - now_);
    return plan;
  }

  /// No flavor has enough quota now. Gangs that leave may give some, or some may be taken back.
  Plan wait_for_quota(const Candidate& candidate, std::int32_t position, const Admission::Demand& demand) {
    Wait why{.position = position, .is_within_quota = false};
    const bool is_kept = std::any_of(demand.later.begin(), demand.later.end(), [&](const Labels& flavor) {
      return keep_what_others_leave(candidate, demand, flavor, why);
    });
    const auto due = waiting_.explained_until(candidate, false);
    if (!is_kept && !due) {
      Admission::Refusal refusal = admission_.why_not(*candidate.job, *candidate.needs, demand);
      why.reason = refusal.reason;
      why.message = std::move(refusal.message);
    }
    if (!is_kept && !demand.later.empty()) why.estimated_start = expect_quota(demand, demand.later.front());
    if (!demand.later.empty()) {
      const bool is_searched = is_kept || why.estimated_start;
      forecast_.line_up(candidate, demand, demand.later.front(),
                        {.is_searched = is_searched, .start = why.estimated_start, .lacks_quota = true});
    }
    if (due) return look_again_at(std::min(*due, why.again.value_or(Time::max())));
    if (!demand.later.empty()) foresee(candidate, why);
    return waiting_.wait(candidate, std::move(why));
  }

  /// Quota that others leave, or are made to leave, with nodes. False where there is none, or others come before.
  bool keep_what_others_leave(const Candidate& candidate, const Admission::Demand& demand, const Labels& flavor, Wait& why) {
    if (room_.keeps_no_more() && room_.keeps_no_more_by_right()) return false;
    const std::tuple kind(demand.queue, flavor, candidate.priority.value);
    if (num_vain_reclaims_ >= kVainReclaims || vain_reclaims_.contains(kind) || !making_.may_preempt(*candidate.job))
      return false;
    const bool has_right = admission_.has_right(demand, flavor);
    if (has_right ? room_.keeps_no_more_by_right() : room_.keeps_no_more()) return false;
    const bool is_promised = admission_.has_room_later(demand, flavor);
    if (!is_promised && !room_.may_stop_some(candidate, has_right)) {
      vain_reclaims_.insert(kind);
      return false;
    }
    const Gang gang = gang_of_known_need(candidate, *candidate.needs, flavor);
    auto reservation = is_promised ? room_.reserve_for(candidate, gang) : making_.reclaim(candidate, gang, demand, flavor);
    if (!reservation) {
      vain_reclaims_.insert(kind);
      ++num_vain_reclaims_;
      if (const Time at = making_.protection_ends(); at != Time::max()) why.again = at;
      return false;
    }
    admission_.promise(demand, flavor);
    why.again = making_.changes_at(candidate, *reservation);
    if (reservation->start) why.estimated_start = std::max(now_, *reservation->start);
    room_.keep(std::move(*reservation), has_right);
    why.reason = reason::kMakingRoom;
    const auto makers = making_.makers_of_room(flavor);  // none where all that is left of them are pods that are about to go
    why.message = "quota that others leave is kept for it" + (makers.empty() ? "" : ": " + stopping(makers));
    order_.count(demand.queue, admission_.uncounted(demand, flavor));
    return true;
  }

  /// It waits until there is quota. Where it is the first, the others leave it that, but those that will be over by then: when it is expected.
  std::optional<Time> expect_quota(const Admission::Demand& demand, const Labels& flavor) {
    const bool is_first = !admission_.is_waited_for(demand, flavor);
    admission_.wait(demand, flavor);
    if (!is_first || num_expected_ >= kExpected) return std::nullopt;
    ++num_expected_;
    const auto at = room_.quota_expected(demand, flavor);
    if (at) admission_.expect(demand, flavor, *at);
    return at;
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
    const auto due = waiting_.explained_until(candidate, true);
    if (room_.keeps_no_more()) forecast_.line_up(candidate, demand, flavor, {});
    if (due && room_.keeps_no_more()) return look_again_at(*due);
    if (due && room_.is_hopeless(candidate, flavor)) {  // the same as below, without making the gangs of thousands
      if (room_.keeps_some()) forecast_.line_up(candidate, demand, flavor, {});
      return look_again_at(*due);
    }
    const Gang gang = gang_of_known_need(candidate, *candidate.needs, flavor);
    std::vector<std::string> before, makers;  // keep() moves those before
    for (const auto* reservation : binding) before.push_back(to_text(reservation->job->key));
    std::optional<Time> estimated_start, again;
    bool is_hopeless = false;
    if (!room_.keeps_no_more()) {
      if (auto reservation = making_.reserve_or_preempt(candidate, gang, demand, flavor)) {
        keep_quota(demand, flavor, *reservation);
        again = making_.changes_at(candidate, *reservation);
        makers = making_.makers_of_room(*reservation);
        if (reservation->start) estimated_start = std::max(now_, *reservation->start);
        forecast_.line_up(candidate, demand, flavor, {.is_searched = true, .start = estimated_start});
        room_.keep(std::move(*reservation));
      } else if (room_.keeps_some()) {  // what it needs is kept for those before it
        forecast_.line_up(candidate, demand, flavor, {});
      } else {
        is_hopeless = true;
      }
    }
    if (due) return look_again_at(std::min(*due, again.value_or(Time::max())));
    const auto without_limits = room_.search(gang, {});
    const auto* none = std::get_if<NoRoom>(&without_limits);
    Wait why{.position = position, .estimated_start = estimated_start, .again = again};
    if (!makers.empty()) {
      why.reason = reason::kMakingRoom;
      why.message = stopping(makers) + " and will make room";
    } else if (none == nullptr) {
      why.reason = reason::kReserved;
      why.message = "there is room now, which is kept for " + first_named(before) + ", before it in the line" +
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
    if (!is_hopeless && why.reason != reason::kNeverFits) foresee(candidate, why);
    return waiting_.wait(candidate, std::move(why));
  }

  /// When the one that was lined up last is expected to start, where no search has told it; or why nobody can know.
  void foresee(const Candidate& candidate, Wait& why) {
    if (why.estimated_start || candidate.has_others()) return;
    const Forecast::Outlook outlook = forecast_.outlook();
    why.estimated_start = outlook.start;
    why.is_forecast = true;
    if (outlook.unknown.empty()) return;
    why.message += (why.message.ends_with('.') ? " When it starts nobody can know: " : "; when it starts nobody can know: ") +
                   outlook.unknown + " comes before it, has no lifecycle.activeDeadlineSeconds and tells no time left.";
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

  const Cluster& cluster_;
  const Time now_;
  const std::vector<Candidate> line_;
  Room room_;
  const Topology& topology_ = room_.topology();
  Admission& admission_ = room_.admission();
  FairOrder order_;
  std::map<ObjectKey, Plan> plans_;
  MakingRoom making_{cluster_, now_, room_, plans_};
  Waiting waiting_{cluster_, now_, line_.size()};
  Forecast forecast_{cluster_, room_, now_};
  std::vector<std::pair<Gang, Explanation>> explanations_;                      // since something was taken
  std::set<std::tuple<Admission::Index, Labels, std::int32_t>> vain_reclaims_;  // in this look, by queue, flavor and priority
  std::int32_t num_vain_reclaims_ = 0;                                          // for which was searched
  std::int32_t num_expected_ = 0;
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
