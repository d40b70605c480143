#pragma once
// A whole cluster with whole controllers in it, in virtual time: everything but what speaks HTTP is the product's own code.

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "controller/kube/lease.h"
#include "controller/kube/lease_elector.h"
#include "controller/reconcile/reconciler.h"
#include "tests/support/fake_agents.h"
#include "tests/support/fake_kube_api.h"
#include "tests/support/fake_kubelets.h"
#include "tests/support/fake_workers.h"
#include "tests/support/virtual_time.h"

namespace trainyard::simulate {

using contract::Json;
using decide::ObjectKey;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// The times of the Lease that controllers compete for are those of controller/kube/lease_elector.h, and who may take it when is what
/// controller/kube/lease.h says; reads and writes of it take no time.
inline const kube::LeaseOptions kLeaseOptions{};

/// One controller's process, from its start to its death.
class Controller {
 public:
  Controller(test::VirtualTime& time, test::FakeKubeApi& api, test::FakeWorkers& workers, kube::LeaseRecord& lease, int identity,
             const decide::Settings& settings, const std::string& key);
  ~Controller();
  reconcile::Reconciler& reconciler() { return reconciler_; }
  test::FakeWatcher& watcher() { return watcher_; }
  bool leads() const { return leads_; }
  /// By the clock, which a frozen process reads as soon as it wakes.
  bool holds_lease() const { return leads_ && time_.uptime() - held_since_ < kLeaseOptions.renew_deadline; }
  /// Everything in it waits, its lease is not renewed; then it goes on where it was, and hears a little later that it leads no more.
  void freeze(milliseconds how_long);

 private:
  void elect();
  void stop_leading();

  test::VirtualTime& time_;
  test::FakeKubeApi& api_;
  kube::LeaseRecord& lease_;
  kube::LeaseObservation seen_;  // of it
  const std::string identity_;
  bool leads_ = false;
  milliseconds held_since_{0};
  milliseconds frozen_until_{0};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  reconcile::Observer observer_;
  test::VirtualExecutor executor_;
  test::FakeAgents agents_;
  reconcile::Reconciler reconciler_;
  test::FakeWatcher watcher_;
};

/// What a TrainingJob of a simulation is about.
struct JobShape {
  std::string name = "job";
  int workers = 2;
  int least = 0;  // workers.minCount; 0: it has none
  int spares = 0;
  int processes = 1;
  int gpus = 0;
  std::int64_t steps = 20;
  std::int64_t checkpoint_every = 5;
  int max_restarts = 5;
  std::int64_t start_timeout = 60;
  std::int64_t active_deadline = 0;  // 0: none
  contract::Binding binding = contract::Binding::kDirect;
  std::string claim;                                       // that the template mounts; empty: none
  std::string priority_class;                              // empty: none
  std::string queue;                                       // empty: none
  contract::Engine engine = contract::Engine::kTrainyard;  // Custom: the programs work for half a second a step
};

class World {
 public:
  explicit World(std::uint64_t seed);
  ~World();

  test::VirtualTime time;
  test::FakeKubeApi api{time};
  test::FakeWorkers workers{time};
  test::FakePrograms programs{time};
  test::FakeKubelets kubelets{time, api, workers, programs};
  decide::Settings settings;
  std::string controller_key = "the controller's key";  // of those that start from now on

  void add_nodes(int number, int cpus, int gpus);
  void add_priority_class(const std::string& name, int value, bool preempts = true);
  void add_queue(const std::string& name, Json spec);
  /// Of the queue's spec.
  void set_stop(const std::string& queue, contract::Stop stop);
  const std::vector<std::string>& nodes() const { return nodes_; }

  void start_controller(int index);
  void kill_controller(int index);
  Controller* controller(int index) { return controllers_[static_cast<std::size_t>(index)].get(); }
  int num_controllers() const { return static_cast<int>(controllers_.size()); }
  int leader() const;

  void apply(const JobShape& shape);
  void set_suspend(const std::string& job, bool suspend);
  std::string uid(const std::string& job) const;
  /// As the API server has it; a default one where there is no such job.
  contract::TrainingJobStatus status(const std::string& job) const;
  bool is_finished(const std::string& job) const;
  contract::Phase phase(const std::string& job) const;
  /// All of the work was done, by whoever did it.
  bool work_is_done(const std::string& job_uid, contract::Engine engine);
  /// The UIDs of its pods that run.
  std::vector<std::string> running_pods(const std::string& job) const;
  /// Pods of the job that are not finished.
  int live_pods(const std::string& job) const;
  bool run_until_phase(const std::string& job, contract::Phase phase, seconds limit);

 private:
  std::vector<std::string> nodes_;
  kube::LeaseRecord lease_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  int identities_ = 0;
};

inline ObjectKey job_key(const std::string& name) { return {"default", name}; }
/// The job as text, for messages of a failed test: status and pods.
std::string describe(const World& world, const std::string& job);

}  // namespace trainyard::simulate
