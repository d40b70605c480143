#pragma once
// In what order those that wait are looked at: those that others of their gang wait for, then by priority; of one priority, first those
// of the queue that has the least of what it should have; of one queue, the oldest.
//
// Source: A. Ghodsi et al., Dominant Resource Fairness, 2011 (section 4: the next task is that of the user with the lowest dominant
// share), with weights, and hierarchical as A. Bhattacharya et al., Hierarchical Scheduling for Diverse Datacenter Workloads, 2013: queues
// are compared where their ways from the root part. All that jobs hold counts, not what is borrowed alone as in Kueue's fair sharing, so
// that weights do their work without quotas too. Jobs without a queue are together one more queue, of weight 1.

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "controller/decide/line.h"
#include "controller/decide/queues.h"

namespace trainyard::decide {

class FairOrder {
 public:
  /// `line` is by what others of the gang wait for, priority and age (line.h). Both it and `queues` must outlive this.
  FairOrder(const Cluster& cluster, const std::vector<Candidate>& line, const Queues& queues);
  FairOrder(const FairOrder&) = delete;
  FairOrder& operator=(const FairOrder&) = delete;

  /// Nothing once all have been. Cost: O(depth × log queues).
  const Candidate* next();
  /// A job of the queue starts, or room is kept for it: those behind it are compared as if it had that already. Cost: as of next().
  void count(Queues::Index queue, const Resources& amounts);

 private:
  /// The best that there is of a part of the tree.
  struct Turn {
    std::vector<double>
        shares;  // weighted, dominant: of the queues on the way down to the job's, then of what that one's own jobs hold
    std::size_t first = 0;  // of that queue's in the line: the oldest
    std::size_t place = 0;  // that queue's
    bool operator<(const Turn& other) const { return std::tie(shares, first) < std::tie(other.shares, other.first); }
  };
  using Turns = std::set<Turn>;
  /// A queue; that of the jobs without one; and what all of them are below, which comes last.
  struct Place {
    std::size_t above = 0;
    double weight = 1;
    Resources usage, own_usage;
    double share = 0, own_share = 0;
    std::vector<std::size_t> waiting;          // of the group: indexes in the line, the oldest last
    Turns turns;                               // one of its own jobs, and one of each place below it
    std::optional<Turns::iterator> own, told;  // the one of its own jobs; the one that stands for it in the place above
  };
  std::size_t place_of(Queues::Index queue) const;
  void begin_group();
  void refresh(std::size_t place);
  static void put(Turns& turns, std::optional<Turns::iterator>& turn, double share, const Turn& below);

  const std::vector<Candidate>& line_;
  const Queues& queues_;
  std::vector<std::size_t> place_of_;  // by index in the line; empty: there are no queues
  std::vector<Place> places_;
  std::size_t next_ = 0;  // of the line: the first that is not in the group yet
};

}  // namespace trainyard::decide
