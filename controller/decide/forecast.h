#pragma once
// When jobs that wait behind the head of the line are expected to start: for the head reservation.h searches, which is too dear for all.
//
// A sequential model over sums, without places: what is free of the nodes that a job may use, and of its queue's quota, is given to those that
// wait in the order of the line, each whole; what runs gives its own back at its expected end (expected_end.h), and so do those that wait, at
// their deadlines. Nobody overtakes on the same kind of nodes, and gangs are not cut up by what is free on single nodes: it neither foresees
// backfill and preemption nor knows fragmentation. Source: list scheduling, R. Graham, Bounds on Multiprocessing Timing Anomalies, 1969.

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "controller/decide/room.h"

namespace trainyard::decide {

/// An amount of one resource over time.
class Supply {
 public:
  Supply(std::int64_t free, Time now) : free_(free), total_(free), at_(now) {}

  /// Beside what is free, the job holds so much until then; nothing: nobody knows how long.
  void add_held(const Job* job, std::int64_t amount, std::optional<Time> until);
  /// The job takes so much of what is free, or will be, from one time to another; it may be more than is free then.
  void take(const Job& job, std::int64_t amount, Time from, std::optional<Time> until);
  /// Goes on to the first moment at which there is so much. False where there is none: from then on nobody gets any.
  bool wait_for(std::int64_t amount);
  /// Goes on to that moment.
  void wait_until(Time at);

  Time at() const { return at_; }
  bool is_blocked() const { return is_blocked_; }
  /// All that there is once everybody is gone.
  std::int64_t total() const { return total_; }
  /// The first of those whose end nobody knows.
  const Job* endless() const { return endless_; }

 private:
  void give_back(const Job* job, std::int64_t amount, std::optional<Time> until);

  using Change = std::pair<Time, std::int64_t>;
  std::int64_t free_, total_;
  Time at_;
  std::priority_queue<Change, std::vector<Change>, std::greater<>> changes_;
  const Job* endless_ = nullptr;
  bool is_blocked_ = false;
};

/// In one look at the line.
class Forecast {
 public:
  /// `room` must outlive it.
  Forecast(const Cluster& cluster, Room& room, Time now) : cluster_(cluster), room_(room), now_(now) {}

  /// Of one that waits.
  struct Told {
    bool is_searched = false;   // where and when it has room was looked for: `start` is what that found
    std::optional<Time> start;  // nothing: nobody can know
    bool lacks_quota = false;   // else nodes alone
  };
  /// It comes next in the line, and does not start now. It is not lined up where it can't have its place whatever becomes of the others.
  void line_up(const Candidate& candidate, const Admission::Demand& demand, const Labels& flavor, const Told& told);
  /// It starts now.
  void start(const Candidate& candidate, const Admission::Demand& demand, const Labels& flavor);

  struct Outlook {
    std::optional<Time> start;  // not before now
    std::string unknown;        // why there is none, where others are the cause
  };
  /// Of the one that was lined up last. Cost: O(log) for each that was lined up since; the first, and each first of a kind of nodes or quota,
  /// O(nodes + pods + jobs).
  Outlook outlook();

 private:
  struct Entry {
    const Job* job;
    const PodNeeds* needs;
    std::int64_t workers;
    QuotaTree::Index queue;  // whose quota it takes; -1: none
    Labels flavor;
    Told told;
    bool starts_now = false;
  };
  /// Nodes that take the same kind of pods.
  struct Kind {
    std::string resource;
    NodeRules rules;  // without the flavor's labels
    Labels flavor;
    std::size_t made_at;  // those that started before are in what was free
    Supply supply;
  };
  /// The quota of one resource and flavor, by queue; nothing where it limits nobody.
  struct Ledger {
    std::string resource;
    Labels flavor;
    std::vector<std::optional<Supply>> by_queue;
  };
  void add(const Candidate& candidate, const Admission::Demand& demand, const Labels& flavor, const Told& told, bool starts_now);
  Outlook process(const Entry& entry, std::size_t index);
  std::string endless_on_nodes_of(const Entry& entry) const;
  std::string resource_of(const Entry& entry);
  Supply* nodes_for(const Entry& entry, const std::string& resource, std::size_t index);
  Kind& make_kind(const Entry& entry, const std::string& resource);
  std::vector<Supply*> quotas_for(const Entry& entry, const std::string& resource);
  Ledger& make_ledger(const Entry& entry, const std::string& resource);

  const Cluster& cluster_;
  Room& room_;
  const Time now_;
  std::vector<Entry> entries_;
  std::size_t num_processed_ = 0;
  Outlook last_;
  std::optional<Resources> capacity_;
  std::deque<Kind> kinds_;
  std::deque<Ledger> ledgers_;
};

}  // namespace trainyard::decide
