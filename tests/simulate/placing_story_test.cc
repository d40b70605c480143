// How jobs come to their nodes, and what the API server, admission, claims, kubelets and each other have against it.

#include <functional>
#include <optional>

#include "tests/simulate/story.h"

namespace trainyard::simulate {
namespace {

TEST_F(Story, AJobIsPlacedWithinASecond) {
  world.time.run_for(seconds(5));
  world.apply({.name = "a"});
  EXPECT_TRUE(world.time.run_until([this] { return pods_made == 2; }, seconds(1)));
}

TEST_F(Story, WhyAJobIsNotPlacedIsToldWithinASecond) {
  world.apply({.name = "full", .workers = 24, .steps = 10'000});
  expect_phase("full", Phase::kRunning);
  world.apply({.name = "waits", .workers = 1});
  EXPECT_TRUE(becomes("waits", "Placed", "Unschedulable", seconds(1))) << describe(world, "waits");
  EXPECT_EQ(
      condition("waits", "Placed").message,
      "needs 1 worker of 1 cpu and 1Gi memory; 0 fit now. Of 3 nodes, 3 are too full: cpu is held by job default/full (24).");
  world.apply({.name = "too-large", .workers = 25});
  EXPECT_TRUE(becomes("too-large", "Placed", "NeverFits", seconds(1))) << describe(world, "too-large");
  world.apply({.name = "unclaimed", .claim = "corpus"});
  EXPECT_TRUE(becomes("unclaimed", "Placed", "ClaimMissing", seconds(1))) << describe(world, "unclaimed");
}

TEST_F(Story, AJobStartsAsSoonAsItsClaimIsBound) {
  world.apply({.name = "a", .claim = "checkpoints"});
  ASSERT_TRUE(becomes("a", "Placed", "ClaimMissing")) << describe(world, "a");
  world.kubelets.add_claim("checkpoints");
  ASSERT_TRUE(becomes("a", "Placed", "ClaimUnbound", seconds(1))) << describe(world, "a");
  world.time.run_for(seconds(700));
  EXPECT_EQ(pods_made, 0);
  world.kubelets.bind_claim({"default", "checkpoints"});
  EXPECT_TRUE(world.time.run_until([this] { return pods_made == 2; }, seconds(1)));
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, AClaimThatWaitsForItsFirstConsumerIsForBindingScheduler) {
  world.kubelets.add_claim("checkpoints", test::kWaitsForConsumer);
  world.apply({.name = "a", .binding = contract::Binding::kScheduler, .claim = "checkpoints"});
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, AGangIsPlacedByWhatAdmissionMakesOfItsPods) {
  world.api.admit_pod = [](Json& pod) {  // a LimitRange's defaults and a RuntimeClass's overhead
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "4";
    pod["spec"]["overhead"] = {{"cpu", "500m"}};
  };
  world.apply({.name = "a", .workers = 3});
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(pods_made, 3) << "one a node; two would not fit, and their kubelet would reject them again and again";
}

TEST_F(Story, AGangThatAdmissionMakesLargerThanItWasIsCountedAnew) {
  world.apply({.name = "a", .workers = 3, .claim = "checkpoints"});
  ASSERT_TRUE(becomes("a", "Placed", "ClaimMissing"));
  world.api.admit_pod = [](Json& pod) { pod["spec"]["overhead"] = {{"cpu", "4"}}; };
  invariants.admission_changes = true;
  world.kubelets.add_claim("checkpoints");
  world.kubelets.bind_claim({"default", "checkpoints"});
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, ALostRaceForANodeCostsNoRestart) {
  world.kubelets.reject_next = 1;
  world.apply({.name = "a"});
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, ATemplateThatTheServerRefusesIsToldInItsWords) {
  world.api.refuse_pod = [](const Json&) { return std::optional<std::string>("violates PodSecurity restricted"); };
  world.apply({.name = "a"});
  ASSERT_TRUE(world.time.run_until([this] { return condition("a", "Accepted").status == contract::ConditionStatus::kFalse; },
                                   seconds(10)));
  EXPECT_NE(condition("a", "Accepted").message.find("violates PodSecurity restricted"), std::string::npos);
  const int before = world.api.num_requests;
  world.time.run_for(seconds(30));
  EXPECT_LE(world.api.num_requests - before, 3);
  EXPECT_EQ(pods_made, 0);
}

TEST_F(Story, ATemplateThatIsNoneHarmsNobodyElse) {
  world.apply({.name = "full", .workers = 24, .steps = 10'000});
  expect_phase("full", Phase::kRunning);
  const std::vector<std::string> specs = {
      R"({"volumes": [5], "containers": [{"name": "worker"}]})",
      R"({"volumes": [{"name": 5}], "containers": [{"name": "worker"}]})",
      R"({"volumes": [{"name": "trainyard-key", "secret": 5}], "containers": [{"name": "worker", "env": [{"name": 5}]}]})",
      R"({"containers": [{"name": "worker", "env": ["x"]}]})",
      R"({"containers": [{"name": "worker", "env": "x"}]})",
      R"({"containers": [{"name": "worker"}, {"name": "sidecar", "env": {"a": 1}}]})",
      R"({"containers": [{"name": "worker"}], "initContainers": [{"name": "i", "env": [{"name": ["x"]}]}]})",
      R"({"containers": [5]})",
      R"({"containers": {"name": "worker"}})",
      R"({"containers": [{"name": "worker", "volumeMounts": [[]], "ports": [{"name": {}}]}]})",
      R"({"containers": [{"name": "worker"}], "tolerations": [1], "affinity": {"nodeAffinity": [1]}})",
  };
  for (const bool is_edited : {false, true}) {  // a job that waits, accepted, is in the line still when it is edited
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const std::string name = (is_edited ? "edited-" : "made-") + std::to_string(i);
      const auto spoil = [&](Json& job) { job["spec"]["workers"]["template"]["spec"] = Json::parse(specs[i]); };
      world.apply({.name = name, .workers = 3});
      if (is_edited) {
        ASSERT_TRUE(becomes(name, "Placed", "Unschedulable")) << describe(world, name);
      }
      world.api.edit(test::kJobs, job_key(name), spoil);
    }
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const std::string name = (is_edited ? "edited-" : "made-") + std::to_string(i);
      EXPECT_TRUE(becomes(name, "Accepted", "InvalidSpec", seconds(10)) ||
                  condition(name, "Accepted").reason == "TemplateRefused")
          << specs[i] << describe(world, name);
      EXPECT_NE(condition(name, "Accepted").message, "");
    }
  }
  world.apply({.name = "waits", .workers = 1});
  EXPECT_TRUE(becomes("waits", "Placed", "Unschedulable", seconds(2))) << describe(world, "waits");
  const int before = world.api.num_requests;
  world.time.run_for(seconds(60));
  EXPECT_LE(world.api.num_requests - before, 150) << "each is asked about again once a minute";
}

TEST_F(Story, PodsThatAQuotaRefusesAreTriedAgainWithPatienceAndToldOnce) {
  bool full = true;
  world.api.refuse_pod = [&full](const Json&) {
    return full ? std::optional<std::string>("exceeded quota: pods") : std::nullopt;
  };
  world.apply({.name = "a"});
  world.time.run_for(seconds(20));
  EXPECT_EQ(pods_made, 0);
  EXPECT_EQ(events("Refused"), 2);  // one a pod
  EXPECT_LE(world.api.num_requests, 60);
  full = false;
  expect_phase("a", Phase::kSucceeded, seconds(300));
}

/// Admission has room for so many worker pods at once.
std::function<std::optional<std::string>(const Json&)> quota_of(const World& world, int pods) {
  return [&world, pods](const Json&) -> std::optional<std::string> {  // dry runs are judged too
    const int used = world.live_pods("a") + world.live_pods("b");
    return used < pods ? std::nullopt : std::optional<std::string>("exceeded quota: pods");
  };
}

TEST_F(Story, AGangThatAQuotaNeverHoldsGivesItsNodesBackAndSaysWhy) {
  world.api.refuse_pod = quota_of(world, 2);
  world.apply({.name = "a", .workers = 4});
  world.time.run_for(seconds(30));
  EXPECT_EQ(world.live_pods("a"), 2);
  EXPECT_NE(condition("a", "Placed").message.find("exceeded quota: pods"), std::string::npos);
  world.time.run_for(seconds(40));
  EXPECT_EQ(world.live_pods("a"), 0);
  EXPECT_EQ(condition("a", "Placed").reason, "GangRemoved");
  EXPECT_NE(condition("a", "Placed").message.find("exceeded quota: pods"), std::string::npos);
  world.api.refuse_pod = nullptr;
  expect_phase("a", Phase::kSucceeded, seconds(300));
  EXPECT_EQ(world.status("a").restarts, 0);
}

TEST_F(Story, TwoGangsThatEachHoldHalfOfAQuotaBothRunInTheEnd) {
  world.api.refuse_pod = quota_of(world, 4);
  world.apply({.name = "a", .workers = 3});
  world.apply({.name = "b", .workers = 3});
  expect_phase("a", Phase::kSucceeded, seconds(1'000));
  expect_phase("b", Phase::kSucceeded, seconds(1'000));
}

TEST_F(Story, TwoGangsForOneRoomTakeTurns) {
  world.apply({.name = "a", .workers = 24});
  world.time.run_for(seconds(2));
  world.apply({.name = "b", .workers = 24});
  expect_phase("a", Phase::kSucceeded);
  EXPECT_EQ(world.status("b").restarts, 0);
  expect_phase("b", Phase::kSucceeded);
}

}  // namespace
}  // namespace trainyard::simulate
