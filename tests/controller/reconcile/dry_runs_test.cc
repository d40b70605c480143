// What the server would make of a pod, asked once for pods that are alike.
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "crds/contract/names.h"
#include "tests/controller/reconcile/performer_fixture.h"

namespace trainyard::reconcile {
namespace {

struct ADryRun : PerformerTest {};

TEST_F(ADryRun, IsToldOfAndMakesNothing) {
  api.refuse_pod = [](const Json&) { return std::optional<std::string>("too privileged"); };
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  EXPECT_FALSE(cache.cluster().template_check(uid(), "hash")->accepted);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->message, "too privileged");
  api.refuse_pod = nullptr;
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  EXPECT_TRUE(cache.cluster().template_check(uid(), "hash")->accepted);
  EXPECT_EQ(api.size(test::kPodsPath), 0u);
}

struct AlikePods : PerformerTest {
  int dry_runs = 0;
  std::vector<std::optional<PlanEnded>> ends;

  void SetUp() override {
    PerformerTest::SetUp();
    for (const char* name : {"b", "c", "d"}) {
      api.create(test::kJobs, {{"metadata", {{"name", name}, {"namespace", "default"}}}, {"spec", Json::object()}});
      cache.assume_job(*api.get(test::kJobs, {"default", name}));
    }
    api.fault_of = [this](const kube::Request& request) {
      dry_runs += request.query.contains("dryRun");
      return Fault::kNone;
    };
  }
  decide::DryRunPod dry_run(const std::string& job, const std::string& cpus = "1") {
    const std::string uid = cache.cluster().job({"default", job})->uid;
    Json body = pod("a-0-1").body;
    body["metadata"]["name"] = job + "-0-1";
    body["metadata"]["ownerReferences"][0]["uid"] = uid;
    body["metadata"]["labels"][std::string(contract::kJobLabel)] = job;
    body["spec"]["hostname"] = job;
    body["spec"]["containers"] = {{{"name", "worker"},
                                   {"env", {{{"name", "MASTER_ADDR"}, {"value", job}}}},
                                   {"resources", {{"requests", {{"cpu", cpus}}}}}}};
    return {{"default", job}, uid, "hash", body};
  }
  void begin(const decide::DryRunPod& dry_run) {
    const auto number = ends.size();
    ends.emplace_back();
    performer.perform(dry_run.job, {.phases = {{dry_run}}}, [this, number](PlanEnded how) { ends[number] = how; });
  }
  const decide::TemplateCheck* check(const std::string& job) {
    return cache.cluster().template_check(cache.cluster().job({"default", job})->uid, "hash");
  }
};

TEST_F(AlikePods, OfDifferentNamesHaveOneDryRunWhoseYesHoldsForAllForAWhile) {
  begin(dry_run("a"));
  begin(dry_run("b"));
  time.run_for(seconds(1));
  begin(dry_run("c"));
  time.run_for(seconds(1));
  EXPECT_EQ(dry_runs, 1);
  for (const auto& end : ends) EXPECT_EQ(end->ended, Ended::kWell);
  for (const char* job : {"a", "b", "c"}) {
    ASSERT_NE(check(job), nullptr) << job;
    EXPECT_TRUE(check(job)->accepted);
  }
  begin(dry_run("c"));  // it has an answer
  time.run_for(seconds(1));
  EXPECT_EQ(dry_runs, 2) << "who asks again is asked about anew";
  time.run_for(DryRunAnswers::kLasts);
  begin(dry_run("d"));
  time.run_for(seconds(1));
  EXPECT_EQ(dry_runs, 3) << "what was said long ago may hold no more";
}

TEST_F(AlikePods, AreEachAskedAboutWhereTheFirstIsRefused) {
  int asked = 0;
  api.refuse_pod = [&asked](const Json&) { return asked++ == 0 ? std::optional<std::string>("not now") : std::nullopt; };
  begin(dry_run("a"));
  begin(dry_run("b"));
  time.run_for(seconds(1));
  EXPECT_EQ(dry_runs, 2);
  EXPECT_FALSE(check("a")->accepted);
  EXPECT_TRUE(check("b")->accepted);
}

TEST_F(AlikePods, AreNotThoseThatDifferInMoreThanNames) {
  begin(dry_run("a", "1"));
  begin(dry_run("b", "2"));
  time.run_for(seconds(1));
  EXPECT_EQ(dry_runs, 2);
  EXPECT_NE(check("a")->needs, check("b")->needs);
}

TEST_F(AlikePods, AreForgottenByWhoStopsLeading) {
  begin(dry_run("a"));
  begin(dry_run("b"));
  time.run_for(std::chrono::microseconds(1));  // until the first is on its way
  performer.stop();
  begin(dry_run("c"));
  time.run_for(seconds(1));
  EXPECT_FALSE(ends[1].has_value()) << "its plan is of a term that is over";
  EXPECT_EQ(ends[2]->ended, Ended::kWell);
  EXPECT_EQ(dry_runs, 2);
}

TEST_F(ADryRun, OfNoTemplateAtAllIsTheServersToRefuse) {
  int number = 0;
  for (const char* spec :
       {"5", R"({"volumes": [5]})", R"({"volumes": [{"name": 5}], "containers": [{"name": "worker"}]})",
        R"({"containers": [{"name": "worker", "env": ["x"]}]})", R"({"containers": [{"name": "worker", "env": "x"}]})",
        R"({"containers": [{"name": "worker", "env": [{"name": 5}]}, {"name": "sidecar", "env": {"a": 1}}]})",
        R"({"containers": [5]})", R"({"containers": {"name": "worker"}})", R"({"initContainers": [[]], "containers": [{}]})"}) {
    decide::DryRunPod ask{kJob, uid(), "hash " + std::to_string(++number), pod("a-0-1").body};
    ask.body["spec"] = Json::parse(spec);
    EXPECT_EQ(perform({{ask}})->ended, Ended::kWell) << spec;
    const auto* check = cache.cluster().template_check(uid(), ask.template_hash);
    ASSERT_NE(check, nullptr) << spec;
    EXPECT_FALSE(check->accepted) << spec;
    EXPECT_NE(check->message, "") << spec;
  }
}

TEST_F(AlikePods, WhoseAnswerBringsABugToLightTakeItEachAsItIs) {
  BrokenExecutor broken(time);
  Performer brittle(
      broken, api, cache, {"the key", "me"}, [] { return true; }, observer);
  api.fault_of = [&](const kube::Request& request) {
    dry_runs += request.query.contains("dryRun");
    broken.clock_stops = 2;  // the first of them has taken the answer, and it is to be shared
    return Fault::kNone;
  };
  for (const char* job : {"a", "b", "c"}) {
    brittle.perform({"default", job}, {.phases = {{dry_run(job)}}}, [this](PlanEnded how) { ends.emplace_back(how); });
  }
  time.run_for(seconds(5));
  EXPECT_EQ(broken.clock_stops, 0);
  EXPECT_EQ(dry_runs, 1);
  ASSERT_EQ(ends.size(), 3u);
  for (const char* job : {"a", "b", "c"}) {
    ASSERT_NE(check(job), nullptr) << job;
    EXPECT_TRUE(check(job)->accepted);
  }
}

TEST_F(ADryRun, TellsWhatAdmissionMakesOfThePod) {
  api.admit_pod = [](Json& pod) { pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "3"; };
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs.requests["cpu"], 3'000);
}

TEST_F(ADryRun, ThatMeetsAFullQuotaSaysNothingAgainstThePod) {
  api.refuse_pod = [](const Json&) {
    return std::optional<std::string>("pods \"a-0-1\" is forbidden: exceeded quota: team, used: pods=4");
  };
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  ASSERT_TRUE(cache.cluster().template_check(uid(), "hash")->accepted);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs, decide::read_pod_needs(pod("a-0-1").body["spec"]));
}

TEST_F(ADryRun, ThatMeetsAFullQuotaKeepsWhatAnEarlierOneTold) {
  api.admit_pod = [](Json& pod) { pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "3"; };
  perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}});
  api.refuse_pod = [](const Json&) { return std::optional<std::string>("exceeded quota: team, used: pods=4"); };
  perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}});
  EXPECT_TRUE(cache.cluster().template_check(uid(), "hash")->over_quota);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs.requests["cpu"], 3'000);
}

TEST_F(ADryRun, ThatMeetsATakenNameHasPassedEveryCheck) {
  ASSERT_EQ(perform({{pod("a-0-1")}})->ended, Ended::kWell);
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  ASSERT_TRUE(cache.cluster().template_check(uid(), "hash")->accepted);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs, decide::read_pod_needs(pod("a-0-1").body["spec"]));
}

}  // namespace
}  // namespace trainyard::reconcile
