#include "controller/decide/line.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "controller/decide/accept.h"
#include "controller/decide/claims.h"
#include "controller/decide/conditions.h"
#include "controller/decide/creation.h"
#include "controller/decide/elastic.h"
#include "controller/decide/pod_template.h"
#include "controller/decide/queues.h"
#include "controller/decide/spares.h"
#include "controller/decide/traffic.h"

namespace trainyard::decide {
namespace {

constexpr std::chrono::seconds kTakesOverWithin{1};

/// Its ranks are stopping, to go on as another number of workers.
bool is_resizing(const Job& job) { return reason_of(job.status, condition::kRunning) == reason::kResizing; }

bool is_waiting(const Job& job) {
  const auto& status = job.status;
  if (job.deleting || job.spec.managedBy != contract::kManagedBy || is_finished(status)) return false;
  if (job.spec.suspend || job.spec.dryRun || is_true(status, condition::kSuspended)) return false;
  if (is_resizing(job)) return true;  // its room is kept
  if (is_vacating(status)) return false;
  return reason_of(status, condition::kPlaced) != reason::kGangPlaced;
}

/// A gang that is there may go on as large as it was, whatever the spec asks for meanwhile; where it had grown, and not all that came with that
/// are there, as large as it was before.
std::vector<std::int32_t> sizes_for(const Cluster& cluster, const Candidate& candidate, Time now) {
  const Job& job = *candidate.job;
  auto out = gang_sizes(job.spec);
  const std::int32_t least = out.back();
  const auto refused = refused_size(job.status, now);
  if (refused) std::erase_if(out, [&](std::int32_t size) { return size >= *refused; });
  // Where nobody knows whether there is room for more, a gang is not risked for it.
  const bool is_risky = candidate.has_others() && !cluster.settings.sees_cluster;
  if (is_risky) std::erase_if(out, [&](std::int32_t size) { return size > gang_size(job); });
  const auto may_go_on_with = [&](std::int32_t size) {
    if (candidate.has_others() && size < (out.empty() ? least + 1 : out.back())) out.push_back(size);
  };
  may_go_on_with(gang_size(job));
  if (const auto* grew_from = resize_for(job.status, contract::ResizeReason::kGrewFrom)) may_go_on_with(grew_from->workers);
  if (out.empty()) out.push_back(least);
  return out;
}

/// What was decided already, as for one whose ranks or pods are still to go; else the least that will do.
std::int32_t size_to_wait_for(const Candidate& candidate) {
  const auto& sizes = candidate.sizes;
  const Job& job = *candidate.job;
  const auto* stopping = resize_for(job.status, contract::ResizeReason::kStopping);
  const std::int32_t decided = stopping != nullptr && is_resizing(job) ? stopping->workers : gang_size(job);
  const bool is_decided = candidate.has_others() && candidate.blocked_until.has_value();
  const bool is_possible = std::find(sizes.begin(), sizes.end(), decided) != sizes.end();
  return is_decided && is_possible ? decided : sizes.back();
}

/// Nothing where there is nothing to do for schedule(), now or later.
std::optional<Candidate> candidate(const Cluster& cluster, const Job& job, Time now) {
  if (!is_waiting(job) || queue_problem(cluster, job)) return std::nullopt;
  const std::string hash = template_hash(job, cluster.settings);
  const auto* check = cluster.template_check(job.uid, hash);
  // Of one that was accepted the answer is only missing here: its place in the line stays.
  const bool is_in_line =
      check == nullptr ? is_true(job.status, condition::kAccepted) : check->accepted && is_acceptable(cluster, job, now);
  if (!is_in_line) return std::nullopt;
  Candidate out{.job = &job,
                .needs = check == nullptr ? nullptr : &check->needs,
                .priority = priority_of(cluster, job),
                .gang = {},
                .missing = {},
                .blocked_until = {},
                .size = gang_size(job)};
  if (cluster.has_pods_of(job)) {
    out.gang = view_gang(cluster, job, now);
  } else {  // as most of those that wait
    out.missing.resize(static_cast<std::size_t>(out.size));
    std::iota(out.missing.begin(), out.missing.end(), 0);
  }
  const bool creating = is_true(job.status, condition::kPlaced) && !is_resizing(job);
  // Pods of two templates in one gang would be two images that talk to each other; plan_job() removes those of the old one.
  if (creating && hash != job.status.templateHash) return std::nullopt;
  if (const Time until = makes_room_until(cluster, job); now < until) {
    out.blocked_until = until;
    out.makes_room = true;
  }
  if (is_resizing(job)) out.blocked_until = Time::max();
  for (const auto* pod : out.gang.surplus) out.blocked_until = std::max(out.blocked_until, may_run_until(cluster, *pod, now));
  for (const auto& worker : out.gang.workers) {
    const bool keeps = creating ? worker.pod != nullptr
                                : worker.reusable && !is_removed(job.status) && worker.pod->worker->template_hash == hash;
    out.num_kept += keeps;
    if (keeps) continue;
    // Where nobody has deleted it yet, plan_job() is about to, which brings schedule() back.
    if (worker.pod != nullptr) out.blocked_until = std::max(out.blocked_until, may_run_until(cluster, *worker.pod, now));
    out.missing.push_back(worker.index);
  }
  if (out.has_others()) out.spares = spares_placed(job.status);
  if (!creating && may_take_over(cluster, job, out.gang, now)) {  // plan_job() is about to, unless that changes
    out.blocked_until = std::max(out.blocked_until, std::optional(now + kTakesOverWithin));
  }
  // What is complete, or has a rejected pod in the place of the one to be made, is for plan_job() to say.
  const bool is_rejected_now = std::any_of(out.gang.rejected.begin(), out.gang.rejected.end(), [&job](const Pod* pod) {
    return pod->worker->generation == job.status.generation && !pod->worker->spare;
  });
  if (creating && (out.missing.empty() || is_rejected_now || programs_have_ended(job, out.gang))) return std::nullopt;
  out.sizes = creating ? std::vector{out.size} : sizes_for(cluster, out, now);
  out.waits_for = size_to_wait_for(out);
  return out;
}

std::vector<Candidate> in_the_order_of_the_line(std::vector<Candidate> candidates) {
  using Rank = std::tuple<bool, std::int64_t, Time, std::size_t>;
  std::vector<Rank> ranks;
  ranks.reserve(candidates.size());
  for (const auto& candidate : candidates) {
    ranks.emplace_back(!candidate.has_others(), -std::int64_t{candidate.priority.value}, candidate.job->created, ranks.size());
  }
  std::sort(ranks.begin(), ranks.end());
  std::vector<Candidate> out;
  out.reserve(candidates.size());
  for (const auto& rank : ranks) out.push_back(std::move(candidates[std::get<std::size_t>(rank)]));
  return out;
}

}  // namespace

std::vector<Candidate> line(const Cluster& cluster, Time now) {
  std::vector<Candidate> out;
  out.reserve(cluster.jobs().size());
  for (const auto& [key, job] : cluster.jobs()) {
    if (auto found = candidate(cluster, job, now)) out.push_back(std::move(*found));
  }
  return in_the_order_of_the_line(std::move(out));
}

std::vector<Candidate> those_that_may_grow(const Cluster& cluster, Time now) {
  std::vector<Candidate> out;
  if (!cluster.settings.sees_cluster) return out;  // nobody knows whether there is room
  for (const auto& [key, job] : cluster.jobs()) {
    const bool is_smaller = gang_size(job) < job.spec.workers.count;
    if (!(is_smaller || job.status.resize) || job.deleting || job.spec.managedBy != contract::kManagedBy) continue;
    // New pods of another template would be of another image than those that stay.
    if (!may_resize(job) || !template_change(job, cluster.settings).empty()) continue;
    const auto* check = cluster.template_check(job.uid, job.status.templateHash);
    Candidate candidate{.job = &job,
                        .needs = check == nullptr ? nullptr : &check->needs,
                        .priority = priority_of(cluster, job),
                        .gang = view_gang(cluster, job, now)};
    const auto& workers = candidate.gang.workers;
    const bool all_train =
        std::all_of(workers.begin(), workers.end(), [](const Worker& w) { return w.state == WorkerState::kUp && w.reusable; });
    if (!all_train) continue;
    candidate.size = candidate.num_kept = gang_size(job);
    candidate.spares = spares_placed(job.status);
    for (const auto size : is_smaller ? gang_sizes(job.spec) : std::vector<std::int32_t>{}) {
      if (size > candidate.size) candidate.sizes.push_back(size);
    }
    out.push_back(std::move(candidate));
  }
  return in_the_order_of_the_line(std::move(out));
}

Candidate with_size(const Candidate& candidate, std::int32_t size) {
  Candidate out = candidate;
  auto& workers = out.gang.workers;
  const auto is_kept = [&candidate](const Worker& worker) {
    return std::find(candidate.missing.begin(), candidate.missing.end(), worker.index) == candidate.missing.end();
  };
  for (std::size_t i = static_cast<std::size_t>(size); i < workers.size(); ++i) {
    if (workers[i].pod != nullptr && is_kept(workers[i])) out.in_the_way.push_back(workers[i].pod);
  }
  std::erase_if(out.missing, [size](std::int32_t worker) { return worker >= size; });
  for (std::int32_t i = candidate.size; i < size; ++i) out.missing.push_back(i);
  if (!workers.empty()) workers.resize(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < workers.size(); ++i) workers[i].index = static_cast<std::int32_t>(i);
  out.size = size;
  return out;
}

contract::TrainingJobSpec spec_of(const Candidate& candidate) {
  const auto& spec = candidate.job->spec;
  return candidate.size == spec.workers.count ? spec : at_size(spec, candidate.size);
}

Gang gang_of(const Cluster& cluster, const Candidate& candidate, const PodNeeds& needs, Time now, const Labels& flavor) {
  const Job& job = *candidate.job;
  Gang gang{.count = static_cast<std::int32_t>(candidate.missing.size()),
            .requests = needs.requests,
            .rules = needs.rules,
            .pack = job.spec.placement.pack};
  gang.rules.selector.insert(flavor.begin(), flavor.end());
  gang.rules.volume_terms = volume_terms(cluster, job, needs);
  if (!candidate.has_others()) {
    gang.groups = candidate.size == job.spec.workers.count ? groups_of(job.spec) : groups_of(at_size(job.spec, candidate.size));
  }
  const auto& missing = candidate.missing;  // in order
  for (const auto& worker : candidate.gang.workers) {
    const bool is_kept = !std::binary_search(missing.begin(), missing.end(), worker.index);
    if (is_kept && !worker.pod->node.empty()) gang.beside.insert(worker.pod->node);
  }
  for (const auto* rejected : candidate.gang.rejected) {
    if (now < rejected->created + cluster.settings.rejecting_node_avoided) gang.avoid.insert(rejected->node);
  }
  return gang;
}

}  // namespace trainyard::decide
