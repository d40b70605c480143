#include "controller/decide/forecast.h"

#include <algorithm>
#include <unordered_map>

#include "controller/decide/conditions.h"
#include "controller/decide/expected_end.h"

namespace trainyard::decide {
namespace {

/// So many kinds of nodes are told apart; those that ask for further ones count as the first that want the same resource.
constexpr std::size_t kKinds = 16;

/// An empty node of the kind would take them.
bool is_of_kind(const Node& node, const NodeRules& rules) {
  const auto found = obstacle(node, rules);
  return !found || (*found == Obstacle::kRejected);
}

/// What a node must be for the job's pods, its queue's flavor included.
NodeRules rules_of(const NodeRules& rules, const Labels& flavor) {
  NodeRules out = rules;
  out.selector.insert(flavor.begin(), flavor.end());
  return out;
}

std::int64_t in_whole_pods(std::int64_t free, std::int64_t each) { return each <= 0 || free <= 0 ? 0 : free / each * each; }

}  // namespace

void Supply::give_back(const Job* job, std::int64_t amount, std::optional<Time> until) {
  if (until) {
    changes_.emplace(std::max(at_, *until), amount);
  } else if (endless_ == nullptr) {
    endless_ = job;
  }
}

void Supply::add_held(const Job* job, std::int64_t amount, std::optional<Time> until) {
  if (amount <= 0) return;
  total_ += amount;
  give_back(job, amount, until);
}

void Supply::take(const Job& job, std::int64_t amount, Time from, std::optional<Time> until) {
  if (amount <= 0) return;
  if (from <= at_) {
    free_ -= amount;
  } else {
    changes_.emplace(from, -amount);
  }
  give_back(&job, amount, until);
}

bool Supply::wait_for(std::int64_t amount) {
  while (!is_blocked_ && free_ < amount) {
    if (changes_.empty()) {
      is_blocked_ = true;
    } else {
      wait_until(changes_.top().first);
    }
  }
  return !is_blocked_;
}

void Supply::wait_until(Time at) {
  at_ = std::max(at_, at);
  for (; !changes_.empty() && changes_.top().first <= at_; changes_.pop()) free_ += changes_.top().second;
}

void Forecast::line_up(const Candidate& candidate, const Admission::Demand& demand, const Labels& flavor, const Told& told) {
  add(candidate, demand, flavor, told, false);
}

void Forecast::start(const Candidate& candidate, const Admission::Demand& demand, const Labels& flavor) {
  add(candidate, demand, flavor, {.is_searched = true, .start = now_}, true);
}

void Forecast::add(const Candidate& candidate, const Admission::Demand& demand, const Labels& flavor, const Told& told,
                   bool starts_now) {
  entries_.push_back({.job = candidate.job,
                      .needs = candidate.needs,
                      .workers = std::ssize(candidate.missing),
                      .queue = demand.takes_quota() ? demand.queue : -1,
                      .flavor = flavor,
                      .told = told,
                      .starts_now = starts_now});
}

Forecast::Outlook Forecast::outlook() {
  for (; num_processed_ < entries_.size(); ++num_processed_) last_ = process(entries_[num_processed_], num_processed_);
  return last_;
}

Forecast::Outlook Forecast::process(const Entry& entry, std::size_t index) {
  const std::string resource = resource_of(entry);
  const std::int64_t amount = entry.needs->requests[resource] * entry.workers;
  Supply* nodes = nodes_for(entry, resource, index);
  const auto quotas = quotas_for(entry, resource);
  const auto can_never_give = [amount](const Supply* supply) { return supply != nullptr && amount > supply->total(); };
  if (can_never_give(nodes) || std::any_of(quotas.begin(), quotas.end(), can_never_give)) return {};
  const auto nobody_knows = [](const Supply& supply) {
    return Outlook{.start = {}, .unknown = supply.endless() == nullptr ? "" : to_text(supply.endless()->key)};
  };
  const auto take = [&](Time from, std::optional<Time> until) {
    if (nodes != nullptr) nodes->take(*entry.job, amount, from, until);
    for (auto* quota : quotas) quota->take(*entry.job, amount, from, until);
  };
  const auto& told = entry.told;
  if (told.is_searched && !told.start) {  // the first that is given back is kept for it, and nobody knows for how long
    Outlook out = nodes == nullptr ? Outlook{} : nobody_knows(*nodes);
    if (out.unknown.empty()) out.unknown = endless_on_nodes_of(entry);
    take(now_, std::nullopt);
    return out;
  }
  Time start = told.start.value_or(now_);
  if (told.is_searched) {
    if (!told.lacks_quota && nodes != nullptr && !entry.starts_now) nodes->wait_until(start);
  } else {
    for (auto* quota : quotas) {
      if (!told.lacks_quota) continue;
      if (!quota->wait_for(amount)) return nobody_knows(*quota);
      start = std::max(start, quota->at());
    }
    // Who gets his quota later takes the nodes then, and others may have them until then.
    if (nodes != nullptr && start <= nodes->at()) {
      if (!nodes->wait_for(amount)) return nobody_knows(*nodes);
      start = std::max(start, nodes->at());
    }
  }
  const auto end = expected_end_if_started(*entry.job, start);
  take(start, end ? std::optional(std::max(start, *end)) : std::nullopt);
  return {.start = start, .unknown = {}};
}

/// It may wait for less than what is scarce, as for cores beside free GPUs.
std::string Forecast::endless_on_nodes_of(const Entry& entry) const {
  const Topology& topology = room_.topology();
  const NodeRules rules = rules_of(entry.needs->rules, entry.flavor);
  for (const auto& holding : room_.held()) {
    const auto is_in_its_way = [&](const auto& pod) { return is_of_kind(topology.node(pod.first), rules); };
    if (holding.job != nullptr && !holding.ends && std::any_of(holding.pods.begin(), holding.pods.end(), is_in_its_way))
      return to_text(holding.job->key);
  }
  return "";
}

/// What is scarce: GPUs; else what it asks for the greatest part of.
std::string Forecast::resource_of(const Entry& entry) {
  const auto& workers = entry.job->spec.workers;
  if (workers.gpusPerWorker > 0) return workers.gpuResourceName;
  if (!capacity_) {
    capacity_.emplace();
    for (const auto& [name, node] : cluster_.nodes()) *capacity_ += node.allocatable;
  }
  std::string most = "cpu";
  double share = 0;
  for (const auto& [name, requested] : entry.needs->requests.entries()) {
    const std::int64_t all = (*capacity_)[name];
    const double its = all <= 0 ? 0 : static_cast<double>(requested) / static_cast<double>(all);
    if (its <= share) continue;
    share = its;
    most = name;
  }
  return most;
}

Supply* Forecast::nodes_for(const Entry& entry, const std::string& resource, std::size_t index) {
  if (!cluster_.settings.sees_cluster) return nullptr;
  const auto of_resource = [&](const Kind& kind) { return kind.resource == resource; };
  const auto takes_it = [&](const Kind& kind) {
    return of_resource(kind) && kind.flavor == entry.flavor && kind.rules == entry.needs->rules;
  };
  auto found = std::find_if(kinds_.begin(), kinds_.end(), takes_it);
  if (found == kinds_.end() && kinds_.size() >= kKinds) found = std::find_if(kinds_.begin(), kinds_.end(), of_resource);
  if (found == kinds_.end()) return &make_kind(entry, resource).supply;
  // One that started before the kind was looked at is in what was free.
  return entry.starts_now && index < found->made_at ? nullptr : &found->supply;
}

Forecast::Kind& Forecast::make_kind(const Entry& entry, const std::string& resource) {
  const NodeRules rules = rules_of(entry.needs->rules, entry.flavor);
  const Topology& topology = room_.topology();
  std::vector<bool> belongs(topology.num_nodes());
  std::int64_t free = 0;
  for (std::size_t i = 0; i < belongs.size(); ++i) {
    belongs[i] = is_of_kind(topology.node(i), rules);
    if (belongs[i]) free += in_whole_pods(topology.free_on(i)[resource], entry.needs->requests[resource]);
  }
  Supply supply(free, now_);
  for (const auto& holding : room_.held()) {
    std::int64_t amount = 0;
    for (const auto& [node, requests] : holding.pods) amount += belongs[node] ? (*requests)[resource] : 0;
    supply.add_held(holding.job, amount, holding.ends);
  }
  return kinds_.emplace_back(Kind{.resource = resource,
                                  .rules = entry.needs->rules,
                                  .flavor = entry.flavor,
                                  .made_at = entries_.size(),
                                  .supply = std::move(supply)});
}

std::vector<Supply*> Forecast::quotas_for(const Entry& entry, const std::string& resource) {
  std::vector<Supply*> out;
  if (entry.queue < 0) return out;
  auto found = std::find_if(ledgers_.begin(), ledgers_.end(),
                            [&](const Ledger& ledger) { return ledger.resource == resource && ledger.flavor == entry.flavor; });
  Ledger& ledger = found == ledgers_.end() ? make_ledger(entry, resource) : *found;
  for (auto queue = entry.queue; queue >= 0; queue = room_.admission().queues().parent(queue)) {
    auto& supply = ledger.by_queue[static_cast<std::size_t>(queue)];
    if (supply) out.push_back(&*supply);
  }
  return out;
}

Forecast::Ledger& Forecast::make_ledger(const Entry& entry, const std::string& resource) {
  const Queues& queues = room_.admission().queues();
  Ledger& ledger = ledgers_.emplace_back(Ledger{.resource = resource, .flavor = entry.flavor, .by_queue = {}});
  ledger.by_queue.resize(queues.size());
  for (std::size_t i = 0; i < queues.size(); ++i) {
    const auto queue = static_cast<QuotaTree::Index>(i);
    const QuotaTree* quota = queues.quota(queue, entry.flavor, resource);
    if (quota == nullptr) continue;
    const auto& borrowing = quota->limits(queue).borrowing;
    const bool is_root = queues.parent(queue) < 0;
    if (is_root || borrowing) ledger.by_queue[i].emplace(quota->subtree(queue) + (is_root ? 0 : *borrowing), now_);
  }
  std::unordered_map<const Job*, std::optional<Time>> ends;
  for (const auto& holding : room_.held()) ends.try_emplace(holding.job, holding.ends);
  for (const auto& [key, job] : cluster_.jobs()) {
    const Charge* charge = queues.charge(job);
    if (charge == nullptr || charge->labels != entry.flavor) continue;
    const auto known = ends.find(&job);
    const auto until = known == ends.end() ? expected_end(job, now_) : known->second;
    for (auto queue = queues.find(charge->queue); queue >= 0; queue = queues.parent(queue)) {
      if (auto& supply = ledger.by_queue[static_cast<std::size_t>(queue)])
        supply->take(job, charge->amounts[resource], now_, until);
    }
  }
  return ledger;
}

}  // namespace trainyard::decide
