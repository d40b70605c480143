#include "controller/decide/growth.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "controller/decide/accept.h"
#include "controller/decide/avoided_nodes.h"
#include "controller/decide/creation.h"
#include "controller/decide/elastic.h"
#include "controller/decide/resizing.h"
#include "controller/decide/review.h"

namespace trainyard::decide {
namespace {

/// So many searches in vain, and so many more for the others, whose turn it is for so long.
constexpr std::int64_t kMostVain = 64, kMostVainInTurn = 16;

std::string without_numbers(std::string text) {
  std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
  return text;
}

Plan ask_first(SecondLook look) {
  Plan plan;
  plan.phases.push_back({std::move(*look.ask)});
  return plan;
}

class Growth {
  /// There is room for so many, and when they are tried again.
  struct Found {
    std::int32_t size = 0;
    Time again;
  };

 public:
  Growth(const Cluster& cluster, Time now, Room& room) : cluster_(cluster), now_(now), room_(room) {}

  Plan grow(const Candidate& candidate) {
    const Job& job = *candidate.job;
    if (candidate.sizes.empty()) return forget(candidate);
    if (candidate.needs == nullptr) {
      SecondLook look = second_look(cluster_, job, now_);
      return look.ask ? ask_first(std::move(look)) : stay(job, look.problem, std::nullopt);
    }
    constexpr std::int32_t kNone = std::numeric_limits<std::int32_t>::max();
    const std::int32_t refused = asks_for_more(job) ? kNone : refused_size(job.status, now_).value_or(kNone);
    const std::vector<Reservation*> binding = room_.binding_for(job);
    const auto avoided = avoided_nodes(job, now_);
    std::string why_not_more;
    for (const auto size : candidate.sizes) {
      if (size >= refused) continue;
      const Sized sized(candidate, size);
      const Room::Place place = room_.find(*sized, binding, avoided);
      if (place.is_there) return grow_to(*sized, place, binding);
      if (why_not_more.empty()) why_not_more = why_not(*sized, place, avoided);
    }
    if (why_not_more.empty()) {
      why_not_more =
          "there was trouble with " + std::to_string(refused) + " workers; they are tried again from " + job.status.resize->at;
    }
    return stay(job, why_not_more, std::nullopt);
  }

  /// It found no room, or was not looked at: what it had found before counts no more.
  Plan forget(const Candidate& candidate) const {
    Review review(cluster_, *candidate.job, now_);
    forget_resize(review.status, now_);
    return review.plan();
  }

 private:
  /// There is room for it.
  Plan grow_to(const Candidate& grown, const Room::Place& place, const std::vector<Reservation*>& binding) {
    const Job& job = *grown.job;
    Review review(cluster_, job, now_);
    if (const auto until = refused_until(job.status, now_); until && !asks_for_more(job)) {
      review.look_again(*until);
      return review.plan();
    }
    const Time at = grows_at(job, cluster_.settings, now_);
    if (now_ < at) {
      // Why it had no more until now is no longer true.
      if (resize_for(job.status, contract::ResizeReason::kRoomFound) == nullptr) {
        review.set(condition::kPlaced, true, reason::kGangPlaced, placed_message(job.spec, job.status));
      }
      set_resize(review.status, contract::ResizeReason::kRoomFound, grown.size, at);
      review.look_again(at);
      return review.plan();
    }
    SecondLook look = second_look(cluster_, job, now_);
    if (look.ask) return ask_first(std::move(look));
    const std::string& trouble = look.problem.empty() ? look.no_more_pods : look.problem;
    if (!trouble.empty()) {
      return stay(job, trouble, Found{.size = grown.size, .again = look.again.value_or(now_ + cluster_.settings.grow_after)});
    }
    room_.take(grown, place.nodes, binding);
    room_.admission().start(job, place.demand, place.flavor);
    if (!place.demand.is_charged) admit(review, room_.admission().queues(), place.demand, place.flavor);
    begin_resize(review, grown.size, "there is room for them");
    return review.plan();
  }

  /// It trains on as it is, and says why. Where only numbers of that change, they wait for something else to be written. `found`: there is room,
  /// and when it is tried again.
  Plan stay(const Job& job, const std::string& why_not_more, const std::optional<Found>& found) const {
    Review review(cluster_, job, now_);
    forget_resize(review.status, now_);
    if (found) review.look_again(found->again);
    if (found && !asks_for_more(job)) {
      set_resize(review.status, contract::ResizeReason::kRoomFound, found->size, found->again);
    }
    const std::string message = placed_message(placed_message(job.spec, job.status), why_not_more);
    const auto* told = find_condition(job.status, condition::kPlaced);
    review.is_urgent = told == nullptr || without_numbers(told->message) != without_numbers(message);
    const bool is_due = review.is_urgent || differs_in_kind(review.status, job.status) || now_ >= numbers_due(cluster_, job);
    if (is_due) review.set(condition::kPlaced, true, reason::kGangPlaced, message);
    return review.plan();
  }

  const Cluster& cluster_;
  const Time now_;
  Room& room_;
};

}  // namespace

void grow_those_that_run(const Cluster& cluster, Time now, Room& room, std::map<ObjectKey, Plan>& plans) {
  Growth growth(cluster, now, room);
  const auto add = [&plans](const Candidate& candidate, Plan plan) {
    if (!plan.is_empty() || plan.look_again) plans.emplace(candidate.job->key, std::move(plan));
  };
  const auto grow = [&](const Candidate& candidate) {
    const bool is_busy = room.is_stopped(*candidate.job) || plans.contains(candidate.job->key);
    if (!is_busy) add(candidate, growth.grow(candidate));
  };
  const auto all = those_that_may_grow(cluster, now);
  std::vector<const Candidate*> left;
  std::int64_t most = room.num_vain() + kMostVain;
  for (const auto& candidate : all) {
    if (room.num_vain() < most) {
      grow(candidate);
    } else {
      left.push_back(&candidate);
    }
  }
  if (left.empty()) return;
  const auto turn = std::max(std::chrono::seconds(1), 3 * cluster.settings.grow_after);
  const auto number = now.time_since_epoch() / turn;
  std::rotate(left.begin(), left.begin() + number * kMostVainInTurn % std::ssize(left), left.end());
  most += kMostVainInTurn;
  for (const auto* candidate : left) {
    if (room.num_vain() < most) {
      grow(*candidate);
      continue;
    }
    Plan plan = growth.forget(*candidate);
    const auto next = std::chrono::ceil<std::chrono::seconds>((number + 1) * turn - now.time_since_epoch());
    plan.look_again = std::min<std::chrono::milliseconds>(plan.look_again.value_or(next), next);
    add(*candidate, std::move(plan));
  }
}

}  // namespace trainyard::decide
