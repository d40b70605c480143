// Stories of a controller that sees two namespaces and nothing else of the cluster: kube-scheduler chooses the nodes.

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

struct NamespacedStory : testing::Test {
  World world{1};
  Invariants invariants{world};
  std::set<std::string> asked_elsewhere;

  void SetUp() override {
    world.settings.namespaces = {"default", "other"};
    world.settings.sees_cluster = false;
    world.add_nodes(3, 8, 0);
    world.api.fault_of = [this](const kube::Request& request) {
      const bool is_discovery = request.path == "/apis/scheduling.k8s.io/v1beta1";  // everybody may
      const auto path = test::FakeKubeApi::parse(request.path);
      if (!is_discovery && path.ns != "default" && path.ns != "other") asked_elsewhere.insert(request.path);
      return test::Fault::kNone;
    };
    world.start_controller(0);
  }
  void TearDown() override {
    EXPECT_EQ(invariants.violations(), std::vector<std::string>{});
    EXPECT_EQ(asked_elsewhere, std::set<std::string>{}) << "Roles would not allow that";
  }
  static JobShape shape(const std::string& name, int workers) {
    return {.name = name, .workers = workers, .steps = 60, .binding = contract::Binding::kScheduler};
  }
  void expect_phase(const std::string& job, Phase phase, seconds limit) {
    EXPECT_TRUE(world.run_until_phase(job, phase, limit)) << "no " << contract::name_of(phase) << "; " << describe(world, job);
  }
};

TEST_F(NamespacedStory, AJobRunsToItsEndAndNothingElseIsAskedFor) {
  world.apply(shape("a", 2));
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(NamespacedStory, AJobLeavesALostNodeOnceKubernetesEvictsItsPod) {
  world.apply(shape("a", 2));
  expect_phase("a", Phase::kRunning, seconds(120));
  const Json* pod = world.api.get(test::kPodsPath, {"default", "a-0-1"});
  ASSERT_NE(pod, nullptr);
  world.kubelets.kill(pod->value("/spec/nodeName"_json_pointer, ""));
  expect_phase("a", Phase::kSucceeded, seconds(1'200));
  EXPECT_GE(world.status("a").uncountedRestarts, 1);
}

TEST_F(NamespacedStory, GangsThatHoldHalfOfTheNodesEachComeToTheirEndOneAfterTheOther) {
  for (const char* name : {"a", "b"}) world.apply(shape(name, 16));  // of 24 CPUs
  world.time.run_for(seconds(3'600));
  for (const char* name : {"a", "b"}) {
    EXPECT_EQ(world.phase(name), Phase::kSucceeded) << describe(world, name);
    EXPECT_EQ(world.status(name).restarts, 0);
  }
}

TEST_F(NamespacedStory, AnotherControllerGoesOnWithWhatTheFirstLeft) {
  world.apply(shape("a", 3));
  expect_phase("a", Phase::kRunning, seconds(120));
  world.kill_controller(0);
  world.start_controller(1);
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").generation, 1);
}

TEST_F(NamespacedStory, ANamespaceThatCannotBeReadKeepsNobodyFromTheOthers) {
  world.kill_controller(0);
  world.api.fault_of = [](const kube::Request& request) {
    return test::FakeKubeApi::parse(request.path).ns == "other" ? test::Fault::kForbidden : test::Fault::kNone;
  };
  world.start_controller(1);
  world.apply(shape("a", 2));
  expect_phase("a", Phase::kSucceeded, seconds(300));
}

TEST_F(NamespacedStory, JobsOfOtherNamespacesAreLeftAlone) {
  Json job;
  world.apply(shape("a", 1));
  job = *world.api.get(test::kJobs, job_key("a"));
  job["metadata"] = {{"name", "b"}, {"namespace", "elsewhere"}};
  job.erase("status");
  world.api.create(test::kJobs, job);
  job["metadata"] = {{"name", "c"}, {"namespace", "other"}};
  world.api.create(test::kJobs, job);
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_FALSE(world.api.get(test::kJobs, {"elsewhere", "b"})->contains("status"));
  EXPECT_TRUE(world.api.get(test::kJobs, {"other", "c"})->contains("status"));
}

}  // namespace
}  // namespace trainyard::simulate
