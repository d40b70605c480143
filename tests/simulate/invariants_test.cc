// Each invariant is broken once, by hand, so that it is known to see it. No controller runs.

#include <string>

#include <gtest/gtest.h>

#include "crds/contract/names.h"
#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"
#include "tests/support/builders.h"

namespace trainyard::simulate {
namespace {

struct AnInvariant : testing::Test {
  World world{1};
  Invariants invariants{world};

  void SetUp() override {
    world.add_nodes(2, 4, 0);
    world.add_priority_class("high", 100);
    world.apply({.name = "a", .max_restarts = 2});
  }
  void edit_status(const std::string& job, const std::function<void(Json&)>& change) {
    world.api.edit(test::kJobs, job_key(job), [&change](Json& object) { change(object["status"]); });
  }
  static Json condition(const char* type, bool holds, const char* reason) {
    return {{"type", type}, {"status", holds ? "True" : "False"}, {"reason", reason}};
  }
  void place(const std::string& job, int workers, Json conditions = Json::array()) {
    conditions.push_back(condition("Placed", true, "Placed"));
    edit_status(job, [&](Json& status) {
      status["generation"] = 1;
      status["placement"] = {{"workers", workers}};
      status["conditions"] = std::move(conditions);
    });
  }
  void add_pod(const std::string& name, const std::string& job, int worker, const std::string& node = "node-0",
               const std::string& cpus = "1", int generation = 1, int gpus = 0) {
    const Json owner = {{"apiVersion", contract::kApiVersion},
                        {"kind", contract::kKind},
                        {"name", job},
                        {"uid", world.uid(job)},
                        {"controller", true}};
    const Json labels = {{contract::kJobLabel, job},
                         {contract::kWorkerLabel, std::to_string(worker)},
                         {contract::kGenerationLabel, std::to_string(generation)}};
    Json requests = {{"cpu", cpus}};
    if (gpus > 0) requests[test::kGpu] = std::to_string(gpus);
    world.api.create(
        test::kPodsPath,
        {{"metadata", {{"name", name}, {"namespace", "default"}, {"labels", labels}, {"ownerReferences", Json::array({owner})}}},
         {"spec",
          {{"nodeName", node},
           {"containers",
            {{{"name", "worker"},
              {"ports", {{{"name", contract::kPortName}, {"containerPort", contract::kAgentPort}}}},
              {"resources", {{"requests", requests}}}}}}}}});
  }
  /// What the invariants say, without when.
  std::string complaint() {
    world.time.run_for(Invariants::kTogether);
    const auto all = invariants.violations();
    if (all.empty()) return "";
    return all.front().substr(all.front().find(": ") + 2) + (all.size() > 1 ? " and more: " + all[1] : "");
  }
};

TEST_F(AnInvariant, IsThatNoNodeIsGivenTwice) {
  place("a", 2);
  add_pod("a-0-1", "a", 0, "node-0", "2");
  add_pod("a-1-1", "a", 1, "node-0", "2");
  EXPECT_EQ(complaint(), "");
  world.apply({.name = "b"});
  place("b", 2);
  add_pod("b-0-1", "b", 0, "node-0", "1");
  EXPECT_EQ(complaint(), "our pods on node-0 ask for more cpu than it has: default/b-0-1");
}

TEST_F(AnInvariant, IsThatAWorkerLivesOnceInAGeneration) {
  place("a", 2);
  add_pod("a-0-1", "a", 0);
  add_pod("a-0-1x", "a", 0, "node-1");
  EXPECT_EQ(complaint(), "two live pods for one worker and generation: default/a-0-1x");
}

TEST_F(AnInvariant, IsThatAGenerationIsRaisedBeforeItsPodsAreMade) {
  add_pod("a-0-1", "a", 0);
  EXPECT_EQ(complaint(), "a pod before its generation: default/a-0-1");
}

TEST_F(AnInvariant, IsThatGenerationsRestartsAndPreemptionsNeverGoBack) {
  world.apply({.name = "b", .priority_class = "high"});
  edit_status("a", [](Json& status) {
    status = {{"generation", 3}, {"restarts", 2}, {"uncountedRestarts", 2}, {"preemptions", 2}};
  });
  EXPECT_EQ(complaint(), "preemptions are miscounted") << "two at once";
  for (const auto& [field, words] :
       {std::pair("generation", "the generation went back"), std::pair("restarts", "restarts went back"),
        std::pair("uncountedRestarts", "uncounted restarts went back"), std::pair("preemptions", "preemptions are miscounted")}) {
    edit_status("a", [field = field](Json& status) { status[field] = 1; });
    EXPECT_NE(invariants.violations().back().find(words), std::string::npos) << invariants.violations().back();
  }
}

TEST_F(AnInvariant, IsThatRestartsAreWithinTheirBudget) {
  edit_status("a", [](Json& status) { status["restarts"] = 2; });
  EXPECT_EQ(complaint(), "");
  edit_status("a", [](Json& status) { status["restarts"] = 3; });
  EXPECT_EQ(complaint(), "restarts exceed the budget");
}

TEST_F(AnInvariant, IsThatTheStatusTellsOfNoStepThatNobodyDid) {
  edit_status("a", [](Json& status) { status["progress"] = {{"step", 7}}; });
  EXPECT_EQ(complaint(), "the status tells of a step that nobody did");
}

TEST_F(AnInvariant, IsThatAStepGoesBackOnceAGenerationAtMost) {
  edit_status("a", [](Json& status) { status = {{"generation", 1}, {"progress", {{"step", 7}}}}; });
  edit_status("a", [](Json& status) { status["progress"]["step"] = 5; });
  EXPECT_NE(invariants.violations().back().find("the step went back without a restart"), std::string::npos);
}

TEST_F(AnInvariant, IsThatWhatHasEndedHasEndedAndSucceedsOnceAllIsDone) {
  edit_status("a", [](Json& status) { status["phase"] = "Succeeded"; });
  EXPECT_EQ(complaint(), "Succeeded, but not all steps were done");
  edit_status("a", [](Json& status) { status["phase"] = "Running"; });
  EXPECT_NE(invariants.violations().back().find("an ended job changed its phase"), std::string::npos);
}

TEST_F(AnInvariant, IsThatAGangHasNoSizeThatItsSpecDoesNotAllow) {
  place("a", 1);
  EXPECT_EQ(complaint(), "a gang of 1 workers");
}

TEST_F(AnInvariant, IsThatNoGangIsPartialForLong) {
  world.api.edit(test::kJobs, job_key("a"), [](Json& job) { job["spec"]["managedBy"] = "example.com/another"; });
  world.start_controller(0);
  world.time.run_for(seconds(5));
  place("a", 2);
  add_pod("a-0-1", "a", 0);
  world.time.run_for(seconds(200));
  EXPECT_EQ(complaint(), "");
  world.time.run_for(seconds(30));
  EXPECT_EQ(complaint(), "a gang has been partial for too long: 1 of 2");
}

struct QuotaOfTwoQueues : AnInvariant {
  void SetUp() override {
    AnInvariant::SetUp();
    world.apply({.name = "b", .queue = "b"});
    world.apply({.name = "c", .queue = "a"});
    place("b", 2);
    place("c", 2);
  }
  void admit(const std::string& job, const std::string& queue) {
    edit_status(job, [&](Json& status) {
      status["admission"] = {{"queue", queue}, {"flavor", Json::object()}, {"resources", {{"cpu", "2"}}}};
    });
  }
};

TEST_F(QuotaOfTwoQueues, HoldsForAllThatTheyHaveTogether) {
  invariants.quota = CpuQuota::of_two(3, 0);
  admit("b", "b");
  add_pod("b-0-1", "b", 0);
  EXPECT_EQ(complaint(), "") << "it borrows";
  admit("c", "a");
  add_pod("c-0-1", "c", 0);
  EXPECT_EQ(complaint(), "quota exceeded: a uses 2, b uses 2");
}

TEST_F(QuotaOfTwoQueues, HoldsForWhatOneMayBorrow) {
  invariants.quota = CpuQuota::of_two(6, 0, {}, 1);
  admit("b", "b");
  add_pod("b-0-1", "b", 0);
  EXPECT_EQ(complaint(), "quota exceeded: b uses 2");
}

TEST_F(QuotaOfTwoQueues, HoldsForWhatOneLends) {
  invariants.quota = CpuQuota::of_two(6, 0, 1);
  admit("b", "b");
  add_pod("b-0-1", "b", 0);
  EXPECT_EQ(complaint(), "quota exceeded: b uses 2");
}

struct AVictim : AnInvariant {
  void SetUp() override {
    AnInvariant::SetUp();
    place("a", 2);
    add_pod("a-0-1", "a", 0);
    add_pod("a-1-1", "a", 1);
  }
  void urge(int workers, const std::string& priority_class = "high") {
    world.apply({.name = "urgent", .workers = workers, .priority_class = priority_class});
    world.time.run_for(seconds(60));
  }
  void stop() { place("a", 2, Json::array({condition("Running", false, "Preempting")})); }
};

TEST_F(AVictim, IsNeededWhereThereIsNoRoomOtherwise) {
  urge(7);
  stop();
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(invariants.num_victims_judged(), 1);
}

TEST_F(AVictim, IsNotNeededWhereThereIsRoom) {
  urge(6);
  stop();
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/a");
}

TEST_F(AVictim, IsNotNeededByOneOfItsOwnPriority) {
  urge(7, "");
  stop();
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/a");
}

struct AVictimOnGpus : AnInvariant {
  void SetUp() override {
    AnInvariant::SetUp();
    world.add_nodes(2, 8, 2);
    world.apply({.name = "g", .gpus = 1});
    place("g", 2);
    for (const int worker : {0, 1}) add_pod("g-" + std::to_string(worker) + "-1", "g", worker, "node-2", "1", 1, 1);
  }
  void urge(int workers, int gpus) {
    world.apply({.name = "urgent", .workers = workers, .gpus = gpus, .priority_class = "high"});
    world.time.run_for(seconds(60));
    place("g", 2, Json::array({condition("Running", false, "Preempting")}));
  }
};

TEST_F(AVictimOnGpus, IsNeededWhereThereAreTooFew) {
  urge(3, 1);
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(invariants.num_victims_judged(), 1);
}

TEST_F(AVictimOnGpus, IsNotNeededWhereThereAreEnough) {
  urge(2, 1);
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/g");
}

TEST_F(AVictimOnGpus, IsNotNeededByOneThatAsksForNone) {
  urge(14, 0);
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/g");
}

TEST_F(AVictimOnGpus, IsNotNeededWhereItHasNoneOfThoseThatLack) {
  world.apply({.name = "b"});
  place("b", 2);
  add_pod("b-0-1", "b", 0, "node-3");
  add_pod("b-1-1", "b", 1, "node-3");
  world.apply({.name = "urgent", .workers = 3, .gpus = 1, .priority_class = "high"});
  world.time.run_for(seconds(60));
  place("b", 2, Json::array({condition("Running", false, "Preempting")}));
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/b");
}

/// Queue a has 4 cpus and b has 2; job c of b has four workers, and so borrows two.
struct AVictimOfQuota : AnInvariant {
  void SetUp() override {
    AnInvariant::SetUp();
    invariants.quota = CpuQuota::of_two(4, 2);
    world.apply({.name = "c", .workers = 4, .queue = "b"});
    hold("c", "b", 4);
  }
  void hold(const std::string& job, const std::string& queue, int workers, Json conditions = Json::array()) {
    place(job, workers, std::move(conditions));
    edit_status(job, [&](Json& status) {
      status["admission"] = {{"queue", queue}, {"resources", {{"cpu", std::to_string(workers)}}}};
    });
  }
  void claim(int workers, const std::string& queue, const std::string& priority_class = "") {
    world.apply({.name = "claims", .workers = workers, .priority_class = priority_class, .queue = queue});
    world.time.run_for(seconds(60));
  }
  void stop() { hold("c", "b", 4, Json::array({condition("Running", false, "Preempting")})); }
};

TEST_F(AVictimOfQuota, IsNeededWhereAnotherQueueTakesItsOwnBack) {
  claim(3, "a");
  stop();
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(invariants.num_victims_judged(), 1);
}

TEST_F(AVictimOfQuota, IsNotNeededWhereThereIsAsMuchLeft) {
  claim(2, "a");
  stop();
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/c");
}

TEST_F(AVictimOfQuota, IsNotNeededByOneThatWouldBorrowItself) {
  claim(5, "a");
  stop();
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/c");
}

TEST_F(AVictimOfQuota, IsNotNeededByOneOfItsOwnQueue) {
  claim(3, "b");
  stop();
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/c");
}

TEST_F(AVictimOfQuota, IsNotNeededByOneWithoutAQueue) {
  claim(3, "");
  stop();
  EXPECT_EQ(complaint(), "a job was told to make room that nobody needs: default/c");
}

TEST_F(AVictimOfQuota, IsNeededByOneOfHigherPriorityThatLacksQuotaAlone) {
  claim(3, "b", "high");
  stop();
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(invariants.num_victims_judged(), 1);
}

TEST_F(AVictim, IsNotJudgedWhereThereWasNoRoomAMomentAgo) {
  urge(6);
  world.api.edit(test::kNodes, {"", "node-1"}, [](Json& node) { node["metadata"]["labels"]["looked-at"] = "now"; });
  world.time.run_for(seconds(5));
  stop();
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(invariants.num_victims_judged(), 0);
}

}  // namespace
}  // namespace trainyard::simulate
