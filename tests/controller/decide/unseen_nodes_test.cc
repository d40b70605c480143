#include "controller/decide/unseen_nodes.h"

#include <gtest/gtest.h>

#include "controller/decide/avoided_nodes.h"
#include "controller/decide/pod_template.h"
#include "tests/support/world.h"

namespace trainyard::decide {
namespace {

using contract::ConditionStatus;

/// A controller that sees its namespaces alone, and a job, a, whose nodes kube-scheduler chooses.
struct UnseenNodes : testing::Test {
  test::World world{Cluster{}};

  void SetUp() override {
    world.cluster.settings.default_image = "image";
    world.cluster.settings.namespaces = {"default"};
    world.cluster.settings.sees_cluster = false;
    world.add(scheduled("a"));
  }
  static Job scheduled(const std::string& name, int workers = 2) {
    Job job = test::make_job(name, workers, 8);
    job.spec.placement.binding = contract::Binding::kScheduler;
    return job;
  }
  /// kube-scheduler's part.
  void bind(int worker, const std::string& node, const std::string& job = "a") {
    world.change_pod(world.pod(worker, job).key.name, [&](Pod& pod) {
      pod.node = node;
      pod.worker->unscheduled_message.clear();
      pod.worker->scheduled_at = test::at(world.now);
    });
  }
  void refuse(int worker) {
    world.change_pod(world.pod(worker).key.name, [](Pod& pod) {
      pod.worker->unscheduled_message = "0/9 nodes are available: 9 Insufficient nvidia.com/gpu.";
    });
  }
};

TEST_F(UnseenNodes, MakesTheWholeGangAndLeavesItsNodesToKubeScheduler) {
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  const Json body = worker_pod(world.job(), world.cluster.settings, {.worker = 0, .generation = 1, .node = {}});
  EXPECT_FALSE(body.at("spec").contains("nodeName"));
  EXPECT_FALSE(body.at("spec").contains("affinity"));
  EXPECT_EQ(world.condition(condition::kPlaced).message, "2 workers, whose nodes kube-scheduler chooses");
  for (const int worker : {0, 1}) bind(worker, "n" + std::to_string(worker));
  world.settle();
  world.train(3);
  world.settle();
  EXPECT_EQ(world.condition(condition::kRunning).status, ConditionStatus::kTrue);
  EXPECT_EQ(world.condition(condition::kPlaced).message, "2 workers on 2 nodes");
}

TEST_F(UnseenNodes, SaysWhatTakesSightOfTheClusterAndMakesNoPod) {
  Job direct = test::make_job("b", 4, 8);
  direct.spec.placement.pack = contract::Pack{.level = "rack"};
  direct.spec.queue = "research";
  direct.spec.dryRun = true;
  direct.spec.workers.minCount = 2;
  world.add(direct);
  world.settle();
  EXPECT_TRUE(world.pods("b").empty());
  const auto accepted = world.condition(condition::kAccepted, "b");
  EXPECT_EQ(accepted.status, ConditionStatus::kFalse);
  for (const char* field :
       {"spec.placement.binding", "spec.placement.pack", "spec.queue", "spec.dryRun", "spec.workers.minCount"}) {
    EXPECT_NE(accepted.message.find(field), std::string::npos) << field << " is not in: " << accepted.message;
  }
  EXPECT_NE(accepted.message.find("watchNamespaces"), std::string::npos) << "who can change it";
}

TEST_F(UnseenNodes, LeavesAnUnknownPriorityClassToTheApiServer) {
  Job named = scheduled("b");
  named.spec.priorityClassName = "research";
  world.add(named);
  world.settle();
  EXPECT_EQ(world.condition(condition::kAccepted, "b").status, ConditionStatus::kTrue);
}

TEST_F(UnseenNodes, AGangOfWhichNoWorkerFoundANodeWaitsAndHoldsNothing) {
  world.settle();
  for (const int worker : {0, 1}) refuse(worker);
  world.pass(7'200);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1", "a-1-1"}));
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.condition(condition::kRunning).reason, "NotScheduled");
  EXPECT_NE(world.condition(condition::kRunning).message.find("Insufficient nvidia.com/gpu"), std::string::npos);
  bind(0, "n0");  // hours later: the other one has its time too
  world.pass(500);
  EXPECT_EQ(world.pods().size(), 2u);
}

TEST_F(UnseenNodes, AGangThatFoundNodesInPartGivesThemBackAndComesAgain) {
  world.settle();
  refuse(1);
  bind(0, "n0");
  world.pass(599);
  EXPECT_EQ(world.pods().size(), 2u);
  world.pass(2);
  EXPECT_TRUE(world.pods().empty());
  const auto placed = world.condition(condition::kPlaced);
  EXPECT_EQ(placed.reason, reason::kPartlyScheduled);
  EXPECT_NE(placed.message.find("nodes for 1 of 2 workers"), std::string::npos) << placed.message;
  EXPECT_NE(placed.message.find("Insufficient nvidia.com/gpu"), std::string::npos) << placed.message;
  world.pass(119);
  EXPECT_TRUE(world.pods().empty()) << "others have two minutes at least";
  world.pass(4 * 120);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.status().restarts, 0);
  EXPECT_EQ(world.status().uncountedRestarts, 0);
}

TEST_F(UnseenNodes, AWorkerThatWaitedLongForItsNodeHasItsWholeTimeToStart) {
  world.kubelets_work = false;
  world.settle();
  world.pass(7'200);
  for (const int worker : {0, 1}) bind(worker, "n" + std::to_string(worker));
  world.pass(599);
  EXPECT_EQ(world.status().restarts, 0);
  world.pass(2);
  EXPECT_EQ(world.status().failure->reason, "StartTimeout");
  EXPECT_EQ(world.status().restarts, 1);
}

TEST_F(UnseenNodes, TwoGangsInEachOthersWayDoNotComeBackTogether) {
  Job a = scheduled("a"), b = scheduled("b");
  for (Job* job : {&a, &b}) {
    set_condition(job->status, {condition::kPlaced, false, reason::kPartlyScheduled, ""}, 1, test::at(100));
  }
  const Time until_a = stands_back_until(world.cluster, a), until_b = stands_back_until(world.cluster, b);
  EXPECT_NE(until_a, until_b);
  for (const Time until : {until_a, until_b}) {
    EXPECT_GE(until, test::at(100 + 120));
    EXPECT_LE(until, test::at(100 + 480));
  }
}

TEST_F(UnseenNodes, APodOnANodeThatNobodySeesIsNotLost) {
  world.settle();
  for (const int worker : {0, 1}) bind(worker, "n" + std::to_string(worker));
  world.settle();
  world.train(3);
  world.pass(3'600);
  EXPECT_EQ(world.status().generation, 1);
  EXPECT_EQ(world.condition(condition::kRunning).status, ConditionStatus::kTrue);
}

TEST_F(UnseenNodes, AWorkerThatIsEvictedIsReplacedAndTheFailingNodeIsLeftToTheScheduler) {
  world.settle();
  for (const int worker : {0, 1}) bind(worker, "n" + std::to_string(worker));
  world.settle();
  world.train(3);
  world.settle();
  world.fail_rank(1, {.worker = 1, .reason = "Xid", .message = "NVRM: Xid 79: GPU has fallen off the bus", .lastLines = {}});
  world.settle();
  ASSERT_FALSE(avoided_nodes(world.job(), test::at(world.now)).empty()) << world.status().failure->message;
  const WorkerPlace place{.worker = 1, .generation = 2, .node = {}, .avoid = avoided_nodes(world.job(), test::at(world.now))};
  const Json body = worker_pod(world.job(), world.cluster.settings, place);
  const Json terms = body.at("/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution"_json_pointer);
  EXPECT_EQ(terms.at(0).at("/preference/matchFields/0"_json_pointer),
            (Json{{"key", "metadata.name"}, {"operator", "NotIn"}, {"values", {"n1"}}}));
}

TEST_F(UnseenNodes, LeavesTheTolerationsOfLostNodesToKubernetes) {
  const Json body = worker_pod(world.job(), world.cluster.settings, {.worker = 0, .generation = 1, .node = {}});
  EXPECT_FALSE(body.at("spec").contains("tolerations"));
}

TEST_F(UnseenNodes, AClaimIsEnoughWhereVolumesCannotBeRead) {
  Job mounts = scheduled("b");
  mounts.spec.workers.templ["spec"]["volumes"] =
      Json::array({{{"name", "data"}, {"persistentVolumeClaim", {{"claimName", "corpus"}}}}});
  world.add(mounts);
  world.settle();
  EXPECT_EQ(world.condition(condition::kPlaced, "b").reason, reason::kClaimMissing);
  world.cluster.put(Claim{.key = {"default", "corpus"}, .phase = "Bound", .volume = "pv-1"});
  world.settle();
  EXPECT_EQ(world.pods("b").size(), 2u);
}

TEST_F(UnseenNodes, StopNoGangThatIsScaledUpSinceNobodyKnowsWhetherThereIsRoom) {
  world.settle();
  for (const int worker : {0, 1}) bind(worker, "n" + std::to_string(worker));
  world.settle();
  world.train(3);
  world.settle();
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.count = 4; });
  world.pass(1'000);
  EXPECT_EQ(world.pods().size(), 2u);
  EXPECT_NE(world.condition(condition::kAccepted).message.find("it can't tell whether there is room"), std::string::npos)
      << world.condition(condition::kAccepted).message;
  world.exit(1, 137);
  world.settle();
  EXPECT_EQ(world.status().placement->workers, 2) << "nor after a failure";
}

}  // namespace
}  // namespace trainyard::decide
