// Whatever happens, in whatever order: jobs end well once it is over, and meanwhile nothing is promised twice.
#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "tests/support/world.h"

namespace trainyard::decide {
namespace {

using contract::AgentPhase;
using contract::Phase;
using test::World;

const std::vector<std::string> kJobs{"a", "b"};

class Walk {
 public:
  explicit Walk(unsigned seed) : random_(seed) {
    for (const auto& name : kJobs) {
      Job job = test::make_job(name, name == "a" ? 3 : 1, name == "a" ? 4 : 8);
      job.spec.lifecycle.maxRestarts = 1'000;
      world_.add(std::move(job));
    }
  }

  void run() {
    for (int step = 0; step < 40 && !testing::Test::HasFailure(); ++step) {
      happen();
      act();
      world_.now += below(8);
      check();
    }
    heal();
    for (int i = 0; i < 40 && !(has_ended("a") && has_ended("b")); ++i) {
      world_.pass(31);
      for (const auto& name : kJobs) end(name);
      check();
    }
    for (const auto& name : kJobs) EXPECT_EQ(world_.status(name).phase, Phase::kSucceeded) << describe(name);
  }

 private:
  int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }
  const std::string& a_job() { return kJobs[static_cast<std::size_t>(below(2))]; }
  bool has_ended(const std::string& name) const { return is_finished(world_.status(name)); }

  std::string describe(const std::string& name) const {
    std::string out = name + " " + contract::encode(world_.status(name)).dump(1);
    for (const auto* pod : world_.cluster.pods_of(world_.job(name))) {
      const auto* agent = world_.cluster.agent(pod->uid);
      out += "\n" + pod->key.name + " on " + pod->node + " " + std::string(contract::name_of(pod->phase)) +
             (pod->deletion_time ? " dying" : "") +
             (agent == nullptr   ? " unasked"
              : agent->reachable ? ""
                                 : " silent");
      if (agent != nullptr && agent->state) out += " " + contract::encode(*agent->state).dump();
    }
    return out;
  }

  /// A worker with a living pod, or -1.
  int a_worker(const std::string& name) {
    std::vector<int> alive;
    for (const auto* pod : world_.cluster.pods_of(world_.job(name))) {
      if (!pod->is_finished() && world_.pod(pod->worker->worker, name).uid == pod->uid) alive.push_back(pod->worker->worker);
    }
    return alive.empty() ? -1 : alive[static_cast<std::size_t>(below(static_cast<int>(alive.size())))];
  }
  bool has_agent(int worker, const std::string& name) const {
    return world_.cluster.agent(world_.pod(worker, name).uid) != nullptr;
  }

  void happen() {
    const std::string name = a_job();
    const std::string node = "node-" + std::to_string(below(4));
    const int worker = a_worker(name);
    switch (below(12)) {
      case 0: return world_.edit(name, [this](contract::TrainingJobSpec& spec) { spec.suspend = below(2) == 0; });
      case 1: return set_ready(node, false);
      case 2: return set_ready(node, true);
      case 3: return world_.change_node(node, [this](Node& n) { n.unschedulable = below(2) == 0; });
      case 4: world_.kubelets_work = below(3) > 0; return;
      case 5: return world_.succeed_controller();
      default: break;
    }
    if (worker < 0) return;
    const Pod pod = world_.pod(worker, name);
    const int what = below(6);
    if (what == 0) return world_.cluster.erase_pod(pod.key);
    if (what == 1) return world_.change_pod(pod.key.name, [this](Pod& p) { p.deletion_time = test::at(world_.now + 30); });
    if (what == 2) return reject(pod);
    if (!has_agent(worker, name)) return;
    if (what == 3) return world_.silence(worker, name);
    if (what == 4) return world_.hear(worker, name);
    if (world_.cluster.agent(pod.uid)->state)
      world_.fail_rank(worker, {.reason = "RankCrashed", .message = "crash"}, below(2) == 0, name);
  }

  void set_ready(const std::string& node, bool ready) {
    world_.change_node(node, [&](Node& n) {
      n.ready = ready;
      n.ready_since = test::at(world_.now);
    });
  }
  void reject(const Pod& pod) {
    if (pod.phase != PodPhase::kPending) return;
    world_.change_pod(pod.key.name, [](Pod& p) {
      p.phase = PodPhase::kFailed;
      p.worker->reason = "OutOfnvidia.com/gpu";
    });
  }

  /// Sometimes the controller dies in the middle.
  void act() {
    try {
      if (below(3) == 0) world_.die_after(below(6));
      world_.settle();
    } catch (const World::Died&) {
      world_.succeed_controller();
      world_.settle();
    }
    world_.die_after(1'000'000);
  }

  void heal() {
    world_.kubelets_work = true;
    for (int i = 0; i < 4; ++i) {
      set_ready("node-" + std::to_string(i), true);
      world_.change_node("node-" + std::to_string(i), [](Node& n) { n.unschedulable = false; });
    }
    for (const auto& name : kJobs) {
      world_.edit(name, [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
      for (const auto* pod : world_.cluster.pods_of(world_.job(name))) {
        const auto* agent = world_.cluster.agent(pod->uid);
        if (agent == nullptr || agent->reachable) continue;
        auto view = *agent;
        view.reachable = true;
        if (!view.state) view.state = contract::State{.version = 1, .podUid = pod->uid};
        world_.cluster.put_agent(pod->uid, std::move(view));
      }
    }
  }

  /// Ranks that were started do all their steps.
  void end(const std::string& name) {
    const auto& job = world_.job(name);
    if (has_ended(name) || !is_true(job.status, condition::kPlaced)) return;
    std::set<std::int32_t> started;
    for (const auto* pod : world_.cluster.pods_of(job)) {
      const auto* agent = world_.cluster.agent(pod->uid);
      if (pod->is_finished() || agent == nullptr || !agent->state) continue;
      const auto& state = *agent->state;
      if (state.generation == job.status.generation && state.phase == AgentPhase::kStarting) started.insert(pod->worker->worker);
    }
    if (static_cast<std::int32_t>(started.size()) < job.spec.workers.count) return;
    world_.finish(name);
  }

  void check() {
    std::map<std::string, std::int64_t> gpus;
    std::set<std::pair<std::string, std::int64_t>> names;
    for (const auto& [key, pod] : world_.cluster.pods()) {
      if (pod.is_finished()) continue;
      gpus[pod.node] += pod.requests[test::kGpu];
    }
    for (const auto& [node, amount] : gpus) EXPECT_LE(amount, 8) << node;
    for (const auto& name : kJobs) {
      const auto& status = world_.status(name);
      EXPECT_LE(status.restarts, 1'000);
      EXPECT_GE(status.generation, generations_[name]);
      generations_[name] = status.generation;
      for (const auto* pod : world_.cluster.pods_of(world_.job(name))) {
        EXPECT_LE(pod->worker->generation, status.generation) << "a pod before its generation";
      }
    }
  }

  std::mt19937 random_;
  World world_{test::ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build()};
  std::map<std::string, std::int64_t> generations_;
};

TEST(RandomWalk, EndsWellWhateverHappens) {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Walk(seed).run();
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

}  // namespace
}  // namespace trainyard::decide
