#pragma once
// The canonical order of a sum: a balanced binary tree over the index of the summands.

#include <cstdint>
#include <utility>
#include <vector>

namespace trainyard::plan {

/// Adds summands 0, 1, 2, … as they come, in the order of a balanced binary tree, and keeps only the roots of finished subtrees,
/// at most log2(n) + 1 of them (a binary counter: equal sizes are joined). With n = 2^k summands the tree is perfect, so cutting them
/// into 2^j contiguous blocks, summing each and then summing the blocks' sums gives the same expression: the same bits, for any j.
/// With another n the roots that remain are joined from the youngest to the oldest.
///
/// `Join` is called as join(left, right) with left from lower indices, and returns their sum.
template <class T, class Join>
class BalancedSum {
 public:
  explicit BalancedSum(Join join) : join_(std::move(join)) {}

  void add(T value) {
    std::int64_t count = 1;
    while (!roots_.empty() && roots_.back().count == count) {
      value = join_(std::move(roots_.back().value), std::move(value));
      count *= 2;
      roots_.pop_back();
    }
    roots_.push_back({std::move(value), count});
  }

  /// The sum of all that was added, at least one summand; empties this object.
  T take() {
    T value = std::move(roots_.back().value);
    for (roots_.pop_back(); !roots_.empty(); roots_.pop_back()) value = join_(std::move(roots_.back().value), std::move(value));
    return value;
  }

  bool empty() const { return roots_.empty(); }

 private:
  struct Root {
    T value;
    std::int64_t count;  // of its summands, a power of two
  };
  Join join_;
  std::vector<Root> roots_;  // counts fall from front to back
};

}  // namespace trainyard::plan
