#pragma once
// The TrainingQueues of a cluster as trees, with what jobs hold of their quota: the ledger of one look at the cluster.
//
// A gang takes one flavor whole, and what it holds is in its status (admission) from before its first pod until its last one is gone;
// so nothing of this is remembered, and another controller counts alike.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// What a job holds of a queue's quota.
struct Charge {
  std::string queue;
  Labels labels;  // of the flavor
  Resources amounts;
  bool operator==(const Charge&) const = default;
};

/// The name of the job's queue: spec.queue, or `default` where there is one of that name; empty: it has none.
const std::string& queue_name(const Cluster& cluster, const Job& job);
/// Why the job can't be in the queue that it names; nothing where it can, has none, or holds its place already.
std::optional<contract::Problem> queue_problem(const Cluster& cluster, const Job& job);
/// What the job holds: by its status, or else (it ran before there was a queue for it) by its pods, as part of the first flavor that has
/// their nodes. Nothing where it has no pods and is not about to get any, or belongs to no queue.
std::optional<Charge> charge_of(const Cluster& cluster, const Job& job);

/// The queue by whose spec.stop the job's pods are to go: its own or one above it.
const Queue* draining_queue(const Cluster& cluster, const Job& job);

/// "gpu=h100,zone=a"; "any node" of no labels.
std::string to_text(const Labels& labels);

class Queues {
 public:
  using Index = QuotaTree::Index;
  /// With all that jobs hold now. Cost: O(jobs + queues × flavors × resources).
  explicit Queues(const Cluster& cluster);

  bool is_empty() const { return nodes_.empty(); }
  std::size_t size() const { return nodes_.size(); }
  /// -1: there is none of that name.
  Index find(const std::string& name) const;
  const Queue& queue(Index index) const { return *node(index).queue; }
  Index parent(Index index) const { return node(index).parent; }
  Index root(Index index) const;

  /// Why no job starts from the queue, whatever its quota: a reason and a message.
  struct Stopped {
    const char* reason;
    std::string message;
  };
  std::optional<Stopped> stopped(Index index) const;

  /// What a gang may take: the queue's flavors, or those of the nearest queue above that has any; or none.
  const std::vector<Flavor>& flavors(Index index) const;
  /// Nothing where the resource is not limited for the queue.
  const QuotaTree* quota(Index index, const Labels& labels, const std::string& resource) const;
  bool has_room(Index index, const Labels& labels, const Resources& amounts) const;
  /// Whether there would be room if nobody else used anything.
  bool may_ever_fit(Index index, const Labels& labels, const Resources& amounts) const;
  /// Whether there would be room once nobody else of the tree borrows any more, and the jobs of the queue itself are gone.
  bool has_room_without_borrowers(Index index, const Labels& labels, const Resources& amounts) const;
  /// Whether there would be room if `top`, which is it or above it, were a tree of its own: what nobody outside `top` can take back.
  bool has_room_within(Index top, Index index, const Labels& labels, const Resources& amounts) const;
  /// Whether `index` is `top` or below it.
  bool is_in(Index index, Index top) const;
  /// Whether the queue would use more than what it and those below it bring.
  bool would_borrow(Index index, const Labels& labels, const Resources& amounts) const;
  /// How two queues of one tree stand to each other, below the queue that they have in common: whether the side of the one would stay
  /// within its quota with so much more, and whether that of the other borrows any of these resources.
  struct Claim {
    bool is_within = false, other_borrows = false;
  };
  Claim claim(Index index, const Labels& labels, const Resources& amounts, Index other) const;
  /// Whether there may be another of the tree against which it is within: what no claim() says where this does not.
  bool may_be_within(Index index, const Labels& labels, const Resources& amounts) const;

  void add(Index index, const Labels& labels, const Resources& amounts);
  void remove(Index index, const Labels& labels, const Resources& amounts);
  /// As if the queue itself used so much more or less, also of what is limited only for those below it. usage() does not tell it.
  void count(Index index, const Labels& labels, const Resources& amounts, bool adds);
  /// Of what is limited in that flavor: what the queue uses, with what those below it use of what it or they lend.
  Resources counted(Index index, const Labels& labels) const;

  /// What the job holds; nothing where it holds nothing or has no queue.
  const Charge* charge(const Job& job) const;
  /// It holds nothing any more; remove() was called.
  void forget(const Job& job) { forgotten_.insert(job.key); }
  /// All that jobs of the queue and those below it hold; -1: of jobs without a queue.
  const Resources& usage(Index index) const;
  /// All that jobs of the queue itself hold.
  const Resources& own_usage(Index index) const;
  /// The greatest of the shares that `usage` has of each resource of the cluster. Source: A. Ghodsi et al., Dominant Resource Fairness, 2011.
  double dominant_share(const Resources& usage) const;

 private:
  enum class State { kActive, kParentMissing, kCycle };
  struct Node {
    const Queue* queue = nullptr;
    Index parent = -1;
    State state = State::kActive;
    Resources usage, own_usage;
  };
  struct Cell {
    QuotaTree tree;
    std::vector<bool> is_limited;
  };
  struct HashOfKey {
    std::size_t operator()(const ObjectKey& key) const {
      const std::hash<std::string> hash{};
      return hash(key.name) ^ (hash(key.ns) << 1U);
    }
  };
  using Charges = std::unordered_map<ObjectKey, Charge, HashOfKey>;
  const Node& node(Index index) const { return nodes_[static_cast<std::size_t>(index)]; }
  Node& node(Index index) { return nodes_[static_cast<std::size_t>(index)]; }
  void plant(const Cluster& cluster);
  void count_quota();
  void count_usage(const Cluster& cluster);
  void use(Index index, const Resources& amounts, bool adds);
  using Cells = std::map<std::string, Cell>;
  const Cells* cells(Index index, const Labels& labels) const;
  template <class Holds>
  bool all_limited(Index index, const Labels& labels, const Resources& amounts, Holds holds) const;

  std::vector<Node> nodes_;  // parents before children
  std::unordered_map<std::string, Index> by_name_;
  std::map<Labels, Cells> cells_;
  std::shared_ptr<const Charges> charges_;  // copies of a ledger share it
  std::set<ObjectKey> forgotten_;           // of them
  Resources unqueued_;
  Resources capacity_;
};

}  // namespace trainyard::decide
