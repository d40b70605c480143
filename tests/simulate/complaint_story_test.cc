// What people complain of most in the systems that train on Kubernetes, each told as a story in which it does not happen. The numbers are
// issues of those systems' trackers. Complaints about installation, rights, topology and speed have their tests elsewhere:
// tests/integration/chart_test.cc (the CRD's size, webhooks, rights), tests/controller/decide/pack_test.cc (topology), tests/bench (memory,
// rates); the loops into which queues fall, preemption_loops_test.cc.

#include <csignal>
#include <map>
#include <set>
#include <string>

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

struct Complaint : Story {
  void edit_spec(const std::string& job, const std::function<void(Json&)>& change) {
    world.api.edit(test::kJobs, job_key(job), [&](Json& object) { change(object["spec"]); });
  }
  bool exists(const std::string& job) { return world.api.get(test::kJobs, job_key(job)) != nullptr; }
  /// UIDs of the job's pods that are there, whatever becomes of them.
  std::set<std::string> pods_of(const std::string& job) {
    std::set<std::string> uids;
    for (const auto& object : world.api.list(test::kPodsPath)) {
      const auto pod = cache::decode_pod(*object);
      if (pod->worker && pod->worker->job == job) uids.insert(pod->uid);
    }
    return uids;
  }
  bool all_run(const std::string& job, int workers, seconds limit) {
    return world.time.run_until(
        [&] { return std::ssize(world.running_pods(job)) == workers && world.phase(job) == Phase::kRunning; }, limit);
  }
  std::string placed(const std::string& job) { return condition(job, "Placed").message; }
};

// kubeflow/trainer 2000, 2269, 1579
TEST_F(Complaint, OnePodDiesAndTheOthersHang) {
  begin({.name = "a", .workers = 6, .steps = 200});
  world.api.remove(test::kPodsPath, pod_of("a"));
  ASSERT_TRUE(world.time.run_until([this] { return world.status("a").generation == 2; }, seconds(10)));
  EXPECT_TRUE(all_run("a", 6, seconds(60))) << describe(world, "a");
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.workers.truth(world.uid("a")).generations_run, 2) << "all began anew, once, together";
}

// kubeflow/trainer 2072, jobset 576
TEST_F(Complaint, ADeadNodeLeavesTheJobTerminatingForEver) {
  begin({.name = "a", .steps = 60});
  world.kubelets.kill(node_of("a"));
  expect_phase("a", Phase::kSucceeded, seconds(300));  // nobody ever tells of the end of the pod that was there
  world.kubelets.kill(world.nodes()[1]);
  world.api.remove(test::kJobs, job_key("a"));
  EXPECT_TRUE(world.time.run_until([this] { return !exists("a"); }, seconds(60)));
  world.apply({.name = "b"});
  expect_phase("b", Phase::kSucceeded, seconds(300));
}

// jobset 467, 928; volcano 3812
TEST_F(Complaint, ARestartIsSlowSinceEverythingIsMadeAnew) {
  begin({.name = "a", .workers = 12, .steps = 200});
  const auto before = pods_of("a");
  ASSERT_TRUE(world.workers.crash(world.running_pods("a").front(), 0, SIGSEGV));
  ASSERT_TRUE(world.time.run_until([this] { return world.status("a").generation == 2; }, seconds(10)));
  EXPECT_TRUE(all_run("a", 12, seconds(5))) << describe(world, "a");
  EXPECT_EQ(pods_of("a"), before);
  expect_phase("a", Phase::kSucceeded, seconds(300));
}

// kueue 9616, 14244: two nodes of many are lost, and all of the gang is evicted
TEST_F(Complaint, ALostNodeTakesTheWholeGangAlong) {
  world.add_nodes(5, 8, 0);
  begin({.name = "a", .workers = 32, .steps = 300});
  std::set<std::string> nodes;
  const auto pods_and_nodes = [&] {
    std::map<std::string, std::string> out;
    for (const auto& object : world.api.list(test::kPodsPath)) {
      const auto pod = cache::decode_pod(*object);
      const bool stays =
          pod->worker && pod->worker->job == "a" && !pod->deletion_time;  // nobody tells of the end of those that were lost
      if (stays) out.emplace(pod->uid, pod->node);
    }
    return out;
  };
  const auto before = pods_and_nodes();
  for (const auto& [uid, node] : before) nodes.insert(node);
  ASSERT_EQ(nodes.size(), 4u);
  const std::set<std::string> lost{*nodes.begin(), *nodes.rbegin()};
  for (const auto& node : lost) world.kubelets.kill(node);
  expect_phase("a", Phase::kSucceeded, seconds(600));
  const auto after = pods_and_nodes();
  for (const auto& [uid, node] : before) EXPECT_EQ(after.contains(uid), !lost.contains(node)) << node;
  EXPECT_EQ(world.status("a").uncountedRestarts, 1) << "both are replaced in one pass";
  EXPECT_EQ(world.status("a").generation, 2);
}

// kueue 4329, 5243, 10076, 14570: what terminating pods still hold is given away
TEST_F(Complaint, AGangIsAdmittedThatCannotBePlaced) {
  begin({.name = "a", .workers = 24, .steps = 1'000});
  world.set_suspend("a", true);
  world.apply({.name = "b", .workers = 24});
  bool were_together = false;
  world.api.on_change(test::kPodsPath, [this, &were_together](const auto&) {
    were_together = were_together || (world.live_pods("a") > 0 && world.live_pods("b") > 0);
  });
  expect_phase("b", Phase::kSucceeded, seconds(300));
  EXPECT_FALSE(were_together);
  EXPECT_EQ(pods_made, 48) << "none was rejected";
}

// volcano 3373, 5805; kubeflow/trainer 1264: two gangs each hold half of the room
TEST_F(Complaint, TwoGangsWaitForEachOther) {
  world.apply({.name = "a", .workers = 20, .steps = 10});
  world.apply({.name = "b", .workers = 20, .steps = 10});
  bool were_together = false;
  const auto begun_and_not_done = [this](const std::string& job) {
    return world.live_pods(job) > 0 && !world.workers.truth(world.uid(job)).finished;
  };
  world.api.on_change(test::kPodsPath, [&](const auto&) {
    were_together = were_together || (begun_and_not_done("a") && begun_and_not_done("b"));
  });
  expect_phase("a", Phase::kSucceeded, seconds(300));
  expect_phase("b", Phase::kSucceeded, seconds(300));
  EXPECT_FALSE(were_together);
}

// volcano 5006; KAI 2075; kueue 6947
TEST_F(Complaint, AJobThatCanNeverRunBlocksTheLine) {
  world.add_priority_class("high", 100);
  world.apply({.name = "doomed", .workers = 25, .priority_class = "high"});
  ASSERT_TRUE(becomes("doomed", "Placed", "NeverFits"));
  world.apply({.name = "a"});
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.live_pods("doomed"), 0);
}

// kueue 6861, 7301: more than a hundred preemptions of one workload. With queues: preemption_loops_test.cc
TEST_F(Complaint, TwoJobsStopEachOtherWithoutEnd) {
  world.add_priority_class("low", 1);
  world.add_priority_class("high", 100);
  world.apply({.name = "low", .workers = 24, .steps = 600, .priority_class = "low"});
  expect_phase("low", Phase::kRunning);
  for (const std::string name : {"one", "two", "three"}) {
    world.time.run_for(seconds(20));
    world.apply({.name = name, .workers = 24, .steps = 30, .priority_class = "high"});
  }
  for (const std::string name : {"one", "two", "three"}) expect_phase(name, Phase::kSucceeded, seconds(600));
  expect_phase("low", Phase::kSucceeded, seconds(1'200));
  EXPECT_LE(world.workers.truth(world.uid("low")).generations_run, 4) << "it was stopped once for each of the three at most";
  EXPECT_EQ(world.status("low").restarts, 0);
}

// kueue 534
TEST_F(Complaint, ALargeJobStarvesBehindSmallOnes) {
  for (int i = 0; i < 3; ++i) world.apply({.name = "small-" + std::to_string(i), .workers = 8, .steps = 60 + 40 * i});
  world.time.run_for(seconds(5));
  world.apply({.name = "large", .workers = 24, .steps = 20});
  int next = 3;
  const bool starts = world.time.run_until(
      [&] {
        if (world.time.uptime() > seconds(10) * next && next < 40) {
          world.apply({.name = "small-" + std::to_string(next), .workers = 8, .steps = 200});
          ++next;
        }
        return world.phase("large") == Phase::kRunning;
      },
      seconds(400));
  EXPECT_TRUE(starts) << describe(world, "large");
  EXPECT_LT(world.time.uptime(), seconds(200)) << "once those that ran before it were done";
}

// kueue 477, ray 63968
TEST_F(Complaint, APreemptionLosesWhatCameAfterTheLastCheckpoint) {
  world.add_priority_class("low", 1);
  world.add_priority_class("high", 100);
  begin({.name = "low", .workers = 24, .steps = 200, .checkpoint_every = 190, .priority_class = "low"});
  world.time.run_for(seconds(20));
  const auto before = world.workers.truth(world.uid("low")).step;
  world.apply({.name = "high", .workers = 24, .priority_class = "high"});
  expect_phase("high", Phase::kRunning);
  EXPECT_GE(world.workers.truth(world.uid("low")).checkpoint, before) << "it was asked for one first";
  expect_phase("low", Phase::kSucceeded, seconds(600));
}

// kueue 2833, 10852; kubeflow/trainer 1598
TEST_F(Complaint, NobodySaysWhyAJobWaitsAndForHowLong) {
  begin({.name = "runs", .workers = 24, .steps = 300});
  edit_spec("runs", [](Json& spec) { spec["lifecycle"]["activeDeadlineSeconds"] = 600; });
  world.apply({.name = "a", .workers = 8});
  ASSERT_TRUE(becomes("a", "Placed", "Unschedulable", seconds(2))) << describe(world, "a");
  EXPECT_NE(placed("a").find("needs 8 workers of 1 cpu and 1Gi memory; 0 fit now"), std::string::npos) << placed("a");
  EXPECT_NE(placed("a").find("default/runs"), std::string::npos) << placed("a");
  const auto status = world.status("a");
  ASSERT_TRUE(status.queue) << describe(world, "a");
  EXPECT_EQ(status.queue->position, 1);
  EXPECT_TRUE(status.queue->estimatedStartTime) << describe(world, "a");
}

// kueue 15614, 10168; kubernetes 58242
TEST_F(Complaint, NobodyKnowsBeforeWhetherAJobWouldFit) {
  begin({.name = "runs", .workers = 20, .steps = 1'000});
  const int before = pods_made;
  world.apply({.name = "fits", .workers = 4});
  edit_spec("fits", [](Json& spec) { spec["dryRun"] = true; });
  world.apply({.name = "waits", .workers = 8});
  edit_spec("waits", [](Json& spec) { spec["dryRun"] = true; });
  ASSERT_TRUE(world.time.run_until([this] { return !placed("fits").empty() && !placed("waits").empty(); }, seconds(5)));
  EXPECT_EQ(pods_made, before) << "and none is made for the answer";
  EXPECT_TRUE(world.status("fits").dryRun.value().placement) << describe(world, "fits");
  EXPECT_FALSE(world.status("waits").dryRun.value().placement) << describe(world, "waits");
  EXPECT_NE(placed("waits").find("needs 8 workers"), std::string::npos) << placed("waits");
}

// kubeflow/trainer 2713, 3671, 2779; sdk 803
TEST_F(Complaint, AStatusSaysNothing) {
  std::vector<std::string> phases;
  world.api.on_change(test::kJobs, [this, &phases](const auto&) {
    const auto now = std::string(contract::name_of(world.phase("a")));
    if (phases.empty() || phases.back() != now) phases.push_back(now);
  });
  begin({.name = "a", .steps = 100});
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended);
  world.set_suspend("a", false);
  expect_phase("a", Phase::kRunning);
  world.time.run_for(seconds(10));
  EXPECT_GT(world.status("a").progress.value().step, 0);
  expect_phase("a", Phase::kSucceeded, seconds(300));
  const std::vector<std::string> wanted{"Pending", "Starting", "Running", "Suspended",
                                        "Pending", "Starting", "Running", "Succeeded"};
  for (std::size_t at = 0; const auto& phase : phases) {
    while (at < wanted.size() && wanted[at] != phase) ++at;
    EXPECT_LT(at, wanted.size()) << phase << " came out of order: " << testing::PrintToString(phases);
  }
  EXPECT_GE(phases.size(), 6u) << testing::PrintToString(phases);
}

// kubeflow/trainer 2903, 3995, 1509
TEST_F(Complaint, TheNumberOfWorkersOfASuspendedJobCannotBeChanged) {
  begin({.name = "a", .workers = 2, .steps = 100});
  world.set_suspend("a", true);
  expect_phase("a", Phase::kSuspended);
  edit_spec("a", [](Json& spec) { spec["workers"]["count"] = 6; });
  world.set_suspend("a", false);
  EXPECT_TRUE(all_run("a", 6, seconds(60))) << describe(world, "a");
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.workers.truth(world.uid("a")).step, 100);
}

// kubeflow/trainer 2899, 4052, 3779, 2981
TEST_F(Complaint, AJobThatItsTtlTookAwayComesBack) {
  world.apply({.name = "a", .steps = 10});
  edit_spec("a", [](Json& spec) { spec["lifecycle"]["ttlSecondsAfterFinished"] = 30; });
  expect_phase("a", Phase::kSucceeded);
  EXPECT_TRUE(world.time.run_until([this] { return !exists("a"); }, seconds(60)));
  const int before = pods_made;
  world.time.run_for(seconds(300));
  EXPECT_FALSE(exists("a"));
  EXPECT_EQ(pods_made, before);
  EXPECT_EQ(world.live_pods("a"), 0);
}

// kubeflow/trainer 3419, 877; mpi-operator 154, 461
TEST_F(Complaint, TheCauseOfDeathIsLostWithThePods) {
  begin({.name = "a", .steps = 100, .max_restarts = 0});
  const std::string node = node_of("a");
  ASSERT_TRUE(world.workers.crash(world.running_pods("a").front(), 3, 0, "ValueError: the bridge is out"));
  expect_phase("a", Phase::kFailed);
  const auto failure = world.status("a").failure.value();
  EXPECT_EQ(failure.exitCode, 3);
  EXPECT_FALSE(failure.node.value_or("").empty());
  ASSERT_FALSE(failure.lastLines.empty());
  EXPECT_EQ(failure.lastLines.back(), "ValueError: the bridge is out");
  world.time.run_for(seconds(300));
  EXPECT_EQ(world.status("a").failure.value().lastLines, failure.lastLines) << "long after";
}

// kueue 3818; kubeflow/trainer 2318
TEST_F(Complaint, JobsThatWaitCostTheServerMoreAndMore) {
  world.apply({.name = "runs", .workers = 24, .steps = 2'000, .checkpoint_every = 10'000});
  expect_phase("runs", Phase::kRunning);
  for (int i = 0; i < 60; ++i) world.apply({.name = "waits-" + std::to_string(i), .workers = 8});
  world.time.run_for(seconds(120));
  const int before = world.api.num_requests;
  world.time.run_for(seconds(60));
  EXPECT_LE(world.api.num_requests - before, 60)
      << "a minute's progress of the one that runs, and no write a job for those that wait";
}

}  // namespace
}  // namespace trainyard::simulate
