#pragma once
// In what order those that wait are looked at: those that others of their gang wait for, then by priority; of one priority, first those
// of the queue that has the least of what it should have; of one queue, the oldest.
//
// Source: A. Ghodsi et al., Dominant Resource Fairness, 2011 (section 4: the next task is that of the user with the lowest dominant
// share), with weights, and hierarchical as A. Bhattacharya et al., Hierarchical Scheduling for Diverse Datacenter Workloads, 2013: queues
// are compared where their ways from the root part. All that jobs hold counts, not what is borrowed alone as in Kueue's fair sharing, so
// that weights do their work without quotas too. Jobs without a queue are together one more queue, of weight 1.

#include <cstddef>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "controller/decide/line.h"
#include "controller/decide/queues.h"

namespace trainyard::decide {

/// The weighted dominant shares on the way from the root to the queue, then that of its own jobs.
std::vector<double> shares(const Queues& queues, Queues::Index index);

class FairOrder {
 public:
  /// `line` is by what others of the gang wait for, priority and age (line.h), and must outlive this.
  FairOrder(const Cluster& cluster, const std::vector<Candidate>& line, Queues queues);

  /// Nothing once all have been. Cost: O(log queues).
  const Candidate* next();
  /// A job of the queue starts, or room is kept for it: those behind it are compared as if it had that already. Cost: O(queues × depth).
  void count(Queues::Index queue, const Resources& amounts);

 private:
  struct Turn {
    std::vector<double> shares;
    std::size_t first;  // of the queue's in the line: the oldest
    Queues::Index queue;
    bool operator<(const Turn& other) const { return std::tie(shares, first) < std::tie(other.shares, other.first); }
  };
  void begin_group();
  void take_turns();

  const std::vector<Candidate>& line_;
  Queues queues_;
  std::vector<Queues::Index> queue_of_;            // by index in the line
  std::vector<std::vector<std::size_t>> waiting_;  // of the group, by queue + 1: indexes in the line, the oldest last
  std::set<Turn> turns_;
  std::size_t group_end_ = 0;
};

}  // namespace trainyard::decide
