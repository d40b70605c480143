#include "crds/contract/hang.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <set>

namespace trainyard::contract {
namespace {

using Ranks = std::set<std::int32_t>;

constexpr double kLongSeconds = 30;  // in a call: nobody waits so long for a peer that has just died

/// A process that was held up for a moment has been still for much longer than it has been silent.
bool is_silent(const RankActivity& activity) {
  return activity.silentSeconds >= kSilentSeconds && 2 * activity.silentSeconds >= activity.stillSeconds;
}

/// "rank 2", "ranks 0, 1 and 3"; of many the first ones.
std::string names_of(const Ranks& ranks) {
  constexpr std::size_t kMost = 8;
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  std::size_t i = 0;
  for (const auto rank : ranks) {
    if (i == kMost) return text + " and " + std::to_string(ranks.size() - kMost) + " others";
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(rank);
    ++i;
  }
  return text;
}

std::string seconds_text(double seconds) { return std::to_string(std::llround(seconds)) + " s"; }

std::string call_text(const GroupCall& call) {
  const std::string axis = axis_of_group(call.group);
  std::string text = call.operation + " " + std::to_string(call.number) + " of " +
                     (call.group == "world" ? "all ranks" : "the " + axis + " axis");
  if (call.group != axis) text += ", " + call.group;
  return text + " (" + std::to_string(call.elements) + (call.elements == 1 ? " element)" : " elements)");
}

/// "in forward of step 12".
std::string doing_text(const RankActivity& activity) {
  std::string text = activity.call ? "in " + call_text(*activity.call) + " during " : "in ";
  text += activity.doing.empty() ? "no named part" : activity.doing;
  return text + (activity.step > 0 ? ", after step " : ", before the first step; step ") + std::to_string(activity.step);
}

class Hang {
 public:
  Hang(const Layout& layout, const std::vector<RankActivity>& activities) : layout_(layout) {
    for (const auto& activity : activities) {
      if (is_one(activity.rank)) by_rank_[activity.rank] = &activity;
    }
  }

  Blame judge() const {
    const Ranks awaited = all_awaited();
    const auto those = [](const Ranks& of, auto&& holds) {
      Ranks out;
      std::copy_if(of.begin(), of.end(), std::inserter(out, out.end()), holds);
      return out;
    };
    Ranks known;
    for (const auto& [rank, activity] : by_rank_) known.insert(rank);
    const auto silent = [this](std::int32_t rank) { return find(rank) != nullptr && is_silent(*find(rank)); };
    const auto busy = [this](std::int32_t rank) { return find(rank) != nullptr && !find(rank)->call; };
    const auto unknown = [this](std::int32_t rank) { return find(rank) == nullptr; };
    if (auto found = those(awaited, silent); !found.empty()) return blame(found);
    if (auto found = those(awaited, busy); !found.empty()) return blame(found);
    // What a silent rank told last may be older than what it did last: nobody may seem to wait for it.
    if (auto found = those(known, silent); !found.empty()) return blame(found);
    if (auto found = those(awaited, unknown); !found.empty()) return blame(found);
    if (longest_waiter() == nullptr) return nobody_waits();
    return awaited.empty() ? call_does_not_end() : everybody_waits();
  }

 private:
  /// What pods tell may be anything.
  bool is_one(std::int32_t rank) const { return rank >= 0 && rank < layout_.world_size(); }

  const RankActivity* find(std::int32_t rank) const {
    const auto found = by_rank_.find(rank);
    return found == by_rank_.end() ? nullptr : found->second;
  }

  std::vector<std::int32_t> members(const std::string& group, std::int32_t rank) const {
    if (group == "shards") return layout_.shard_group(rank);
    if (group == "replicas") return layout_.replica_group(rank);
    const std::string axis = axis_of_group(group);
    if (axis == "data") return layout_.group(Axis::kDp, rank);
    if (axis == "tensor") return layout_.group(Axis::kTp, rank);
    if (axis == "pipeline") return layout_.group(Axis::kPp, rank);
    std::vector<std::int32_t> all(static_cast<std::size_t>(layout_.world_size()));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  /// Whom a rank waits for: the other end, or those of its group that have not come to the call.
  Ranks awaited_by(const RankActivity& waiter) const {
    if (!waiter.call) return {};
    const auto& call = *waiter.call;
    if (call.peer) return is_one(*call.peer) ? Ranks{*call.peer} : Ranks{};
    Ranks out;
    for (const auto member : members(call.group, waiter.rank)) {
      const auto* activity = find(member);
      if (activity != nullptr) {
        const auto at = activity->started.find(call.group);
        if (at != activity->started.end() && at->second >= call.number) continue;
      }
      out.insert(member);
    }
    out.erase(waiter.rank);
    return out;
  }

  Ranks all_awaited() const {
    Ranks out;
    for (const auto& [rank, activity] : by_rank_) out.merge(awaited_by(*activity));
    return out;
  }

  /// Of those that wait for one of `ranks`; of all that wait where it is empty.
  const RankActivity* longest_waiter(const Ranks& ranks = {}) const {
    const RankActivity* longest = nullptr;
    for (const auto& [rank, activity] : by_rank_) {
      if (!activity->call || ranks.contains(rank)) continue;
      const Ranks awaited = awaited_by(*activity);
      const bool counts = ranks.empty() || std::any_of(awaited.begin(), awaited.end(), [&](auto r) { return ranks.contains(r); });
      if (counts && (longest == nullptr || activity->call->seconds > longest->call->seconds)) longest = activity;
    }
    return longest;
  }

  /// "ranks 0 and 1 wait for it in all_reduce 1042 of the data axis (4096 elements) for 31 s"; empty where nobody does.
  std::string waiters_text(const Ranks& ranks) const {
    const auto* longest = longest_waiter(ranks);
    if (longest == nullptr) return "";
    Ranks with;
    for (const auto& [rank, activity] : by_rank_) {
      const auto& call = activity->call;
      if (call && !ranks.contains(rank) && call->group == longest->call->group && call->operation == longest->call->operation &&
          call->number == longest->call->number && call->peer == longest->call->peer)
        with.insert(rank);
    }
    return names_of(with) + (with.size() == 1 ? " waits for " : " wait for ") + (ranks.size() == 1 ? "it" : "them") + " in " +
           call_text(*longest->call) + ", since " + seconds_text(longest->call->seconds);
  }

  Blame blame(const Ranks& ranks) const {
    Blame out{.ranks = {ranks.begin(), ranks.end()}, .message = names_of(ranks)};
    const bool one = ranks.size() == 1;
    const auto* first = find(*ranks.begin());
    if (first == nullptr) {
      out.message += one ? " has not come, and told nothing" : " have not come, and told nothing";
    } else if (is_silent(*first)) {
      out.message += std::string(one ? " has" : " have") + " not answered for " + seconds_text(first->silentSeconds) +
                     ", as where a process or its machine is stopped; last " + doing_text(*first);
    } else {
      out.answers = true;
      out.message += std::string(one ? " has" : " have") + " done nothing for " + seconds_text(first->stillSeconds) + ": " +
                     doing_text(*first);
    }
    if (const auto waiters = waiters_text(ranks); !waiters.empty()) out.message += "; " + waiters;
    return out;
  }

  Blame everybody_waits() const {
    const auto* longest = longest_waiter();
    Blame out{.all_wait = true, .message = "the ranks wait for each other: "};
    std::size_t told = 0;
    for (const auto& [rank, activity] : by_rank_) {
      if (!activity->call) continue;
      if (++told > 4) break;
      out.message += (told > 1 ? "; rank " : "rank ") + std::to_string(rank) + " in " + call_text(*activity->call);
    }
    out.message += "; the longest since " + seconds_text(longest->call->seconds);
    return out;
  }

  Blame call_does_not_end() const {
    const auto* longest = longest_waiter();
    const auto& call = *longest->call;
    const auto in_it = members(call.group, longest->rank);
    return {.message = names_of({in_it.begin(), in_it.end()}) + " have all come to " + call_text(call) +
                       " and it has not ended for " + seconds_text(call.seconds) +
                       ", as where the network between them loses what it is given"};
  }

  Blame nobody_waits() const {
    const RankActivity* stillest = nullptr;
    for (const auto& [rank, activity] : by_rank_) {
      if (stillest == nullptr || activity->stillSeconds > stillest->stillSeconds) stillest = activity;
    }
    if (stillest == nullptr) return {};
    return blame({stillest->rank});
  }

  const Layout& layout_;
  std::map<std::int32_t, const RankActivity*> by_rank_;
};

}  // namespace

Blame blame_for_hang(const Layout& layout, const std::vector<RankActivity>& activities) {
  return Hang(layout, activities).judge();
}

std::optional<Failure> as_hang(const Failure& cause, const Layout& layout, const std::vector<RankActivity>& activities,
                               std::optional<std::int64_t> hang_timeout) {
  const bool hung = cause.reason == kRankHung;
  const bool waited_long = std::any_of(activities.begin(), activities.end(), [](const auto& activity) {
    return activity.call && activity.call->seconds >= kLongSeconds;
  });
  if (activities.empty() || !(hung || (cause.reason == "PeerLost" && waited_long))) return std::nullopt;
  const auto blame = blame_for_hang(layout, activities);
  if (blame.message.empty()) return std::nullopt;
  Failure failure = cause;
  failure.reason = kRankHung;
  failure.failureClass = class_of(blame);
  failure.message = (hung && hang_timeout
                         ? "no sign of progress for the " + std::to_string(*hang_timeout) + " s of lifecycle.hangTimeoutSeconds: "
                         : "a collective did not end: ") +
                    blame.message;
  if (blame.ranks.empty()) return failure;
  if (failure.rank != blame.ranks.front()) failure.lastLines.clear();  // another rank's
  failure.rank = blame.ranks.front();
  return failure;
}

FailureClass class_of(const Blame& blame) {
  return blame.all_wait || blame.answers ? FailureClass::kUnknown : FailureClass::kInfrastructure;
}

std::string axis_of_group(const std::string& group) {
  if (group.starts_with("activations") || group.starts_with("gradients")) return "pipeline";
  if (group == "shards" || group == "replicas") return "data";
  return group;
}

}  // namespace trainyard::contract
