#include "controller/reconcile/performer.h"

#include <algorithm>
#include <stdexcept>

#include <gtest/gtest.h>

#include "controller/cache/decode.h"
#include "tests/controller/cache/objects.h"
#include "tests/support/builders.h"
#include "tests/support/fake_kube_api.h"
#include "tests/support/virtual_time.h"

namespace trainyard::reconcile {
namespace {

using contract::Json;
using decide::ObjectKey;
using std::chrono::seconds;
using test::Fault;

const ObjectKey kJob{"default", "a"};

struct Written : Observer {
  void wrote(const decide::Cluster&, const decide::Job&, const contract::TrainingJobStatus& before,
             const contract::TrainingJobStatus& after, contract::Time) override {
    statuses.emplace_back(before.generation, after.generation);
  }
  std::vector<std::pair<std::int64_t, std::int64_t>> statuses;
};

struct PerformerTest : testing::Test {
  test::VirtualTime time;
  test::VirtualExecutor executor{time};
  test::FakeKubeApi api{time};
  cache::Cache cache{decide::Settings{}};
  Written observer;
  bool may_write = true;
  Performer performer{executor, api, cache, {"the key", "me"}, [this] { return may_write; }, observer};
  std::vector<std::string> written;

  void SetUp() override {
    api.create(test::kJobs, {{"metadata", {{"name", "a"}, {"namespace", "default"}}}, {"spec", Json::object()}});
    cache.assume_job(*api.get(test::kJobs, kJob));
    api.written = [this](const kube::Request& request) { written.push_back(request.path); };
  }
  std::string uid() { return cache.cluster().job(kJob)->uid; }
  decide::CreatePod pod(const std::string& name) {
    Json body = cache::pod_object(name, 1, "none");
    body["metadata"].erase("uid");
    body["metadata"].erase("resourceVersion");
    body["metadata"]["ownerReferences"][0]["uid"] = uid();
    return {{"default", name}, body};
  }
  decide::WriteStatus status(std::int64_t generation) {
    contract::TrainingJobStatus status;
    status.generation = generation;
    return {kJob, uid(), cache.cluster().job(kJob)->resource_version, status};
  }
  decide::Event event() { return {.job = kJob, .job_uid = uid(), .reason = "Told", .message = "told", .name = "a.1"}; }
  std::optional<PlanEnded> perform(std::vector<std::vector<decide::Action>> phases) {
    std::optional<PlanEnded> ended;
    performer.perform(kJob, {.phases = std::move(phases)}, [&](PlanEnded how) { ended = how; });
    time.run_for(seconds(40));
    return ended;
  }
};

TEST_F(PerformerTest, BeginsAPhaseWhenTheOneBeforeItHasSucceeded) {
  ASSERT_EQ(perform({{status(1)}, {pod("a-0-1"), pod("a-1-1")}})->ended, Ended::kWell);
  ASSERT_EQ(written.size(), 3u);
  EXPECT_NE(written[0].find("/status"), std::string::npos);
  EXPECT_EQ(cache.cluster().job(kJob)->status.generation, 1);
  EXPECT_NE(cache.cluster().pod({"default", "a-0-1"}), nullptr);  // assumed: no watch runs here
}

TEST_F(PerformerTest, EventsGiveWayToManyOtherRequests) {
  for (const std::size_t pods : {std::size_t{2}, Performer::kMany}) {
    test::VirtualExecutor slow{time, {.low = seconds(1), .high = seconds(1)}};
    Performer patient{slow, api, cache, {"the key", "me"}, [] { return true; }, observer};
    std::vector<decide::Action> phase;
    for (std::size_t i = 0; i < pods; ++i) phase.emplace_back(pod("a-" + std::to_string(i) + "-" + std::to_string(pods)));
    patient.perform(kJob, {.phases = {phase}}, [](PlanEnded) {});
    time.run_for(std::chrono::milliseconds(1));
    for (int i = 0; i < 4; ++i) {
      auto told = event();
      told.name = std::to_string(pods) + "." + std::to_string(i);
      patient.tell(told);
    }
    written.clear();
    time.run_for(std::chrono::milliseconds(1'500));
    const auto events = std::count_if(written.begin(), written.end(), [](const auto& path) { return path.ends_with("/events"); });
    EXPECT_EQ(events, pods == Performer::kMany ? 1 : 4);
    time.run_for(seconds(10));
    EXPECT_EQ(api.size(test::kEvents), pods == Performer::kMany ? 8u : 4u) << "later";
  }
}

TEST_F(PerformerTest, PodsCountAsSoonAsTheyBeginAndNotAnyMoreWhereTheyFail) {
  const ObjectKey first{"default", "a-0-1"}, second{"default", "a-1-1"};
  int begun = 0;
  bool ended = false;
  api.fault_of = [&, pods = 0](const kube::Request& request) mutable {
    EXPECT_EQ(begun, request.path.ends_with("/status") ? 0 : 1) << "the status comes first";
    return request.path.ends_with("/pods") && ++pods == 2 ? Fault::kBroken : Fault::kNone;
  };
  performer.perform(
      kJob, {.phases = {{status(1)}, {pod("a-0-1"), pod("a-1-1")}}}, [&](PlanEnded) { ended = true; },
      [&] {
        ++begun;
        EXPECT_NE(cache.cluster().pod(first), nullptr);
        EXPECT_NE(cache.cluster().pod(second), nullptr);
        EXPECT_EQ(cache.cluster().job(kJob)->status.generation, 1);
        EXPECT_EQ(api.size(test::kPodsPath), 0u);
      });
  time.run_for(seconds(1));
  EXPECT_TRUE(ended);
  EXPECT_EQ(begun, 1);
  EXPECT_EQ(cache.cluster().pods().size(), 1u) << "the other was not made";
  performer.perform(kJob, {.phases = {{pod("a-2-1")}}}, [](PlanEnded) {});
  time.run_for(std::chrono::microseconds(1));
  EXPECT_EQ(cache.cluster().pods().size(), 2u);
  performer.stop();
  EXPECT_EQ(cache.cluster().pods().size(), 1u) << "who does not lead expects nothing";
}

TEST_F(PerformerTest, PodsOfLaterPhasesCountAsSoonAsTheFirstBegin) {
  int begun = 0;
  performer.perform(
      kJob, {.phases = {{status(1)}, {pod("a-0-1")}, {pod("a-1-1")}}}, [](PlanEnded) {},
      [&] {
        ++begun;
        EXPECT_EQ(cache.cluster().pods().size(), 2u) << "spares come after the workers, and nobody else gets their nodes";
      });
  time.run_for(seconds(1));
  EXPECT_EQ(begun, 1);
  EXPECT_EQ(api.size(test::kPodsPath), 2u);
}

TEST_F(PerformerTest, BeginsNothingAfterAFailure) {
  api.fail_next(Fault::kConflict);
  EXPECT_EQ(perform({{status(1)}, {pod("a-0-1")}})->ended, Ended::kConflict);
  EXPECT_EQ(api.size(test::kPodsPath), 0u);
  api.fail_next(Fault::kBroken);
  EXPECT_EQ(perform({{status(1)}, {pod("a-0-1")}})->ended, Ended::kFailed);
  EXPECT_EQ(api.size(test::kPodsPath), 0u);
}

TEST_F(PerformerTest, KeepsWhatTheServerSaysToPodsThatItRefusesUnderThePresentGeneration) {
  api.refuse_pod = [](const Json&) { return std::optional<std::string>("exceeded quota"); };
  EXPECT_EQ(perform({{status(1)}, {pod("a-0-1"), pod("a-1-1")}})->ended, Ended::kFailed);
  const auto* refusal = cache.cluster().refusal(*cache.cluster().job(kJob));
  ASSERT_NE(refusal, nullptr);
  EXPECT_EQ(refusal->request, "create pod default/a-0-1") << "the first of those that are refused alike";
  EXPECT_EQ(refusal->message, "exceeded quota");
  EXPECT_TRUE(cache.take_changes().jobs.contains(kJob));
  perform({{status(2)}});
  EXPECT_EQ(cache.cluster().refusal(*cache.cluster().job(kJob)), nullptr) << "it is of generation 1";
}

TEST_F(PerformerTest, SendsAtMostSixteenRequestsAtATime) {
  std::vector<decide::Action> many;
  many.reserve(50);
  for (int i = 0; i < 50; ++i) many.emplace_back(pod("a-" + std::to_string(i) + "-1"));
  std::size_t most = 0;
  api.fault_of = [&](const kube::Request&) {
    most = std::max(most, performer.num_requests());
    return Fault::kNone;
  };
  EXPECT_EQ(perform({many})->ended, Ended::kWell);
  EXPECT_EQ(api.size(test::kPodsPath), 50u);
  EXPECT_EQ(most, Performer::kParallel);
}

TEST_F(PerformerTest, OfAThousandPlansSendsABoundedNumberAndTheRestAsAnswersCome) {
  constexpr int kPlans = 1'000;
  std::size_t most = 0;
  int ended = 0;
  api.fault_of = [&](const kube::Request&) {
    most = std::max(most, performer.num_sent());
    return Fault::kBroken;
  };
  for (int i = 0; i < kPlans; ++i) performer.perform(kJob, {.phases = {{status(1)}}}, [&](PlanEnded) { ++ended; });
  time.run_for(std::chrono::microseconds(1));
  EXPECT_EQ(performer.num_requests(), std::size_t{kPlans}) << "a new leader waits for those too that are yet to be sent";
  time.run_for(seconds(40));
  EXPECT_EQ(ended, kPlans);
  EXPECT_EQ(most, Performer::kAtOnce);
  EXPECT_EQ(performer.num_requests(), 0u);
}

/// So many requests that no hand has begun.
struct CountingExecutor : test::VirtualExecutor {
  using VirtualExecutor::VirtualExecutor;
  void hand(std::function<void()> task) override {
    most = std::max(most, ++waiting);
    VirtualExecutor::hand([this, task = std::move(task)] {
      --waiting;
      task();
    });
  }
  std::size_t waiting = 0, most = 0;
};

TEST_F(PerformerTest, LooksForAThousandPodsInDoubtAFewAtATimeToo) {
  CountingExecutor counting(time);
  Performer many(
      counting, api, cache, {"the key", "me"}, [] { return true; }, observer);
  constexpr int kPods = 1'000;
  int looked = 0;
  api.fault_of = [&](const kube::Request& request) {
    looked += request.method == kube::Method::kGet;
    return Fault::kLost;
  };
  for (int i = 0; i < kPods; ++i) {
    many.perform(kJob, {.phases = {{pod("a-" + std::to_string(i) + "-1")}}}, [](PlanEnded) {});
  }
  time.run_for(std::chrono::milliseconds(500));
  EXPECT_GT(looked, kPods + 500) << "each once with the request, and most of them again";
  EXPECT_LE(counting.most, Performer::kAtOnce);
  time.run_for(seconds(60));
  EXPECT_GT(looked, 10 * kPods) << "none waits for ever";
  EXPECT_LE(counting.most, Performer::kAtOnce);
  many.stop();
  time.run_for(seconds(60));
  EXPECT_EQ(many.num_requests(), 0u);
  EXPECT_EQ(many.num_sent(), 0u);
}

TEST_F(PerformerTest, SendsNothingAfterStopOfWhatWaitsForOthersToEnd) {
  constexpr int kPlans = 1'000;
  int ended = 0;
  std::size_t sent = 0;
  api.fault_of = [&](const kube::Request& request) {
    sent += request.method == kube::Method::kPut;
    return Fault::kNone;
  };
  for (int i = 0; i < kPlans; ++i) performer.perform(kJob, {.phases = {{status(1)}}}, [&](PlanEnded) { ++ended; });
  time.run_for(std::chrono::microseconds(1));
  performer.stop();
  EXPECT_EQ(performer.num_requests(), Performer::kAtOnce) << "these are on their way";
  time.run_for(seconds(5));
  EXPECT_EQ(sent, Performer::kAtOnce);
  EXPECT_EQ(performer.num_requests(), 0u);
  EXPECT_EQ(ended, 0);
  performer.perform(kJob, {.phases = {{status(1)}}}, [&](PlanEnded) { ++ended; });
  time.run_for(seconds(5));
  EXPECT_EQ(ended, 1) << "the next term begins as ever";
}

TEST_F(PerformerTest, TakesAPodThatExistsAlreadyForItsOwnWhereTheOwnerIsTheSame) {
  ASSERT_TRUE(api.create(test::kPodsPath, pod("a-0-1").body));
  EXPECT_EQ(perform({{pod("a-0-1")}})->ended, Ended::kWell);
  EXPECT_NE(cache.cluster().pod({"default", "a-0-1"}), nullptr);
}

/// A pod is asked for and the server's answer is `fault`; whoever looks whether it is there is answered by `look`, `looks` times.
struct APodInDoubt : PerformerTest {
  const ObjectKey key{"default", "a-0-1"};
  std::optional<PlanEnded> ended;
  int looked = 0;
  std::chrono::milliseconds asked_at{};

  void ask(Fault fault, Fault look, int looks) {
    asked_at = time.uptime();
    api.fault_of = [this, fault, look, looks](const kube::Request& request) {
      if (request.method == kube::Method::kPost) return request.path.ends_with("/pods") ? fault : Fault::kNone;
      return ++looked <= looks ? look : Fault::kNone;
    };
    performer.perform(kJob, {.phases = {{pod("a-0-1")}}}, [this](PlanEnded how) { ended = how; });
    time.run_for(std::chrono::microseconds(1));
  }
  /// Whether it counted until its plan ended, which it does within that time, and not before `at_least` since it was asked for.
  bool counts_until_the_end(std::chrono::milliseconds at_least, seconds within) {
    const auto end = time.uptime() + within;
    for (; !ended && time.uptime() < end; time.run_for(std::chrono::milliseconds(1))) {
      if (cache.cluster().pod(key) == nullptr) return false;
    }
    return ended.has_value() && time.uptime() >= asked_at + at_least;
  }
};

TEST_F(APodInDoubt, KeepsItsRoomUntilTheServerSaysThatItMadeIt) {
  ask(Fault::kAnswerLost, Fault::kBroken, 3);
  ASSERT_TRUE(counts_until_the_end(std::chrono::milliseconds(1'750), seconds(10)))
      << "it is looked for at once, and after 250, 500, 1000 ms";
  EXPECT_EQ(ended->ended, Ended::kWell);
  ASSERT_NE(cache.cluster().pod(key), nullptr);
  EXPECT_EQ(cache.cluster().pod(key)->uid, cache::uid_of(*api.get(test::kPodsPath, key)));
}

TEST_F(APodInDoubt, GivesItsRoomBackOnceTheServerSaysThatItIsNotThere) {
  for (const Fault fault : {Fault::kLost, Fault::kBroken}) {
    ended.reset();
    looked = 0;
    ask(fault, Fault::kBroken, 2);
    ASSERT_TRUE(counts_until_the_end(std::chrono::milliseconds(750), seconds(10)));
    EXPECT_EQ(ended->ended, Ended::kFailed) << "it is asked for again later";
    EXPECT_EQ(looked, 3);
    EXPECT_EQ(cache.cluster().pod(key), nullptr);
  }
}

TEST_F(APodInDoubt, IsLookedForForAsLongAsTheServerIsAwayAndNotOften) {
  ask(Fault::kLost, Fault::kLost, 1'000'000);
  EXPECT_FALSE(counts_until_the_end(seconds(300), seconds(300)));
  EXPECT_FALSE(ended);
  EXPECT_NE(cache.cluster().pod(key), nullptr);
  EXPECT_GE(looked, 50);
  EXPECT_LE(looked, 70) << "each 5 s";
  performer.stop();
  EXPECT_EQ(cache.cluster().pod(key), nullptr) << "who leads anew reads everything first";
  time.run_for(seconds(60));
  EXPECT_LE(looked, 70);
  EXPECT_EQ(performer.num_requests(), 0u);
}

TEST_F(APodInDoubt, IsGivenUpWhereTheServerWillNotHaveItLookedFor) {
  ask(Fault::kAnswerLost, Fault::kForbidden, 1'000'000);
  ASSERT_TRUE(counts_until_the_end(seconds(30), seconds(60)));
  EXPECT_EQ(ended->ended, Ended::kFailed);
  EXPECT_EQ(looked, 11);
}

TEST_F(APodInDoubt, IsNoneForWhichNoConnectionCameAbout) {
  ask(Fault::kRefused, Fault::kBroken, 1'000'000);
  time.run_for(seconds(1));
  ASSERT_TRUE(ended) << "nothing can have been made";
  EXPECT_EQ(ended->ended, Ended::kFailed);
  EXPECT_EQ(looked, 0);
  EXPECT_EQ(cache.cluster().pod(key), nullptr);
}

TEST_F(APodInDoubt, ThatIsMadeOnlyAfterItWasLookedForIsTakenWhenItIsAskedForAgain) {
  ask(Fault::kLate, Fault::kNone, 0);
  time.run_for(std::chrono::milliseconds(20));
  ASSERT_TRUE(ended) << "the server says that it is not there";
  EXPECT_EQ(ended->ended, Ended::kFailed);
  EXPECT_EQ(cache.cluster().pod(key), nullptr);
  time.run_for(seconds(30));
  ASSERT_NE(api.get(test::kPodsPath, key), nullptr) << "that is what the fault says";
  ended.reset();
  ask(Fault::kNone, Fault::kNone, 0);
  time.run_for(seconds(1));
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->ended, Ended::kWell);
  EXPECT_EQ(api.size(test::kPodsPath), 1u);
  ASSERT_NE(cache.cluster().pod(key), nullptr);
  EXPECT_EQ(cache.cluster().pod(key)->uid, cache::uid_of(*api.get(test::kPodsPath, key)));
}

TEST_F(APodInDoubt, IsNoneThatTheServerRefused) {
  ask(Fault::kTooMany, Fault::kNone, 0);
  time.run_for(seconds(1));
  EXPECT_TRUE(ended);
  EXPECT_EQ(looked, 0);
  EXPECT_EQ(cache.cluster().pod(key), nullptr);
}

TEST_F(PerformerTest, RefusesToAdoptAnotherJobsPodAndSaysSo) {
  Json foreign = pod("a-0-1").body;
  foreign["metadata"]["ownerReferences"][0]["uid"] = "another";
  ASSERT_EQ(perform({{decide::CreatePod{{"default", "a-0-1"}, foreign}}})->ended, Ended::kWell);
  EXPECT_EQ(perform({{pod("a-0-1")}})->ended, Ended::kFailed);
  ASSERT_EQ(api.size(test::kEvents), 1u);
  EXPECT_NE((*api.list(test::kEvents)[0])["message"].get<std::string>().find("a pod of that name exists"), std::string::npos);
}

TEST_F(PerformerTest, AConflictBringsTheJobAsItIsNow) {
  const decide::WriteStatus stale = status(1);
  api.edit(test::kJobs, kJob, [](Json& job) { job["spec"]["suspend"] = true; });
  EXPECT_EQ(perform({{stale}})->ended, Ended::kConflict);
  EXPECT_TRUE(cache.cluster().job(kJob)->spec.suspend);
  EXPECT_EQ(perform({{status(1)}})->ended, Ended::kWell);
}

TEST_F(PerformerTest, TellsWhatAStatusWasBeforeThoughTheWatchShowsTheNewOneBeforeTheAnswerComes) {
  api.on_change(test::kJobs, [this](const auto& change) {
    cache.apply(cache::event(static_cast<std::size_t>(cache::Watched::kJobs), change.type, *change.object), executor.now());
  });
  EXPECT_EQ(perform({{status(1)}})->ended, Ended::kWell);
  EXPECT_EQ(perform({{status(3)}})->ended, Ended::kWell);
  api.fail_next(Fault::kConflict);
  perform({{status(4)}});
  EXPECT_EQ(observer.statuses, (std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}, {1, 3}}));
}

TEST_F(PerformerTest, HandsOnHowLongTheServerAskedToWait) {
  api.fail_next(Fault::kTooMany);
  EXPECT_EQ(perform({{pod("a-0-1")}})->at_least, seconds(1));
}

TEST_F(PerformerTest, AnEventHoldsUpNothingAndIsTriedAgainApart) {
  api.fail_next(Fault::kBroken, 3);
  EXPECT_EQ(perform({{event()}})->ended, Ended::kWell);
  EXPECT_EQ(api.size(test::kEvents), 1u);
  EXPECT_EQ(perform({{event()}})->ended, Ended::kWell);
  EXPECT_EQ(api.size(test::kEvents), 1u);
}

TEST_F(PerformerTest, ADryRunsAnswerIsKeptAndNothingIsMade) {
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

TEST_F(PerformerTest, ADryRunOfNoTemplateAtAllIsTheServersToRefuse) {
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

/// Where something can't be asked for, which would be a bug.
struct BrokenExecutor : test::VirtualExecutor {
  using VirtualExecutor::VirtualExecutor;
  void hand(std::function<void()> task) override {
    if (breaks_down-- > 0) throw std::runtime_error("out of hands");
    VirtualExecutor::hand(std::move(task));
  }
  contract::Time now() const override {
    if (clock_stops > 0 && clock_stops-- == 1) throw std::runtime_error("out of time");
    return VirtualExecutor::now();
  }
  int breaks_down = 0;
  mutable int clock_stops = 0;  // so many looks at it from now
};

struct ABug : PerformerTest {
  BrokenExecutor broken{time};
  Performer brittle{broken, api, cache, {"the key", "me"}, [this] { return may_write; }, observer};
  std::optional<PlanEnded> perform(std::vector<std::vector<decide::Action>> phases) {
    std::optional<PlanEnded> ended;
    brittle.perform(kJob, {.phases = std::move(phases)}, [&](PlanEnded how) { ended = how; });
    time.run_for(seconds(40));
    return ended;
  }
};

TEST_F(ABug, ThatOneJobBringsToLightEndsItsPlanAlone) {
  broken.breaks_down = 1;
  const auto ended = perform({{pod("a-0-1"), pod("a-1-1")}, {pod("a-2-1")}});
  ASSERT_TRUE(ended) << "it hangs";
  EXPECT_EQ(ended->ended, Ended::kFailed);
  EXPECT_EQ(brittle.num_requests(), 0u);
  EXPECT_EQ(cache.cluster().pod({"default", "a-0-1"}), nullptr);
  EXPECT_EQ(cache.cluster().pod({"default", "a-2-1"}), nullptr) << "nothing more is begun";
  ASSERT_GE(api.size(test::kEvents), 1u);
  EXPECT_NE((*api.list(test::kEvents)[0])["message"].get<std::string>().find("out of hands"), std::string::npos);
  EXPECT_EQ(perform({{pod("a-3-1")}})->ended, Ended::kWell);
}

TEST_F(ABug, InADryRunIsToldAsTheRefusalOfTheTemplate) {
  broken.breaks_down = 1;
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  ASSERT_NE(cache.cluster().template_check(uid(), "hash"), nullptr);
  EXPECT_FALSE(cache.cluster().template_check(uid(), "hash")->accepted);
  EXPECT_NE(cache.cluster().template_check(uid(), "hash")->message.find("out of hands"), std::string::npos);
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "other", pod("a-0-1").body}}})->ended, Ended::kWell);
  EXPECT_TRUE(cache.cluster().template_check(uid(), "other")->accepted) << "nobody waits for what was never asked";
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

TEST_F(PerformerTest, ADryRunTellsWhatAdmissionMakesOfThePod) {
  api.admit_pod = [](Json& pod) { pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "3"; };
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs.requests["cpu"], 3'000);
}

TEST_F(PerformerTest, ADryRunThatMeetsAFullQuotaSaysNothingAgainstThePod) {
  api.refuse_pod = [](const Json&) {
    return std::optional<std::string>("pods \"a-0-1\" is forbidden: exceeded quota: team, used: pods=4");
  };
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  ASSERT_TRUE(cache.cluster().template_check(uid(), "hash")->accepted);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs, decide::read_pod_needs(pod("a-0-1").body["spec"]));
}

TEST_F(PerformerTest, ADryRunThatMeetsAFullQuotaKeepsWhatAnEarlierOneTold) {
  api.admit_pod = [](Json& pod) { pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "3"; };
  perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}});
  api.refuse_pod = [](const Json&) { return std::optional<std::string>("exceeded quota: team, used: pods=4"); };
  perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}});
  EXPECT_TRUE(cache.cluster().template_check(uid(), "hash")->over_quota);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs.requests["cpu"], 3'000);
}

TEST_F(PerformerTest, ADryRunThatMeetsATakenNameHasPassedEveryCheck) {
  ASSERT_EQ(perform({{pod("a-0-1")}})->ended, Ended::kWell);
  EXPECT_EQ(perform({{decide::DryRunPod{kJob, uid(), "hash", pod("a-0-1").body}}})->ended, Ended::kWell);
  ASSERT_TRUE(cache.cluster().template_check(uid(), "hash")->accepted);
  EXPECT_EQ(cache.cluster().template_check(uid(), "hash")->needs, decide::read_pod_needs(pod("a-0-1").body["spec"]));
}

TEST_F(PerformerTest, ADeletedPodIsSeenAsDyingOrGoneAtOnce) {
  ASSERT_EQ(perform({{pod("a-0-1")}})->ended, Ended::kWell);
  const ObjectKey key{"default", "a-0-1"};
  const std::string pod_uid = cache.cluster().pod(key)->uid;
  EXPECT_EQ(perform({{decide::DeletePod{key, pod_uid, {}, ""}}})->ended, Ended::kWell);
  EXPECT_TRUE(cache.cluster().pod(key)->deletion_time);
  api.erase(test::kPodsPath, key);
  EXPECT_EQ(perform({{decide::DeletePod{key, pod_uid, 0, ""}}})->ended, Ended::kWell);
  EXPECT_EQ(cache.cluster().pod(key), nullptr);
}

TEST_F(PerformerTest, SendsNothingOnceTheLeaseIsOver) {
  may_write = false;
  EXPECT_EQ(perform({{pod("a-0-1")}})->ended, Ended::kFailed);
  EXPECT_EQ(api.num_requests, 0);
}

TEST_F(PerformerTest, BeginsNothingAfterStopYetAssumesWhatWasUnderWay) {
  bool ended = false;
  performer.perform(kJob, {.phases = {{pod("a-0-1")}, {pod("a-1-1")}}}, [&](PlanEnded) { ended = true; });
  time.run_until([this] { return performer.num_requests() == 1; }, seconds(1));
  performer.stop();
  time.run_for(seconds(5));
  EXPECT_FALSE(ended);
  EXPECT_EQ(api.size(test::kPodsPath), 1u);
  EXPECT_NE(cache.cluster().pod({"default", "a-0-1"}), nullptr);
}

}  // namespace
}  // namespace trainyard::reconcile
