// Warm spares: how they take the place of workers that are lost, and what becomes of those that are lost themselves.
#include "controller/decide/spares.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::Phase;
using test::ClusterBuilder;
using test::make_job;
using test::World;
using Names = std::vector<std::string>;

/// A job, a, of two workers that fill a node each, and its spares, at step 5.
World a_world_with_spares(int spares = 1, int nodes_per_rack = 2, int workers = 2) {
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(nodes_per_rack).gpus_per_node(8).build());
  Job job = make_job("a", workers, 8);
  job.spec.workers.spares = spares;
  world.add(job);
  world.settle();
  world.train(5);
  world.pass(6);  // numbers of the status wait for their turn
  return world;
}

const Pod& pod_named(const World& world, const std::string& name) {
  const auto* found = world.cluster.pod({"default", name});
  if (found == nullptr) throw std::logic_error("no pod " + name);
  return *found;
}

const contract::SparesStatus& spares(const World& world) { return world.status().spares.value(); }

TEST(ASpare, HoldsItsNodeAndDoesNothing) {
  const World world = a_world_with_spares();
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1", "a-s1-1"}));
  const Pod& spare = pod_named(world, "a-s1-1");
  EXPECT_EQ(spare.requests[test::kGpu], 8);
  EXPECT_NE(spare.node, world.pod(0).node);
  EXPECT_NE(spare.node, world.pod(1).node);
  EXPECT_EQ(world.cluster.agent(spare.uid)->state->generation, 0) << "it was assigned nothing";
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().workers.ready, 2) << "of the gang";
  EXPECT_EQ(spares(world).desired, 1);
  EXPECT_EQ(spares(world).placed, 1);
  EXPECT_EQ(spares(world).ready, 1);
  EXPECT_EQ(world.condition("Placed").message, "2 workers on 2 nodes and 1 spare");
}

TEST(ASpare, TakesThePlaceOfALostWorkerAndAnotherIsMade) {
  World world = a_world_with_spares();
  const std::string spare = pod_named(world, "a-s1-1").uid;
  world.cluster.erase_pod({"default", "a-1-1"});
  world.decide_once();
  world.decide_once();
  EXPECT_EQ(world.status().generation, 2) << "no pod was waited for";
  EXPECT_EQ(world.pod(1).uid, spare);
  world.settle();
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-s1-1", "a-s2-2"}));
  EXPECT_EQ(world.taken(1).worker, 1);
  EXPECT_EQ(world.taken(1).generation, 2);
  EXPECT_EQ(world.taken(0).generation, 2);
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_TRUE(world.has_event("SpareTookOver"));
  const std::vector<contract::StandIn> expected{{.worker = 1, .pod = "a-s1-1", .generation = 2}};
  EXPECT_EQ(spares(world).standIns, expected);
  world.pass(6);
  EXPECT_EQ(spares(world).placed, 1);
  EXPECT_EQ(spares(world).ready, 1);
}

TEST(ASpare, ThatTookOverIsAWorkerAsAnyOther) {
  World world = a_world_with_spares();
  world.cluster.erase_pod({"default", "a-0-1"});
  world.settle();
  world.train(9);
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  EXPECT_EQ(world.status().progress->step, 9);
  world.fail_rank(0, {.rank = 0, .exitCode = 139, .reason = "RankCrashed", .message = "rank 0 died"});
  world.settle();
  EXPECT_EQ(world.status().restarts, 1);
  EXPECT_EQ(world.status().failure->worker, 0);
  EXPECT_EQ(world.taken(0).generation, 3) << "in its pod";
  world.train(10);
  world.settle();
  world.change_pod("a-s1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->reason = "Evicted";
  });
  world.pass(2);
  EXPECT_EQ(world.status().failure->worker, 0);
  EXPECT_EQ(world.pod(0).key.name, "a-s2-2") << "and its place is taken by the next spare";
  world.finish();
  world.settle();
  EXPECT_EQ(world.status().phase, Phase::kSucceeded);
  world.pass(1);
  EXPECT_TRUE(world.pods().empty()) << "released, and the spare that is left is deleted";
}

TEST(ASpare, DoesNotTakeAPlaceWhoseRanksMayStillRun) {
  World world = a_world_with_spares();
  world.kubelets_work = false;  // nobody tells of the pod's end,
  world.silence(1);             // nor its agent that its ranks have ended
  world.change_pod("a-1-1", [&world](Pod& pod) { pod.deletion_time = test::at(world.now + 30); });
  world.fail_rank(0, {.reason = "PeerLost", .message = "lost a peer"}, true);
  world.pass(15);
  EXPECT_EQ(world.status().generation, 1);
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.pod(1).key.name, "a-s1-1");
}

TEST(ASpare, TakesThePlaceOfAWorkerThatLeavesItsNodeAtACheckpoint) {
  World world = a_world_with_spares();
  world.kubelets_work = false;
  world.change_node(world.pod(1).node, [](Node& node) { node.taints = {{"example.com/maintenance", "", "NoExecute"}}; });
  world.decide_once();
  ASSERT_TRUE(world.pod(1).deletion_time);
  for (const int worker : {0, 1}) world.say(worker, [](contract::State& state) { state.phase = contract::AgentPhase::kStopped; });
  world.settle();
  EXPECT_EQ(world.status().generation, 2) << "its ranks have ended: its pod is not waited for";
  EXPECT_EQ(world.pod(1).key.name, "a-s1-1");
}

TEST(Spares, TakeAsManyPlacesAsThereAreAndTheRestIsPlacedInTheSamePass) {
  World world = a_world_with_spares(1, 3, 3);
  world.cluster.erase_pod({"default", "a-1-1"});
  world.cluster.erase_pod({"default", "a-2-1"});
  world.settle();
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().uncountedRestarts, 1);
  EXPECT_EQ(world.pod(1).key.name, "a-s1-1");
  EXPECT_EQ(world.pod(2).key.name, "a-2-2");
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-2-2", "a-s1-1", "a-s2-2"}));
}

TEST(Spares, TakeThePlacesOfAWholeGang) {
  World world = a_world_with_spares(2, 3, 2);
  world.cluster.erase_pod({"default", "a-0-1"});
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.pod(0).key.name, "a-s1-1");
  EXPECT_EQ(world.pod(1).key.name, "a-s2-1");
  EXPECT_EQ(spares(world).placed, 2);
}

TEST(Spares, TakeThePlacesThatLetTheFewestBytesCrossRacks) {
  World world = a_world_with_spares(2, 5, 4);
  ASSERT_EQ(world.pod(0).node, "node-0");
  ASSERT_EQ(pod_named(world, "a-s1-1").node, "node-4") << "in the gang's rack";
  ASSERT_EQ(pod_named(world, "a-s2-1").node, "node-5") << "in the other one";
  world.change_pod("a-s1-1", [](Pod& pod) { pod.node = "node-5"; });
  world.change_pod("a-s2-1", [](Pod& pod) { pod.node = "node-4"; });
  world.cluster.erase_pod({"default", "a-2-1"});
  world.settle();
  EXPECT_EQ(world.pod(2).node, "node-4");
  ASSERT_FALSE(world.status().placement->traffic.empty());
  EXPECT_EQ(world.status().placement->traffic.front().bytesPerStep, 0);
}

TEST(Spares, OnANodeThatIsNotReadyOrWhoseAgentIsSilentTakeNoPlace) {
  World world = a_world_with_spares(2, 3);
  const Pod silent = pod_named(world, "a-s1-1"), cut_off = pod_named(world, "a-s2-1");
  auto view = *world.cluster.agent(silent.uid);
  view.reachable = false;
  view.since = test::at(world.now);
  world.cluster.put_agent(silent.uid, std::move(view));
  world.change_node(cut_off.node, [&](Node& node) {
    node.ready = false;
    node.ready_since = test::at(world.now);
  });
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  EXPECT_EQ(world.pod(1).key.name, "a-1-2");
}

TEST(ALostSpare, IsReplacedWithoutTouchingTheRun) {
  World world = a_world_with_spares();
  world.cluster.erase_pod({"default", "a-s1-1"});
  world.settle();
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1", "a-s2-1"}));
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.status().uncountedRestarts + world.status().restarts, 0);
  EXPECT_EQ(world.status().phase, Phase::kRunning);
  world.pass(6);
  EXPECT_EQ(spares(world).ready, 1);
}

TEST(ALostSpare, ThatFailedIsToldOfAndGone) {
  World world = a_world_with_spares();
  world.change_pod("a-s1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->reason = "Evicted";
    pod.worker->message = "The node was low on resource: memory";
  });
  world.settle();
  EXPECT_TRUE(world.has_event("SpareLost"));
  EXPECT_EQ(world.cluster.pod({"default", "a-s1-1"}), nullptr);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_FALSE(world.status().failure) << "of the gang nothing has failed";
}

TEST(ALostSpare, LeavesANodeThatIsEmptied) {
  World world = a_world_with_spares();
  const std::string left = pod_named(world, "a-s1-1").node;
  world.change_node(left, [](Node& node) { node.taints = {{"example.com/maintenance", "", "NoExecute"}}; });
  world.settle();
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1", "a-s2-1"}));
  EXPECT_NE(pod_named(world, "a-s2-1").node, left);
  EXPECT_EQ(world.status().generation, 1);
}

TEST(ALostSpare, ThatNeverComesUpIsMadeAnewEverMoreSlowly) {
  World world = a_world_with_spares();
  world.kubelets_work = false;
  const auto made = [&world] { return spares(world).made; };
  world.cluster.erase_pod({"default", "a-s1-1"});
  world.settle();
  EXPECT_EQ(made(), 2);
  const auto limit = static_cast<double>(world.job().spec.lifecycle.startTimeoutSeconds);
  const auto vanish = [&world] {  // what the kubelet does with a pod that was deleted
    const auto pods = world.cluster.pods();
    for (const auto& [key, pod] : pods) {
      if (pod.deletion_time) world.cluster.erase_pod(key);
    }
  };
  world.pass(limit - 1);
  EXPECT_EQ(made(), 2);
  world.pass(1);
  vanish();
  world.settle();
  EXPECT_EQ(made(), 3) << "the wait of 10 s is over";
  EXPECT_TRUE(world.has_event("SpareLost"));
  for (int attempt = 3; attempt < 20; ++attempt) {
    vanish();
    world.cluster.erase_pod({"default", "a-s" + std::to_string(made()) + "-1"});
    world.pass(1);
  }
  EXPECT_LE(made(), 5) << "in 17 s of a spare that is lost each second";
  EXPECT_TRUE(spares(world).message);
  EXPECT_EQ(world.status().generation, 1);
}

TEST(Spares, AreTakenFromAGangThatHasFewerWorkersThanItShould) {
  World world(ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  Job job = make_job("a", 3, 8);
  job.spec.workers.spares = 1;
  job.spec.workers.minCount = 1;
  job.spec.training.globalBatchSize = 48;  // two workers can share it too
  world.add(job);
  world.settle();
  world.train(5);
  world.settle();
  ASSERT_EQ(world.pods().size(), 4u);
  world.cluster.erase_node(world.pod(1).node);
  world.cluster.erase_node(world.pod(2).node);
  world.settle();
  EXPECT_EQ(world.status().placement->workers, 2) << "the spare's place is taken by a worker";
  EXPECT_EQ(spares(world).placed, 0);
  EXPECT_EQ(spares(world).desired, 1);
}

TEST(Spares, ComeAndGoWithTheSpecWhileTheGangTrains) {
  World world = a_world_with_spares(0, 3);
  EXPECT_FALSE(world.status().spares);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.spares = 2; });
  world.settle();
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1", "a-s1-1", "a-s2-1"}));
  world.pass(6);
  EXPECT_EQ(spares(world).ready, 2);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.spares = 1; });
  world.settle();
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1", "a-s1-1"}));
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.spares = 0; });
  world.settle();
  EXPECT_EQ(world.pods(), (Names{"a-0-1", "a-1-1"}));
  EXPECT_FALSE(world.status().spares);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.condition("Accepted").message, "the spec and its template can be run") << "no change waits for a restart";
}

TEST(Spares, GoWithASuspensionAndComeBackWithTheGang) {
  World world = a_world_with_spares();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = true; });
  world.settle();
  world.pass(1);
  EXPECT_TRUE(world.pods().empty());
  EXPECT_FALSE(world.status().spares);
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.suspend = false; });
  world.settle();
  EXPECT_EQ(world.pods(), (Names{"a-0-2", "a-1-2", "a-s1-2"}));
}

TEST(Spares, KeepTheirPlaceUnderANewController) {
  World world = a_world_with_spares();
  world.cluster.erase_pod({"default", "a-1-1"});
  world.settle();
  world.train(7);
  world.settle();
  const auto before = world.pods();
  world.succeed_controller();
  world.settle();
  EXPECT_EQ(world.pods(), before);
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.pod(1).key.name, "a-s1-1");
}

TEST(Spares, LeaveThePodsThatFailedForALookAtThem) {
  World world = a_world_with_spares();
  world.now = 10;
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->exit_code = 139;
    pod.worker->exited_at = test::at(10);
  });
  world.settle();
  EXPECT_EQ(world.pod(1).key.name, "a-s1-1");
  EXPECT_NE(world.cluster.pod({"default", "a-1-1"}), nullptr);
  world.now = 100;
  const std::string idle = "a-s2-2";
  world.change_pod(idle, [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->exit_code = 1;
    pod.worker->exited_at = test::at(100);
  });
  world.settle();
  EXPECT_EQ(world.cluster.pod({"default", idle}), nullptr);
  EXPECT_NE(world.cluster.pod({"default", "a-1-1"}), nullptr) << "a spare's end makes the gang's no older";
}

}  // namespace
}  // namespace trainyard::decide
