#pragma once
// The controller itself: what comes in goes into the cache, what that touches is decided on, and what was decided is done.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controller/agents/agent_api.h"
#include "controller/cache/cache.h"
#include "controller/decide/plan.h"
#include "controller/kube/kube_api.h"
#include "controller/kube/listing.h"
#include "controller/reconcile/agent_targets.h"
#include "controller/reconcile/executor.h"
#include "controller/reconcile/observer.h"
#include "controller/reconcile/performer.h"
#include "controller/reconcile/work_queue.h"

namespace trainyard::reconcile {

/// What decides; pure.
struct Decisions {
  std::function<std::map<decide::ObjectKey, decide::Plan>(const decide::Cluster&, contract::Time)> schedule = decide::schedule;
  std::function<decide::Plan(const decide::Cluster&, contract::Time)> plan_queues = decide::plan_queues;
  std::function<decide::Plan(const decide::Cluster&, const decide::ObjectKey&, contract::Time)> plan_job = decide::plan_job;
};

struct ReconcilerOptions {
  decide::Settings settings;  // all but key_id, which follows from the writer's key
  Writer writer;
  Pace pace;
  std::size_t page_limit = kube::kPageLimit;  // of a new leader's lists
  /// Asked on a hand right before each write: whether the lease is still held, by the clock. A process that was frozen wakes up in the
  /// middle of what it did, before it hears that somebody else leads.
  std::function<bool()> may_write = [] { return true; };
  Decisions decisions{};
};

/// Lives on the brain; its functions are called there. Whoever does not lead keeps the cache warm and does nothing else. Who begins
/// to lead first reads all that is watched consistently from the store, so that nothing that a former leader wrote is overlooked;
/// then every job is looked at once. The same where a status turns out to be another than this controller left: an answer was lost, or
/// somebody else leads too; a job's status that is newer than the pods that are believed in would look as if pods were lost.
/// Destroyed only after the executor was stopped.
class Reconciler {
 public:
  Reconciler(Executor& executor, kube::KubeApi& api, agents::AgentApi& agents, ReconcilerOptions options, Observer& observer);

  /// What the watch of cache::watch_targets() brought.
  void apply(const kube::WatchBatch& batch);
  void apply(const agents::Observation& observation);

  void start_leading();
  /// At once: requests under way end, none is begun any more.
  void stop_leading();
  /// Leads, and has read everything that it has to know.
  bool is_acting() const { return acting_; }
  const decide::Cluster& cluster() const { return cache_.cluster(); }

 private:
  /// Ends the term: nothing of it is carried on.
  void drop_work();
  void read_everything(std::int64_t term, int tries);
  /// The same, later each time where it has to be done again and again: whole lists are a load for the API server.
  void read_anew();
  void act();
  /// Queues what the cache says has changed.
  void pump();
  void run(const Key& key);
  /// What `decide` returns; nothing where it throws, which is a bug that something in the cluster brought to light: a restart would meet it
  /// again. Deciding changes nothing, so nothing is left half done: it is told, and decided on again after the back-off, while all others go on.
  template <class Decide>
  auto decided(const Key& key, const Decide& decide) -> std::optional<decltype(decide())>;
  void run_room();
  void run_queues();
  void run_job(const decide::ObjectKey& key);
  /// A run of the key has ended.
  void finish(const Key& key, Ended ended, std::chrono::milliseconds at_least);
  void job_done(const decide::ObjectKey& job, const PlanEnded& ended);
  /// Whether a plan of schedule() takes and gives no room, but tells a job why it waits: then schedule() need not wait for its end.
  bool only_tells(const decide::ObjectKey& job, const decide::Plan& plan) const;
  /// Begins plans of `untold_`, as many at a time as may be under way: dry runs, then jobs that were told nothing yet, then those that were
  /// told longest ago. While gangs that have their place get their pods, one now and then.
  void tell();
  bool may_tell() const;
  /// How long until the job's plan of schedule() may be carried out; nothing: another plan of that job is under way.
  std::optional<std::chrono::milliseconds> placeable_in(const decide::ObjectKey& job) const;
  void placed(const decide::ObjectKey& job, const PlanEnded& ended);

  Executor& executor_;
  kube::KubeApi& api_;
  Observer& observer_;
  const ReconcilerOptions options_;
  cache::Cache cache_;
  Performer performer_;
  AgentTargets targets_;
  WorkQueue queue_;
  std::int64_t term_ = 0;  // grows when leading begins and ends
  bool leading_ = false;
  bool acting_ = false;
  int rereads_ = 0;  // in a row
  std::chrono::milliseconds reread_at_{0};
  /// Placing a job backs off apart from the rest of its life, which may go well meanwhile.
  struct Refused {
    int failures = 0;
    std::chrono::milliseconds not_before{0};
  };
  std::map<decide::ObjectKey, Refused> refused_;
  std::set<decide::ObjectKey> room_waits_for_;  // jobs that schedule() has plans for, which were busy
  std::size_t room_plans_ = 0;                  // plans of schedule() under way that it has to wait for
  std::size_t placing_ = 0;                     // of all of them, also of earlier looks, those that make pods
  std::size_t tells_ = 0;                       // and those that only tell
  std::chrono::milliseconds told_at_{0};        // when one of these last ended, by uptime()
  bool tells_later_ = false;                    // a timer is set
  std::vector<std::pair<decide::ObjectKey, decide::Plan>>
      untold_;                              // of the last look, whose turn comes when one of these has ended; last first
  std::chrono::milliseconds room_rest_{0};  // after them
};

}  // namespace trainyard::reconcile
