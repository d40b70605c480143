#include "controller/decide/hang.h"

#include <vector>

#include "controller/decide/elastic.h"
#include "crds/contract/hang.h"

namespace trainyard::decide {
namespace {

std::vector<contract::RankActivity> activities_of(const GangView& gang) {
  std::vector<contract::RankActivity> all;
  for (const auto& worker : gang.workers) {
    if (worker.said == nullptr) continue;
    all.insert(all.end(), worker.said->activities.begin(), worker.said->activities.end());
  }
  return all;
}

}  // namespace

contract::Failure explain_hang(const Job& job, const GangView& gang, contract::Failure cause) {
  const auto activities = activities_of(gang);
  if (activities.empty()) return cause;
  const auto spec = at_size(job.spec, static_cast<std::int32_t>(gang.workers.size()));
  const auto degrees = contract::degrees(spec);
  const std::int64_t ranks = std::int64_t{degrees.pp} * degrees.dp * degrees.cp * degrees.tp;
  if (ranks != contract::world_size(spec) || degrees.ep != 1) return cause;  // the spec was edited meanwhile
  const contract::Layout layout(degrees, contract::world_size(spec));
  auto hang = contract::as_hang(cause, layout, activities, job.spec.lifecycle.hangTimeoutSeconds);
  if (!hang) return cause;
  if (!hang->rank || *hang->rank < 0 || *hang->rank >= layout.world_size()) return *hang;  // an agent may tell anything
  const std::int32_t index = *hang->rank / contract::processes_per_worker(spec);
  hang->worker = index;
  const auto& worker = gang.workers.at(static_cast<std::size_t>(index));
  if (worker.pod != nullptr && !worker.pod->node.empty()) hang->node = worker.pod->node;
  return *hang;
}

}  // namespace trainyard::decide
