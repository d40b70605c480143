#include <utility>

#include "controller/decide/accept.h"
#include "controller/decide/assignments.h"
#include "controller/decide/ending.h"
#include "controller/decide/events.h"
#include "controller/decide/kept_pods.h"
#include "controller/decide/older_status.h"
#include "controller/decide/plan.h"
#include "controller/decide/resizing.h"
#include "controller/decide/restart.h"
#include "controller/decide/review.h"
#include "controller/decide/spares.h"
#include "controller/decide/starting.h"
#include "controller/decide/vacating.h"

namespace trainyard::decide {
namespace {

/// Pods that have no part in the gang any more.
void remove_leftovers(Review& review) {
  const auto avoided = review.cluster.settings.rejecting_node_avoided;
  for (const auto* pod : review.gang.rejected) {
    if (review.now >= pod->created + avoided) {
      review.remove(*pod, "its kubelet rejected it");
    } else {
      review.look_again(pod->created + avoided);
    }
  }
  for (const auto* pod : review.gang.superseded) {
    if (!is_kept(review.cluster, review.job, *pod)) review.remove(*pod, "another pod has its place");
  }
}

void run_life(Review& review) {
  if (is_finished(review.status)) return clean_up(review);
  if (complete_older_status(review)) return;
  if (enforce_deadline(review)) return;
  remove_leftovers(review);
  if (vacate(review) || resize(review)) return;
  // A gang that runs is looked after even where its edited spec would not be accepted any more.
  accept(review);
  if (!is_true(review.status, condition::kPlaced)) {
    thin_out(review);
  } else if (watch_gang(review)) {
    tell_how_it_runs(review);
  }
  tend_spares(review);
}

}  // namespace

Plan plan_job(const Cluster& cluster, const ObjectKey& key, Time now) {
  const Job* job = cluster.job(key);
  if (job == nullptr || job->deleting || job->spec.managedBy != contract::kManagedBy) return {};
  Review review(cluster, *job, now);
  run_life(review);
  for (auto& event : notice_events(*job, review.gang)) review.events.push_back(std::move(event));
  Plan plan = review.plan();
  plan.agents = assignments(cluster, *job, review.gang);
  return plan;
}

}  // namespace trainyard::decide
