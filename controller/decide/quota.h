#pragma once
// How much of one resource on one flavor of node the queues of a tree may use: each has a nominal quota, lends what it leaves unused
// to the others, and borrows of theirs, within limits.
//
// Source: Kubernetes-SIGs Kueue, KEP-79 (hierarchical cohorts) and KEP-1224 (lending limit); there every queue is a leaf of the tree, here
// any node of it is a queue that jobs may be in. For a node n with its children c:
//   subtree(n)   = nominal(n) + Σ_c (subtree(c) − kept(c))               what n and those below it bring, as n sees it
//   kept(n)      = max(0, subtree(n) − lendingLimit(n)), or 0            what they never lend; used first
//   passed(n)    = max(0, usage(n) − kept(n))                            the usage that n's parent sees
//   usage(n)     = used by n's own jobs + Σ_c passed(c)
//   available(n) = at a root: subtree(n) − usage(n); else
//                  max(0, kept(n) − usage(n)) + max(0, min(available(parent), subtree(n) − kept(n) + borrowingLimit(n) − passed(n)))
// The rules: usage(root) ≤ subtree(root), and passed(n) ≤ subtree(n) − kept(n) + borrowingLimit(n). What is available() keeps them, in
// whatever order jobs come and go; after an edit of the quotas there may be more usage than they allow, and then nothing is available.

#include <cstdint>
#include <optional>
#include <vector>

namespace trainyard::decide {

struct QuotaLimits {
  std::int64_t nominal = 0;
  std::optional<std::int64_t> borrowing, lending;  // nothing: no limit
  bool operator==(const QuotaLimits&) const = default;
};

/// All trees of a cluster, for one resource and flavor. Amounts above kMost count as that, so that no sum overflows. Every function costs
/// O(depth).
class QuotaTree {
 public:
  using Index = std::int32_t;
  static constexpr std::int64_t kMost = std::int64_t{1} << 53;  // 8 PiB

  /// parents[i] is less than i, or -1 for a root.
  QuotaTree(std::vector<Index> parents, std::vector<QuotaLimits> limits);

  /// What more the jobs of the node may use now; 0 or less where that is nothing.
  std::int64_t available(Index node) const { return available_within(-1, node); }
  /// The same as if `top`, which is it or above it, were the root: nothing of what others bring, and nothing used by them. -1: the root.
  std::int64_t available_within(Index top, Index node) const;
  /// The same while nobody uses anything.
  std::int64_t most(Index node) const;
  void add(Index node, std::int64_t amount);
  void remove(Index node, std::int64_t amount);

  const QuotaLimits& limits(Index node) const { return nodes_[at(node)].limits; }
  std::int64_t usage(Index node) const { return nodes_[at(node)].usage; }
  std::int64_t subtree(Index node) const { return nodes_[at(node)].subtree; }
  /// By how much the usage exceeds what the node and those below it bring.
  std::int64_t borrowed(Index node) const;
  /// What the jobs of the node might use once nobody else borrows any more, and all of its own are gone. Cost: O(nodes).
  std::int64_t available_without_borrowers(Index node) const;
  /// Whether `node` still borrowed nothing if `of`, which is it or below it, used `amount` more.
  bool stays_within(Index node, Index of, std::int64_t amount) const;
  /// The same of jobs in the node itself alone, against its nominal quota: what those below it use or bring counts nothing.
  bool own_stay_within(Index node, std::int64_t amount) const;
  bool own_borrow(Index node) const { return !own_stay_within(node, 0); }

 private:
  struct Node {
    Index parent = -1;
    QuotaLimits limits;
    std::int64_t subtree = 0, kept = 0, usage = 0, own_usage = 0;
  };
  static std::size_t at(Index node) { return static_cast<std::size_t>(node); }
  static std::int64_t passed(const Node& node);

  std::vector<Node> nodes_;
};

}  // namespace trainyard::decide
