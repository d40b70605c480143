#include "controller/decide/hang.h"

#include <algorithm>
#include <vector>

#include "controller/decide/elastic.h"
#include "crds/contract/hang.h"

namespace trainyard::decide {
namespace {

constexpr double kLongSeconds = 30;  // in a call: nobody waits so long for a peer that has just died

std::vector<contract::RankActivity> activities_of(const GangView& gang) {
  std::vector<contract::RankActivity> all;
  for (const auto& worker : gang.workers) {
    if (worker.said == nullptr) continue;
    all.insert(all.end(), worker.said->activities.begin(), worker.said->activities.end());
  }
  return all;
}

bool waited_long(const std::vector<contract::RankActivity>& activities) {
  return std::any_of(activities.begin(), activities.end(),
                     [](const auto& activity) { return activity.call && activity.call->seconds >= kLongSeconds; });
}

}  // namespace

contract::Failure explain_hang(const Job& job, const GangView& gang, contract::Failure cause) {
  const auto activities = activities_of(gang);
  const bool hung = cause.reason == contract::kRankHung;
  if (activities.empty() || !(hung || (cause.reason == "PeerLost" && waited_long(activities)))) return cause;
  const auto spec = at_size(job.spec, static_cast<std::int32_t>(gang.workers.size()));
  const auto degrees = contract::degrees(spec);
  const std::int64_t ranks = std::int64_t{degrees.pp} * degrees.dp * degrees.cp * degrees.tp;
  if (ranks != contract::world_size(spec) || degrees.ep != 1) return cause;  // the spec was edited meanwhile
  const auto blame = contract::blame_for_hang(contract::Layout(degrees, contract::world_size(spec)), activities);
  if (blame.message.empty()) return cause;
  const std::string prefix = hung && job.spec.lifecycle.hangTimeoutSeconds
                                 ? "no sign of progress for the " + std::to_string(*job.spec.lifecycle.hangTimeoutSeconds) +
                                       " s of lifecycle.hangTimeoutSeconds: "
                                 : "a collective did not end: ";
  cause.reason = contract::kRankHung;
  cause.failureClass = contract::class_of(blame);
  cause.message = prefix + blame.message;
  if (blame.ranks.empty()) return cause;
  const std::int32_t rank = blame.ranks.front(), index = rank / contract::processes_per_worker(spec);
  if (cause.rank != rank) cause.lastLines.clear();  // another rank's
  cause.rank = rank;
  cause.worker = index;
  const auto& worker = gang.workers.at(static_cast<std::size_t>(index));
  if (worker.pod != nullptr && !worker.pod->node.empty()) cause.node = worker.pod->node;
  return cause;
}

}  // namespace trainyard::decide
