#include "controller/decide/creation.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using contract::ConditionStatus;
using test::World;

/// A quota has room for worker 0 alone.
World a_half_made_world() {
  World world = a_world();
  world.refuse_pod = [](const CreatePod& create) {
    const bool first = create.key.name.starts_with("a-0-");
    return first ? std::nullopt : std::optional<std::string>("exceeded quota: gpus");
  };
  world.settle();
  return world;
}

TEST(AGangThatIsHalfMade, SaysAtOnceWhatTheApiServerRefusesAndWhy) {
  World world = a_half_made_world();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1"}));
  world.pass(5);
  EXPECT_EQ(world.condition("Placed").message,
            "2 workers on 2 nodes; 1 of 2 workers could not be created yet: the API server refuses to create pod a-1-1: exceeded "
            "quota: gpus");
}

TEST(AGangThatIsHalfMade, GivesItsNodesBackAfterTheStartTimeoutAndMakesRoomForAWhile) {
  World world = a_half_made_world();
  world.pass(599);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-1"}));
  world.pass(1);
  EXPECT_TRUE(world.pods().empty());
  EXPECT_EQ(world.condition("Placed").reason, "GangRemoved");
  EXPECT_NE(world.condition("Placed").message.find("exceeded quota: gpus"), std::string::npos);
  EXPECT_TRUE(world.has_event("GangRemoved"));
  EXPECT_EQ(world.status().restarts, 0) << "nothing had begun";
  world.refuse_pod = nullptr;
  world.pass(119);
  EXPECT_TRUE(world.pods().empty());
  world.pass(1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.condition("Placed").message, "2 workers on 2 nodes");
}

TEST(AGangThatIsHalfMade, LeavesItsRoomToOthersWhileItMakesRoom) {
  World world(test::ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(test::make_job("a", 2, 8));
  world.refuse_pod = [](const CreatePod& create) {
    const bool is_refused = create.key.name.starts_with("a-1-");
    return is_refused ? std::optional<std::string>("exceeded quota: gpus") : std::nullopt;
  };
  world.settle();
  world.now += 1;
  world.add(test::make_job("b", 2, 8));
  world.pass(599);
  EXPECT_TRUE(world.pods("a").empty());
  EXPECT_EQ(world.pods("b").size(), 2u);
}

TEST(AGangThatIsHalfMade, DoesNotTakeAPodThatEndedBeforeItForTheOneThatIsRefused) {
  World world = a_running_world();
  world.kubelets_work = false;  // the old pod stays for a while
  world.refuse_pod = [](const CreatePod&) { return std::optional<std::string>("exceeded quota: gpus"); };
  world.change_pod("a-0-1", [&world](Pod& pod) {
    pod.phase = PodPhase::kSucceeded;
    pod.deletion_time = test::at(world.now + 30);
    pod.requests = {};
    pod.worker->container_running = false;
    pod.worker->exit_code = 0;
    pod.worker->exited_at = test::at(world.now);
  });
  world.settle();
  world.pass(5);
  EXPECT_EQ(world.condition("Placed").reason, "CreatingWorkers");
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts + world.status().uncountedRestarts, 1) << "a worker that was not made was not lost";
  world.refuse_pod = nullptr;
  world.pass(1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-1"}));
  EXPECT_EQ(world.status().generation, 2);
}

TEST(AGangThatIsHalfMade, DoesNotTakeAPodOfWhichNobodySaysWhenItEndedForTheOneThatIsRefused) {
  World world = a_running_world();
  world.kubelets_work = false;
  world.refuse_pod = [](const CreatePod&) { return std::optional<std::string>("exceeded quota: gpus"); };
  world.change_pod("a-0-1", [&world](Pod& pod) {  // the kubelet's words of a container were lost with it
    pod.phase = PodPhase::kFailed;
    pod.deletion_time = test::at(world.now + 30);
    pod.worker->container_running = false;
    pod.worker->reason = "Evicted";
  });
  world.settle();
  world.pass(5);
  EXPECT_EQ(world.condition("Placed").reason, "CreatingWorkers");
  EXPECT_EQ(world.status().generation, 2);
  EXPECT_EQ(world.status().restarts + world.status().uncountedRestarts, 1) << "a worker that was not made was not lost";
  world.refuse_pod = nullptr;
  world.pass(1);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-1"}));
  EXPECT_EQ(world.status().generation, 2);
}

TEST(AGangThatIsHalfMade, HasLostNobodyWhereAPodThatStayedEndsMeanwhileAndMakesThatToo) {
  World world = a_running_world();
  world.refuse_pod = [](const CreatePod&) { return std::optional<std::string>("exceeded quota: gpus"); };
  world.cluster.erase_pod({"default", "a-0-1"});
  world.settle();
  ASSERT_EQ(world.condition("Placed").reason, "CreatingWorkers");
  world.kubelets_work = false;
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->reason = "Evicted";
  });
  world.pass(5);
  EXPECT_EQ(world.condition("Placed").reason, "CreatingWorkers");
  world.kubelets_work = true;
  world.refuse_pod = nullptr;
  world.pass(5);
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.status().generation, 2);
}

TEST(AGang, HasLostAPodThatIsOlderThanItOfWhichNobodySaysWhenItEnded) {
  World world = a_running_world();
  world.cluster.erase_pod({"default", "a-0-1"});
  world.settle();
  ASSERT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-1"}));
  ASSERT_EQ(world.condition("Placed").reason, "Placed");
  world.train(6);
  world.settle();
  world.change_pod("a-1-1", [](Pod& pod) {
    pod.phase = PodPhase::kFailed;
    pod.worker->container_running = false;
    pod.worker->reason = "Evicted";
  });
  world.pass(1);  // the second failure within a minute
  EXPECT_EQ(world.status().generation, 3);
  EXPECT_EQ(world.status().failure->reason, "Evicted");
}

TEST(AGangThatIsHalfMade, IsMadeAnewAtOnceWhereItsTemplateIsEdited) {
  World world = a_half_made_world();
  world.refuse_pod = nullptr;
  world.now += 1;
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.settle();
  EXPECT_EQ(world.pods(), (std::vector<std::string>{"a-0-2", "a-1-2"}));
  EXPECT_EQ(world.pod(0).worker->template_hash, world.pod(1).worker->template_hash);
}

TEST(AGangThatIsHalfMade, IsRemovedThoughItsEditedTemplateIsRefused) {
  World world = a_half_made_world();
  world.now += 1;
  world.templates_are_accepted = false;
  world.edit("a", [](contract::TrainingJobSpec& spec) { spec.workers.templ = Json::parse(R"({"spec": {"hostname": "x"}})"); });
  world.settle();
  EXPECT_TRUE(world.pods().empty());
  EXPECT_TRUE(is(world, "Accepted", ConditionStatus::kFalse));
}

}  // namespace
}  // namespace trainyard::decide
