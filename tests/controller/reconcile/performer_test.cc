#include "controller/reconcile/performer.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "controller/cache/decode.h"
#include "tests/controller/reconcile/performer_fixture.h"
#include "tests/support/builders.h"

namespace trainyard::reconcile {
namespace {

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
    EXPECT_EQ(events, pods == Performer::kMany ? 0 : 4);
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

TEST_F(PerformerTest, OfAThousandPodsSendsABoundedNumberAndTheRestAsAnswersCome) {
  constexpr int kPods = 1'000;
  std::size_t most = 0;
  api.fault_of = [&](const kube::Request&) {
    most = std::max(most, performer.num_sent());
    return Fault::kNone;
  };
  for (int i = 0; i < kPods; ++i) {
    performer.perform(kJob, {.phases = {{pod("a-" + std::to_string(i) + "-1")}}}, [](PlanEnded) {});
  }
  time.run_for(seconds(40));
  EXPECT_EQ(api.size(test::kPodsPath), std::size_t{kPods});
  EXPECT_EQ(most, Performer::kAtOnce);
}

TEST_F(PerformerTest, APodIsNotHeldUpByAThousandStatuses) {
  for (int i = 0; i < 1'000; ++i) performer.perform(kJob, {.phases = {{status(1)}}}, [](PlanEnded) {});
  performer.perform(kJob, {.phases = {{pod("a-0-1")}}}, [](PlanEnded) {});
  time.run_for(std::chrono::microseconds(1));
  EXPECT_EQ(performer.num_sent(), Performer::kAlikeAtOnce + 1);
}

TEST_F(PerformerTest, OfAThousandStatusesSendsFewAtATimeAndTheRestAsAnswersCome) {
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
  EXPECT_EQ(most, Performer::kAlikeAtOnce);
  EXPECT_EQ(performer.num_requests(), 0u);
}

TEST_F(PerformerTest, OfAThousandDryRunsSendsFewAtATimeBesideAsManyStatusesAndAllAreAnswered) {
  constexpr int kPlans = 1'000;
  std::size_t most = 0;
  int ended = 0, asked = 0;
  api.fault_of = [&](const kube::Request& request) {
    most = std::max(most, performer.num_sent());
    asked += request.query.contains("dryRun");
    return Fault::kNone;
  };
  const std::string owner = uid();
  const auto hash = [](int i) { return "hash " + std::to_string(i); };
  const Json body = pod("a-0-1").body;
  for (int i = 0; i < kPlans; ++i) {  // of as many templates, so that none takes another's answer
    performer.perform(kJob, {.phases = {{decide::DryRunPod{kJob, owner, hash(i), body}}}},
                      [&](PlanEnded how) { ended += how.ended == Ended::kWell; });
  }
  time.run_for(std::chrono::microseconds(1));
  EXPECT_EQ(performer.num_sent(), Performer::kAlikeAtOnce);
  EXPECT_EQ(performer.num_requests(), std::size_t{kPlans}) << "the others wait";
  for (int i = 0; i < kPlans; ++i) performer.perform(kJob, {.phases = {{status(1)}}}, [](PlanEnded) {});
  time.run_for(std::chrono::microseconds(1));
  EXPECT_EQ(performer.num_sent(), 2 * Performer::kAlikeAtOnce) << "neither holds up the other";
  time.run_for(seconds(60));
  EXPECT_EQ(most, 2 * Performer::kAlikeAtOnce);
  EXPECT_EQ(performer.num_requests(), 0u);
  EXPECT_EQ(asked, kPlans);
  EXPECT_EQ(ended, kPlans);
  for (int i = 0; i < kPlans; ++i) {
    const auto* check = cache.cluster().template_check(owner, hash(i));
    ASSERT_NE(check, nullptr) << i;
    EXPECT_TRUE(check->accepted) << i;
  }
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
  CountingExecutor counting(time, {.low = std::chrono::milliseconds(200), .high = std::chrono::milliseconds(200)});
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
  time.run_for(seconds(5));
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
  EXPECT_EQ(performer.num_requests(), Performer::kAlikeAtOnce) << "these are on their way";
  time.run_for(seconds(5));
  EXPECT_EQ(sent, Performer::kAlikeAtOnce);
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
