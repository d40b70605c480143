#include "controller/decide/quota.h"

#include <algorithm>
#include <utility>

namespace trainyard::decide {
namespace {

std::int64_t bounded(std::int64_t amount) { return std::clamp<std::int64_t>(amount, 0, QuotaTree::kMost); }

}  // namespace

QuotaTree::QuotaTree(std::vector<Index> parents, std::vector<QuotaLimits> limits) {
  for (std::size_t i = 0; i < parents.size(); ++i) {
    Node node{.parent = parents[i], .limits = limits[i]};
    node.limits.nominal = bounded(node.limits.nominal);
    for (auto* limit : {&node.limits.borrowing, &node.limits.lending}) {
      if (*limit) **limit = bounded(**limit);
    }
    node.subtree = node.limits.nominal;
    nodes_.push_back(node);
  }
  for (std::size_t i = nodes_.size(); i-- > 0;) {  // children before parents
    Node& node = nodes_[i];
    if (node.limits.lending) node.kept = std::max<std::int64_t>(0, node.subtree - *node.limits.lending);
    if (node.parent >= 0) nodes_[at(node.parent)].subtree += node.subtree - node.kept;
  }
}

std::int64_t QuotaTree::passed(const Node& node) { return std::max<std::int64_t>(0, node.usage - node.kept); }

std::int64_t QuotaTree::available_within(Index top, Index index) const {
  const Node& node = nodes_[at(index)];
  if (index == top || node.parent < 0) return node.subtree - node.usage;
  std::int64_t of_others = available_within(top, node.parent);
  if (node.limits.borrowing) of_others = std::min(of_others, node.subtree - node.kept + *node.limits.borrowing - passed(node));
  return std::max<std::int64_t>(0, node.kept - node.usage) + std::max<std::int64_t>(0, of_others);
}

std::int64_t QuotaTree::most(Index index) const {
  const Node& node = nodes_[at(index)];
  if (node.parent < 0) return node.subtree;
  const std::int64_t all = node.kept + most(node.parent);
  return node.limits.borrowing ? std::min(all, node.subtree + *node.limits.borrowing) : all;
}

void QuotaTree::add(Index index, std::int64_t amount) {
  amount = bounded(amount);
  nodes_[at(index)].own_usage += amount;
  for (; index >= 0 && amount > 0; index = nodes_[at(index)].parent) {
    Node& node = nodes_[at(index)];
    const std::int64_t before = passed(node);
    node.usage += amount;
    amount = passed(node) - before;
  }
}

void QuotaTree::remove(Index index, std::int64_t amount) {
  amount = bounded(amount);
  nodes_[at(index)].own_usage -= amount;
  for (; index >= 0 && amount > 0; index = nodes_[at(index)].parent) {
    Node& node = nodes_[at(index)];
    const std::int64_t before = passed(node);
    node.usage -= amount;
    amount = before - passed(node);
  }
}

std::int64_t QuotaTree::borrowed(Index index) const {
  const Node& node = nodes_[at(index)];
  return std::max<std::int64_t>(0, node.usage - node.subtree);
}

std::int64_t QuotaTree::available_without_borrowers(Index index) const {
  QuotaTree then = *this;
  std::vector<bool> is_on_the_way(nodes_.size());  // to the root
  for (Index i = index; i >= 0; i = nodes_[at(i)].parent) is_on_the_way[at(i)] = true;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const Node& now = nodes_[i];
    then.nodes_[i].usage = is_on_the_way[i] ? std::min(now.own_usage, now.limits.nominal) : std::min(now.usage, now.subtree);
  }
  then.nodes_[at(index)].usage = 0;
  for (std::size_t i = nodes_.size(); i-- > 0;) {  // children before parents
    const Node& node = then.nodes_[i];
    if (node.parent >= 0 && is_on_the_way[at(node.parent)]) then.nodes_[at(node.parent)].usage += passed(node);
  }
  return then.available(index);
}

bool QuotaTree::stays_within(Index index, Index of, std::int64_t amount) const {
  amount = bounded(amount);
  for (; of != index; of = nodes_[at(of)].parent) {
    Node after = nodes_[at(of)];
    after.usage += amount;
    amount = passed(after) - passed(nodes_[at(of)]);
  }
  return nodes_[at(index)].usage + amount <= nodes_[at(index)].subtree;
}

bool QuotaTree::own_stay_within(Index index, std::int64_t amount) const {
  const Node& node = nodes_[at(index)];
  return node.own_usage + bounded(amount) <= node.limits.nominal;
}

}  // namespace trainyard::decide
