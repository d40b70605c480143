#include "controller/decide/queues.h"

#include <algorithm>
#include <set>
#include <utility>

#include "controller/decide/conditions.h"
#include "controller/decide/node_filter.h"
#include "controller/decide/quantity.h"

namespace trainyard::decide {
namespace {

Resources amounts_of(const contract::AdmissionStatus& admission) {
  Resources out;
  for (const auto& [name, quantity] : admission.resources) out.set(name, parse_quantity(name, quantity.text).value_or(0));
  return out;
}

/// The nearest queue's, from this one up, that has any.
const std::vector<Flavor>* flavors_of(const Cluster& cluster, const std::string& name) {
  std::set<std::string> seen;
  for (const Queue* at = cluster.queue(name); at != nullptr && seen.insert(at->name).second; at = cluster.queue(at->parent)) {
    if (!at->flavors.empty()) return &at->flavors;
  }
  return nullptr;
}

const contract::AdmissionStatus* admission_of(const Job& job) { return job.status.admission ? &*job.status.admission : nullptr; }

}  // namespace

std::string to_text(const Labels& labels) {
  std::string out;
  for (const auto& [key, value] : labels) out += (out.empty() ? "" : ",") + key + "=" + value;
  return out.empty() ? "any node" : out;
}

const std::string& queue_name(const Cluster& cluster, const Job& job) {
  static const std::string kNone, kByDefault(contract::kDefaultQueue);
  if (job.spec.queue) return *job.spec.queue;
  return cluster.queue(kByDefault) == nullptr ? kNone : kByDefault;
}

std::optional<contract::Problem> queue_problem(const Cluster& cluster, const Job& job) {
  const std::string& name = queue_name(cluster, job);
  if (name.empty()) return std::nullopt;
  const Queue* queue = cluster.queue(name);
  if (queue != nullptr && !queue->namespaces) return std::nullopt;
  if (is_true(job.status, condition::kPlaced) || charge_of(cluster, job)) return std::nullopt;
  if (queue == nullptr) {
    return contract::Problem{"spec.queue", "names no TrainingQueue of the cluster: " + name +
                                               "; `kubectl get trainingqueues` lists them. The job waits until there is one"};
  }
  const Namespace* found = cluster.name_space(job.key.ns);
  if (found != nullptr && contract::selects(*queue->namespaces, found->labels)) return std::nullopt;
  return contract::Problem{"spec.queue", "TrainingQueue " + name + " is not for jobs of namespace " + job.key.ns +
                                             ": its spec.namespaceSelector does not select it. Use another queue, or have its "
                                             "owner select the namespace"};
}

const Queue* draining_queue(const Cluster& cluster, const Job& job) {
  std::set<std::string> seen;
  const auto* admission = admission_of(job);
  const Queue* at = cluster.queue(admission != nullptr ? admission->queue : queue_name(cluster, job));
  for (; at != nullptr && seen.insert(at->name).second; at = cluster.queue(at->parent)) {
    if (at->stop == contract::Stop::kDrain) return at;
  }
  return nullptr;
}

std::optional<Charge> charge_of(const Cluster& cluster, const Job& job) {
  const bool is_ours = job.spec.managedBy == contract::kManagedBy;
  if (!is_ours || job.status.generation == 0) return std::nullopt;  // no gang was ever made
  const bool is_placed = is_true(job.status, condition::kPlaced) && !is_finished(job.status);
  const auto* admission = admission_of(job);
  const auto as_admitted = [&] { return Charge{admission->queue, admission->nodeLabels, amounts_of(*admission)}; };
  if (is_placed && admission != nullptr) return as_admitted();  // as of most gangs: their pods say nothing more
  const auto pods = cluster.pods_of(job);
  const bool is_there = std::any_of(pods.begin(), pods.end(), [](const Pod* pod) { return !pod->is_finished(); });
  if (!is_there && !is_placed) return std::nullopt;
  if (admission != nullptr) return as_admitted();
  Charge out{.queue = queue_name(cluster, job), .labels = {}, .amounts = {}};
  const Node* node = nullptr;
  for (const Pod* pod : pods) {
    if (pod->is_finished()) continue;
    out.amounts += pod->requests;
    if (node == nullptr) node = cluster.node(pod->node);
  }
  if (const auto* flavors = flavors_of(cluster, out.queue); flavors != nullptr && node != nullptr) {
    const auto found =
        std::find_if(flavors->begin(), flavors->end(), [node](const Flavor& flavor) { return has_labels(*node, flavor.labels); });
    if (found != flavors->end()) out.labels = found->labels;
  }
  return out;
}

Queues::Queues(const Cluster& cluster) {
  if (cluster.queues().empty()) return;
  plant(cluster);
  count_quota();
  for (const auto& [name, found] : cluster.nodes()) capacity_ += found.allocatable;
  count_usage(cluster);
}

/// Trees from the roots down. What is not reached so is in a cycle or below one; it stands for itself.
void Queues::plant(const Cluster& cluster) {
  std::map<std::string, std::vector<const Queue*>> children;
  std::vector<const Queue*> roots;
  for (const auto& [name, queue] : cluster.queues()) {
    const bool is_root = queue.parent.empty() || cluster.queue(queue.parent) == nullptr;
    if (is_root) {
      roots.push_back(&queue);
    } else {
      children[queue.parent].push_back(&queue);
    }
  }
  const auto add = [this](const Queue& queue, Index parent, State state) {
    by_name_[queue.name] = static_cast<Index>(nodes_.size());
    nodes_.push_back({.queue = &queue, .parent = parent, .state = state, .usage = {}, .own_usage = {}});
  };
  for (const Queue* root : roots) add(*root, -1, root->parent.empty() ? State::kActive : State::kParentMissing);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    for (const Queue* child : children[nodes_[i].queue->name]) add(*child, static_cast<Index>(i), State::kActive);
  }
  for (const auto& [name, queue] : cluster.queues()) {
    if (!by_name_.contains(name)) add(queue, -1, State::kCycle);
  }
}

void Queues::count_quota() {
  std::map<Labels, std::set<std::string>> named;
  for (const auto& item : nodes_) {
    for (const auto& flavor : item.queue->flavors) {
      for (const auto& [resource, limits] : flavor.resources) named[flavor.labels].insert(resource);
    }
  }
  std::vector<Index> parents;
  for (const auto& item : nodes_) parents.push_back(item.parent);
  for (const auto& [labels, resources] : named) {
    for (const auto& resource : resources) {
      std::vector<QuotaLimits> limits(nodes_.size());
      std::vector<bool> is_limited(nodes_.size());
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        is_limited[i] = nodes_[i].parent >= 0 && is_limited[static_cast<std::size_t>(nodes_[i].parent)];
        for (const auto& flavor : nodes_[i].queue->flavors) {
          const auto found = flavor.resources.find(resource);
          if (flavor.labels != labels || found == flavor.resources.end()) continue;
          limits[i] = found->second;
          is_limited[i] = true;
        }
      }
      cells_[labels].emplace(resource, Cell{QuotaTree(parents, std::move(limits)), std::move(is_limited)});
    }
  }
}

void Queues::count_usage(const Cluster& cluster) {
  Charges charges;
  for (const auto& [key, job] : cluster.jobs()) {
    auto charge = charge_of(cluster, job);
    if (!charge) continue;
    add(find(charge->queue), charge->labels, charge->amounts);
    charges.emplace(key, std::move(*charge));
  }
  charges_ = std::make_shared<const Charges>(std::move(charges));
}

Queues::Index Queues::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? -1 : found->second;
}

Queues::Index Queues::root(Index index) const {
  while (index >= 0 && node(index).parent >= 0) index = node(index).parent;
  return index;
}

std::optional<Queues::Stopped> Queues::stopped(Index index) const {
  const std::string& name = queue(index).name;
  for (; index >= 0; index = node(index).parent) {
    const Queue& at = queue(index);
    if (node(index).state == State::kActive && at.stop == contract::Stop::kNone) continue;
    const std::string which = at.name == name ? "TrainingQueue " + name : "TrainingQueue " + at.name + ", above " + name + ",";
    if (node(index).state == State::kParentMissing) {
      return Stopped{"ParentMissing",
                     which + " has a parent that does not exist: " + at.parent + ". Create that queue, or change spec.parent"};
    }
    if (node(index).state == State::kCycle) {
      return Stopped{"Cycle", which + " is its own parent, by way of " + at.parent + ". Change spec.parent of one of them"};
    }
    return Stopped{"Stopped", which + " is stopped by its spec.stop: " + std::string(contract::name_of(at.stop)) +
                                  "; jobs start again once that is None"};
  }
  return std::nullopt;
}

const std::vector<Flavor>& Queues::flavors(Index index) const {
  static const std::vector<Flavor> kNone;
  for (; index >= 0; index = node(index).parent) {
    if (!queue(index).flavors.empty()) return queue(index).flavors;
  }
  return kNone;
}

const QuotaTree* Queues::quota(Index index, const Labels& labels, const std::string& resource) const {
  const auto flavor = cells_.find(labels);
  if (index < 0 || flavor == cells_.end()) return nullptr;
  const auto cell = flavor->second.find(resource);
  if (cell == flavor->second.end() || !cell->second.is_limited[static_cast<std::size_t>(index)]) return nullptr;
  return &cell->second.tree;
}

const Queues::Cells* Queues::cells(Index index, const Labels& labels) const {
  const auto found = index < 0 ? cells_.end() : cells_.find(labels);
  return found == cells_.end() ? nullptr : &found->second;
}

/// Of the resources that are asked for and limited for the queue: few are named by any.
template <class Holds>
bool Queues::all_limited(Index index, const Labels& labels, const Resources& amounts, Holds holds) const {
  const Cells* cells = this->cells(index, labels);
  return cells == nullptr || std::all_of(cells->begin(), cells->end(), [&](const auto& item) {
           const auto& [resource, cell] = item;
           const std::int64_t amount = cell.is_limited[static_cast<std::size_t>(index)] ? amounts[resource] : 0;
           return amount <= 0 || holds(cell.tree, amount);
         });
}

bool Queues::has_room(Index index, const Labels& labels, const Resources& amounts) const {
  return all_limited(index, labels, amounts,
                     [index](const QuotaTree& tree, std::int64_t amount) { return tree.available(index) >= amount; });
}

bool Queues::may_ever_fit(Index index, const Labels& labels, const Resources& amounts) const {
  return all_limited(index, labels, amounts,
                     [index](const QuotaTree& tree, std::int64_t amount) { return tree.most(index) >= amount; });
}

bool Queues::has_room_without_borrowers(Index index, const Labels& labels, const Resources& amounts) const {
  return all_limited(index, labels, amounts, [index](const QuotaTree& tree, std::int64_t amount) {
    return tree.available_without_borrowers(index) >= amount;
  });
}

bool Queues::would_borrow(Index index, const Labels& labels, const Resources& amounts) const {
  return !all_limited(index, labels, amounts,
                      [index](const QuotaTree& tree, std::int64_t amount) { return tree.stays_within(index, index, amount); });
}

bool Queues::has_room_within(Index top, Index index, const Labels& labels, const Resources& amounts) const {
  return all_limited(index, labels, amounts, [top, index](const QuotaTree& tree, std::int64_t amount) {
    return tree.available_within(top, index) >= amount;
  });
}

bool Queues::is_in(Index index, Index top) const {
  while (index > top) index = node(index).parent;  // parents are before children
  return index == top;
}

Queues::Claim Queues::claim(Index index, const Labels& labels, const Resources& amounts, Index other) const {
  Index mine = index, theirs = other, last_mine = -1, last_theirs = -1;  // the queues below the one in common, on either side
  while (mine != theirs) {
    if (mine > theirs) {
      last_mine = std::exchange(mine, node(mine).parent);
    } else {
      last_theirs = std::exchange(theirs, node(theirs).parent);
    }
  }
  Claim out{.is_within = true};
  for (const auto& [resource, amount] : amounts.entries()) {
    const auto* tree = amount > 0 ? quota(index, labels, resource) : nullptr;
    if (tree == nullptr) continue;
    out.is_within =
        out.is_within && (last_mine >= 0 ? tree->stays_within(last_mine, index, amount) : tree->own_stay_within(index, amount));
    out.other_borrows = out.other_borrows || (last_theirs >= 0 ? tree->borrowed(last_theirs) > 0 : tree->own_borrow(other));
  }
  return out;
}

bool Queues::may_be_within(Index index, const Labels& labels, const Resources& amounts) const {
  const auto is_within = [&](Index at) {
    return all_limited(index, labels, amounts,
                       [at, index](const QuotaTree& tree, std::int64_t amount) { return tree.stays_within(at, index, amount); });
  };
  for (Index at = index; at >= 0 && node(at).parent >= 0; at = node(at).parent) {
    if (is_within(at)) return true;
  }
  return all_limited(index, labels, amounts,
                     [index](const QuotaTree& tree, std::int64_t amount) { return tree.own_stay_within(index, amount); });
}

void Queues::add(Index index, const Labels& labels, const Resources& amounts) {
  use(index, amounts, true);
  if (cells(index, labels) == nullptr) return;
  for (auto& [resource, cell] : cells_.find(labels)->second) {
    if (cell.is_limited[static_cast<std::size_t>(index)]) cell.tree.add(index, amounts[resource]);
  }
}

void Queues::remove(Index index, const Labels& labels, const Resources& amounts) {
  use(index, amounts, false);
  if (cells(index, labels) == nullptr) return;
  for (auto& [resource, cell] : cells_.find(labels)->second) {
    if (cell.is_limited[static_cast<std::size_t>(index)]) cell.tree.remove(index, amounts[resource]);
  }
}

void Queues::count(Index index, const Labels& labels, const Resources& amounts, bool adds) {
  if (cells(index, labels) == nullptr) return;
  for (auto& [resource, cell] : cells_.find(labels)->second) {
    const std::int64_t amount = amounts[resource];
    if (amount > 0) adds ? cell.tree.add(index, amount) : cell.tree.remove(index, amount);
  }
}

Resources Queues::counted(Index index, const Labels& labels) const {
  Resources out;
  if (const auto* cells = this->cells(index, labels)) {
    for (const auto& [resource, cell] : *cells) out.set(resource, cell.tree.usage(index));
  }
  return out;
}

void Queues::use(Index index, const Resources& amounts, bool adds) {
  const auto change = [&](Resources& usage) {
    if (adds) {
      usage += amounts;
    } else {
      usage -= amounts;
    }
  };
  change(index < 0 ? unqueued_ : node(index).own_usage);
  for (; index >= 0; index = node(index).parent) change(node(index).usage);
}

const Charge* Queues::charge(const Job& job) const {
  if (charges_ == nullptr || job.status.generation == 0) return nullptr;  // no gang of it was ever made
  const auto found = charges_->find(job.key);
  return found == charges_->end() || forgotten_.contains(job.key) ? nullptr : &found->second;
}

const Resources& Queues::usage(Index index) const { return index < 0 ? unqueued_ : node(index).usage; }
const Resources& Queues::own_usage(Index index) const { return index < 0 ? unqueued_ : node(index).own_usage; }

double Queues::dominant_share(const Resources& usage) const {
  double out = 0;
  for (const auto& [resource, amount] : usage.entries()) {
    const std::int64_t all = capacity_[resource];
    if (resource != kPods && all > 0) out = std::max(out, static_cast<double>(amount) / static_cast<double>(all));
  }
  return out;
}

}  // namespace trainyard::decide
