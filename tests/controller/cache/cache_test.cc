#include "controller/cache/cache.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/controller/cache/objects.h"
#include "tests/support/builders.h"

namespace trainyard::cache {
namespace {

using decide::ObjectKey;
using kube::EventType;
using test::at;

constexpr auto kJobs = static_cast<std::size_t>(Watched::kJobs);
constexpr auto kPods = static_cast<std::size_t>(Watched::kPods);
constexpr auto kNodes = static_cast<std::size_t>(Watched::kNodes);
constexpr auto kClaims = static_cast<std::size_t>(Watched::kClaims);
constexpr auto kVolumes = static_cast<std::size_t>(Watched::kVolumes);
constexpr auto kPriorityClasses = static_cast<std::size_t>(Watched::kPriorityClasses);
constexpr auto kQueues = static_cast<std::size_t>(Watched::kQueues);
constexpr auto kNamespaces = static_cast<std::size_t>(Watched::kNamespaces);
const ObjectKey kJob{"default", "a"};
const ObjectKey kPod{"default", "a-0-1"};

struct CacheTest : testing::Test {
  Cache cache{decide::Settings{}};

  void SetUp() override {
    cache.apply(listed(kJobs, 100, {job_object("a", 50)}), at(0));
    cache.apply(listed(kPods, 100, {}), at(0));
    cache.apply(listed(kNodes, 100, {node_object("n1", 40)}), at(0));
    cache.take_changes();
  }
  void hear(std::size_t target, EventType type, Json object, double seconds = 1) {
    cache.apply(event(target, type, std::move(object)), at(seconds));
  }
};

TEST_F(CacheTest, IsSyncedWhenEachCollectionWasListedOnce) {
  Cache fresh{decide::Settings{}};
  fresh.apply(listed(kJobs, 1, {}), at(0));
  fresh.apply(listed(kPods, 1, {}), at(0));
  EXPECT_FALSE(fresh.synced());
  fresh.apply(listed(kNodes, 1, {}), at(0));
  fresh.apply(listed(kClaims, 1, {}), at(0));
  EXPECT_FALSE(fresh.synced());
  fresh.apply(listed(kVolumes, 1, {}), at(0));
  EXPECT_FALSE(fresh.synced());
  fresh.apply(listed(kPriorityClasses, 1, {}), at(0));
  fresh.apply(listed(kQueues, 1, {}), at(0));
  fresh.apply(listed(kNamespaces, 1, {}), at(0));
  EXPECT_TRUE(fresh.synced());
}

TEST_F(CacheTest, AWorkerPodsChangeTouchesItsJobAndTheRoom) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  const Changes changes = cache.take_changes();
  EXPECT_EQ(changes.jobs, std::set<ObjectKey>{kJob});
  EXPECT_TRUE(changes.room);
  EXPECT_EQ(cache.cluster().used_on("n1")["nvidia.com/gpu"], 8);
}

TEST_F(CacheTest, WhatDecidingDoesNotLookAtChangesNothing) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  cache.take_changes();
  Json same = pod_object("a-0-1", 102, "p1");
  same["metadata"]["annotations"]["example.com/noise"] = "1";
  hear(kPods, EventType::kModified, same);
  hear(kNodes, EventType::kModified, node_object("n1", 103));
  const Changes changes = cache.take_changes();
  EXPECT_TRUE(changes.jobs.empty());
  EXPECT_FALSE(changes.room);
}

TEST_F(CacheTest, ANodesChangeTouchesTheJobsThatHavePodsThere) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  cache.take_changes();
  hear(kNodes, EventType::kModified, node_object("n1", 102, "Unknown"));
  EXPECT_EQ(cache.take_changes().jobs, std::set<ObjectKey>{kJob});
}

TEST_F(CacheTest, AnAssumedPodTakesUpRoomAtOnceAndSurvivesAWatchThatLags) {
  cache.assume_pod(pod_object("a-0-1", 120, "p1"));
  EXPECT_EQ(cache.cluster().used_on("n1")["nvidia.com/gpu"], 8);
  hear(kPods, EventType::kAdded, pod_object("other", 110, "p0", "n2"));
  cache.apply(listed(kPods, 115, {}), at(2));
  EXPECT_NE(cache.cluster().pod(kPod), nullptr);
}

TEST_F(CacheTest, AnExpectedPodTakesUpRoomUntilItIsThereOrGivenUp) {
  Json body = pod_object("a-0-1", 0, "");
  body["metadata"].erase("uid");
  cache.expect_pod(body, at(1));
  EXPECT_EQ(cache.cluster().used_on("n1")["nvidia.com/gpu"], 8);
  cache.apply(listed(kPods, 115, {}), at(2));
  EXPECT_EQ(cache.cluster().used_on("n1")["nvidia.com/gpu"], 8) << "it may be on its way";
  cache.take_changes();
  cache.assume_pod(pod_object("a-0-1", 120, "p1"));
  EXPECT_FALSE(cache.take_changes().room) << "it is where it was expected";
  EXPECT_EQ(cache.cluster().pod(kPod)->uid, "p1");
  cache.give_up_pod(kPod);
  cache.give_up_pods();
  EXPECT_NE(cache.cluster().pod(kPod), nullptr) << "it is there";
  cache.expect_pod(body, at(3));
  EXPECT_EQ(cache.cluster().pod(kPod)->uid, "p1");

  body["metadata"]["name"] = "a-1-1";
  cache.expect_pod(body, at(3));
  EXPECT_EQ(cache.cluster().used_on("n1")["nvidia.com/gpu"], 16);
  cache.take_changes();
  cache.give_up_pods();
  EXPECT_EQ(cache.cluster().used_on("n1")["nvidia.com/gpu"], 8);
  EXPECT_TRUE(cache.take_changes().room);
}

TEST_F(CacheTest, AListThatIsNewerThanAnAssumedPodTakesItAway) {
  cache.assume_pod(pod_object("a-0-1", 120, "p1"));
  cache.apply(listed(kPods, 130, {}), at(2));
  EXPECT_EQ(cache.cluster().pod(kPod), nullptr);
}

TEST_F(CacheTest, AnAnswerThatComesAfterTheWatchSawTheEndBringsNothingBack) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 120, "p1"));
  hear(kPods, EventType::kDeleted, pod_object("a-0-1", 125, "p1"));
  cache.assume_pod(pod_object("a-0-1", 120, "p1"));
  EXPECT_EQ(cache.cluster().pod(kPod), nullptr);
}

TEST_F(CacheTest, AnAssumedStateIsNotTakenBackByOlderEvents) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  Json dying = pod_object("a-0-1", 120, "p1");
  dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z";
  cache.assume_pod(dying);
  Json running = pod_object("a-0-1", 110, "p1");
  running["status"]["phase"] = "Running";
  hear(kPods, EventType::kModified, running);
  EXPECT_TRUE(cache.cluster().pod(kPod)->deletion_time);
}

TEST_F(CacheTest, AnAssumedEndIsNotTakenBackUntilTheNameIsTakenAgain) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  cache.assume_pod_gone(kPod, "p1");
  hear(kPods, EventType::kModified, pod_object("a-0-1", 102, "p1"));
  cache.apply(listed(kPods, 103, {pod_object("a-0-1", 102, "p1")}), at(2));
  EXPECT_EQ(cache.cluster().pod(kPod), nullptr);
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 110, "p2"));
  EXPECT_EQ(cache.cluster().pod(kPod)->uid, "p2");
  hear(kPods, EventType::kDeleted, pod_object("a-0-1", 104, "p1"));  // of the first one, late
  EXPECT_EQ(cache.cluster().pod(kPod)->uid, "p2");
}

TEST_F(CacheTest, ALeadersListGoesBeforeAWatchThatLags) {
  cache.apply_list(listed(kPods, 200, {pod_object("a-0-1", 150, "p1")}), at(1));
  hear(kPods, EventType::kAdded, pod_object("a-1-1", 120, "p2"));  // deleted again at 180, as the list knows
  EXPECT_EQ(cache.cluster().pod({"default", "a-1-1"}), nullptr);
  hear(kPods, EventType::kDeleted, pod_object("a-0-1", 210, "p1"));
  EXPECT_EQ(cache.cluster().pod(kPod), nullptr);
}

TEST_F(CacheTest, AListThatIsOlderThanTheWatchIsDropped) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 220, "p1"));
  cache.apply_list(listed(kPods, 210, {}), at(1));
  EXPECT_NE(cache.cluster().pod(kPod), nullptr);
}

TEST_F(CacheTest, AServerSetBackToABackupIsBelieved) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 220, "p1"));
  cache.apply(listed(kPods, 90, {pod_object("b-0-1", 80, "p9")}), at(1));
  EXPECT_EQ(cache.cluster().pod(kPod), nullptr);
  EXPECT_NE(cache.cluster().pod({"default", "b-0-1"}), nullptr);
  hear(kPods, EventType::kAdded, pod_object("b-1-1", 91, "p8"));
  EXPECT_NE(cache.cluster().pod({"default", "b-1-1"}), nullptr);
}

TEST_F(CacheTest, AnOwnStatusIsAssumedUntilANewerOneComes) {
  cache.assume_status(with_phase(job_object("a", 120), "Running"), at(3));
  hear(kJobs, EventType::kModified, with_phase(job_object("a", 110), "Pending"));
  EXPECT_EQ(cache.cluster().job(kJob)->status.phase, contract::Phase::kRunning);
  EXPECT_EQ(cache.cluster().job(kJob)->resource_version, "120");
  EXPECT_EQ(cache.cluster().job(kJob)->status_written, at(3));
  hear(kJobs, EventType::kModified, with_phase(job_object("a", 130), "Running"));
  EXPECT_EQ(cache.cluster().job(kJob)->resource_version, "130");
  EXPECT_EQ(cache.cluster().job(kJob)->status_written, at(3));
  EXPECT_FALSE(cache.take_changes().foreign_status);
}

TEST_F(CacheTest, AnOwnStatusThatTheWatchTellsFirstWasWrittenJustNowAllTheSame) {
  const Json written = with_phase(job_object("a", 120), "Running");
  hear(kJobs, EventType::kModified, written);
  cache.assume_status(written, at(3));
  EXPECT_EQ(cache.cluster().job(kJob)->status_written, at(3));
}

TEST_F(CacheTest, AStatusThatSomebodyElseWroteIsForeign) {
  hear(kJobs, EventType::kModified, with_phase(job_object("a", 120), "Running"));
  EXPECT_TRUE(cache.take_changes().foreign_status);
}

TEST_F(CacheTest, AnOwnStatusThatTheWatchShowsBeforeTheAnswerIsNotForeign) {
  contract::TrainingJobStatus status;
  status.phase = contract::Phase::kRunning;
  cache.expect_status(kJob, status);
  hear(kJobs, EventType::kModified, with_phase(job_object("a", 120), "Running"));
  EXPECT_FALSE(cache.take_changes().foreign_status);
}

TEST_F(CacheTest, AnOwnStatusIsExpectedNoMoreOnceItsJobIsGone) {
  contract::TrainingJobStatus status;
  status.phase = contract::Phase::kRunning;
  cache.expect_status(kJob, status);  // its answer is lost
  cache.assume_job_gone(kJob, "job-uid");
  hear(kJobs, EventType::kAdded, job_object("a", 120, "another-uid"));
  cache.take_changes();
  hear(kJobs, EventType::kModified, with_phase(job_object("a", 130, "another-uid"), "Running"));
  EXPECT_TRUE(cache.take_changes().foreign_status) << "it was meant for another job";
}

TEST_F(CacheTest, AJobOfTheSameNameIsAnotherJob) {
  cache.put_template_check(kJob, "job-uid", "hash", {.accepted = true});
  hear(kJobs, EventType::kAdded, job_object("a", 120, "another-uid"));
  EXPECT_EQ(cache.cluster().job(kJob)->uid, "another-uid");
  EXPECT_EQ(cache.cluster().template_check("job-uid", "hash"), nullptr);
  EXPECT_FALSE(cache.take_changes().foreign_status);
}

TEST_F(CacheTest, AnAgentsSilenceIsCountedFromTheFirstTryThatFailed) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  cache.apply({.pod_uid = "p1", .state = std::nullopt, .error = "refused"}, at(5));
  cache.apply({.pod_uid = "p1", .state = std::nullopt, .error = "timed out"}, at(9));
  EXPECT_EQ(cache.cluster().agent("p1")->since, at(5));
  EXPECT_EQ(cache.cluster().agent("p1")->error, "timed out");
  cache.apply({.pod_uid = "p1", .state = contract::State{.version = 1}, .error = ""}, at(12));
  EXPECT_TRUE(cache.cluster().agent("p1")->reachable);
  EXPECT_EQ(cache.cluster().agent("p1")->since, at(12));
  EXPECT_EQ(cache.take_changes().jobs, std::set<ObjectKey>{kJob});
}

TEST_F(CacheTest, AnAgentsLastAnswerIsKeptWhileItIsSilentButNotIntoAnotherTerm) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  cache.apply({.pod_uid = "p1", .state = contract::State{.version = 7}, .error = ""}, at(5));
  cache.apply({.pod_uid = "p1", .state = std::nullopt, .error = "refused"}, at(9));
  EXPECT_EQ(cache.cluster().agent("p1")->state->version, 7);
  cache.forget_agents();
  EXPECT_EQ(cache.cluster().agent("p1"), nullptr);
}

TEST_F(CacheTest, AgentsOfPodsThatNobodyKnowsAreIgnored) {
  cache.apply({.pod_uid = "nobody", .state = contract::State{}, .error = ""}, at(5));
  EXPECT_EQ(cache.cluster().agent("nobody"), nullptr);
  EXPECT_TRUE(cache.take_changes().jobs.empty());
}

TEST_F(CacheTest, APodWhoseLabelsWereTakenAwayIsNoWorkerAnyMore) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  Json bare = pod_object("a-0-1", 102, "p1");
  bare["metadata"].erase("labels");
  hear(kPods, EventType::kModified, bare);
  cache.apply({.pod_uid = "p1", .state = contract::State{}, .error = ""}, at(5));
  EXPECT_FALSE(cache.cluster().pod(kPod)->worker);
}

kube::WatchBatch after_outage(kube::WatchBatch batch) {
  batch.server_was_away = true;
  return batch;
}

TEST_F(CacheTest, AListForItselfIsNoOutage) {
  hear(kNodes, EventType::kModified, node_object("n1", 110), 10);
  cache.apply(listed(kNodes, 200, {node_object("n1", 150, "Unknown", "2026-01-01T00:01:00Z")}), at(70));
  EXPECT_EQ(cache.cluster().node("n1")->ready_since, at(60));
}

TEST_F(CacheTest, ANodeThatStoppedBeingReadyDuringAnOutageGetsTimeToReport) {
  hear(kNodes, EventType::kModified, node_object("n1", 110), 10);
  cache.apply(after_outage(listed(kNodes, 200, {node_object("n1", 150, "Unknown", "2026-01-01T00:01:00Z")})), at(70));
  EXPECT_EQ(cache.cluster().node("n1")->ready_since, at(70) + Cache::kOutageGrace);
  hear(kNodes, EventType::kModified, node_object("n1", 210, "True", "2026-01-01T00:01:15Z"), 75);
  EXPECT_EQ(cache.cluster().node("n1")->ready_since, at(75));
}

TEST_F(CacheTest, ANodeThatWasNotReadyBeforeTheOutageGetsNoMoreTime) {
  hear(kNodes, EventType::kModified, node_object("n1", 110, "Unknown", "2026-01-01T00:00:05Z"), 10);
  cache.apply(after_outage(listed(kNodes, 200, {node_object("n1", 110, "Unknown", "2026-01-01T00:00:05Z")})), at(70));
  EXPECT_EQ(cache.cluster().node("n1")->ready_since, at(5));
}

TEST_F(CacheTest, ANodeThatWasMadeAnewSurvivesTheLateNewsOfTheFirstOnesEnd) {
  cache.apply_list(listed(kNodes, 200, {node_object("n1", 190)}), at(1));
  hear(kNodes, EventType::kDeleted, node_object("n1", 180));
  EXPECT_NE(cache.cluster().node("n1"), nullptr);
}

TEST_F(CacheTest, AnAnswerThatCameAfterTheNewsOfTheJobsEndBringsNoJobBack) {
  const Json answer = job_object("a", 110);
  hear(kJobs, EventType::kDeleted, job_object("a", 111));
  cache.assume_status(answer, at(2));
  EXPECT_EQ(cache.cluster().job(kJob), nullptr);
  cache.assume_job(answer);
  EXPECT_EQ(cache.cluster().job(kJob), nullptr);
}

TEST_F(CacheTest, AnAgentThatAnswersAgainIsRoomForAGangThatWaits) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  cache.apply({.pod_uid = "p1", .state = contract::State{}, .error = ""}, at(5));
  cache.take_changes();
  cache.apply({.pod_uid = "p1", .state = std::nullopt, .error = "connect: timed out"}, at(6));
  EXPECT_TRUE(cache.take_changes().room);
  cache.apply({.pod_uid = "p1", .state = contract::State{}, .error = ""}, at(7));
  EXPECT_TRUE(cache.take_changes().room);
  cache.apply({.pod_uid = "p1", .state = contract::State{.version = 9}, .error = ""}, at(8));
  EXPECT_FALSE(cache.take_changes().room);
}

TEST_F(CacheTest, AClaimThatIsBoundOrGoneIsRoom) {
  hear(kClaims, EventType::kAdded, claim_object("corpus", 101, "Pending"));
  EXPECT_TRUE(cache.take_changes().room);
  EXPECT_EQ(cache.cluster().claim({"default", "corpus"})->volume, "");
  hear(kClaims, EventType::kModified, claim_object("corpus", 102, "Pending"));
  EXPECT_FALSE(cache.take_changes().room);
  hear(kClaims, EventType::kModified, claim_object("corpus", 103, "Bound"));
  EXPECT_TRUE(cache.take_changes().room);
  EXPECT_EQ(cache.cluster().claim({"default", "corpus"})->volume, "volume-of-corpus");
  cache.apply(listed(kClaims, 200, {}), at(2));
  EXPECT_TRUE(cache.take_changes().room);
  EXPECT_EQ(cache.cluster().claim({"default", "corpus"}), nullptr);
}

TEST_F(CacheTest, AVolumeThatIsThereOrGoneIsRoom) {
  Json volume = volume_object("v", 101);
  hear(kVolumes, EventType::kAdded, volume);
  EXPECT_TRUE(cache.take_changes().room);
  ASSERT_NE(cache.cluster().volume("v"), nullptr);
  volume["metadata"]["resourceVersion"] = "102";
  volume["status"]["phase"] = "Bound";
  hear(kVolumes, EventType::kModified, volume);
  EXPECT_FALSE(cache.take_changes().room);
  cache.apply(listed(kVolumes, 200, {}), at(2));
  EXPECT_TRUE(cache.take_changes().room);
  EXPECT_EQ(cache.cluster().volume("v"), nullptr);
}

TEST_F(CacheTest, AQueueWhoseSpecChangedTouchesEveryJobAndOneWhoseStatusWasWrittenNone) {
  hear(kJobs, EventType::kAdded, job_object("a", 110));
  cache.take_changes();
  hear(kQueues, EventType::kAdded, queue_object("research", 120));
  EXPECT_EQ(cache.take_changes().jobs.size(), 1u);
  Json written = queue_object("research", 121);
  written["status"] = {{"running", 3}};
  cache.assume_queue_status(written, at(7));
  hear(kQueues, EventType::kModified, written);
  const auto changes = cache.take_changes();
  EXPECT_TRUE(changes.jobs.empty());
  EXPECT_FALSE(changes.room);
  EXPECT_EQ(cache.cluster().queue("research")->status.running, 3);
  EXPECT_EQ(cache.cluster().queue("research")->status_written, at(7));
  Json edited = written;
  edited["metadata"]["resourceVersion"] = "122";
  edited["spec"]["weight"] = 9;
  hear(kQueues, EventType::kModified, edited);
  EXPECT_TRUE(cache.take_changes().room);
  EXPECT_EQ(cache.cluster().queue("research")->status_written, at(7));
  cache.apply(listed(kQueues, 200, {}), at(8));
  EXPECT_EQ(cache.take_changes().jobs.size(), 1u);
  EXPECT_TRUE(cache.cluster().queues().empty());
}

TEST_F(CacheTest, ANamespaceWhoseLabelsChangedTouchesItsJobs) {
  hear(kJobs, EventType::kAdded, job_object("a", 110));
  cache.take_changes();
  Json object = {{"metadata", {{"name", "default"}, {"labels", {{"team", "a"}}}, {"resourceVersion", "120"}}}};
  hear(kNamespaces, EventType::kAdded, object);
  EXPECT_EQ(cache.take_changes().jobs.size(), 1u);
  object["metadata"]["resourceVersion"] = "121";
  hear(kNamespaces, EventType::kModified, object);
  EXPECT_TRUE(cache.take_changes().jobs.empty());
  object["metadata"]["name"] = "other";
  hear(kNamespaces, EventType::kAdded, object);
  EXPECT_TRUE(cache.take_changes().jobs.empty());
  EXPECT_EQ(cache.cluster().name_space("default")->labels.at("team"), "a");
}

TEST_F(CacheTest, APriorityClassThatIsThereChangedOrGoneTouchesEveryJobAndTheRoom) {
  Json high{{"metadata", {{"name", "high"}, {"uid", "u-high"}, {"resourceVersion", "101"}}},
            {"value", 1000},
            {"globalDefault", true},
            {"preemptionPolicy", "Never"}};
  hear(kPriorityClasses, EventType::kAdded, high);
  const Changes added = cache.take_changes();
  EXPECT_TRUE(added.room);
  EXPECT_EQ(added.jobs, std::set<ObjectKey>{kJob});
  EXPECT_EQ(cache.cluster().priority_classes().at("high"), (decide::PriorityClass{"high", 1000, true, false}));
  high["metadata"]["resourceVersion"] = "102";
  hear(kPriorityClasses, EventType::kModified, high);
  EXPECT_FALSE(cache.take_changes().room);
  high["metadata"]["resourceVersion"] = "103";
  high["globalDefault"] = false;
  high.erase("preemptionPolicy");
  hear(kPriorityClasses, EventType::kModified, high);
  EXPECT_TRUE(cache.take_changes().room);
  EXPECT_EQ(cache.cluster().priority_classes().at("high"), (decide::PriorityClass{"high", 1000, false, true}));
  cache.apply(listed(kPriorityClasses, 200, {}), at(2));
  EXPECT_TRUE(cache.take_changes().room);
  EXPECT_TRUE(cache.cluster().priority_classes().empty());
}

Json suspended_object(const std::string& name, std::int64_t revision, const std::string& uid) {
  Json job = job_object(name, revision, uid);
  job["spec"]["suspend"] = true;
  return job;
}

struct RestingJobs : CacheTest {
  const ObjectKey key{"default", "resting"};
  void SetUp() override {
    CacheTest::SetUp();
    hear(kJobs, EventType::kAdded, suspended_object("resting", 110, "resting-uid"));
    cache.take_changes();
    ASSERT_TRUE(cache.cluster().packed_jobs().contains(key));
  }
};

TEST_F(RestingJobs, ArePackedPageByPage) {
  Cache fresh{decide::Settings{}};
  auto page = listed(kJobs, 100, {job_object("a", 50), suspended_object("b", 60, "b-uid")});
  page.has_more = true;
  fresh.apply(page, at(0));
  EXPECT_EQ(fresh.cluster().packed_jobs().size(), 1u);
  EXPECT_EQ(fresh.cluster().jobs().size(), 1u);
  EXPECT_EQ(fresh.take_changes().jobs.size(), 2u) << "nothing was decided on either";
}

TEST_F(RestingJobs, AreGoneWithAListThatIsNewerAndLacksThem) {
  cache.apply_list(listed(kJobs, 105, {job_object("a", 50)}), at(2));
  EXPECT_NE(cache.cluster().job(key), nullptr) << "the list is older than the job";
  cache.take_changes();
  cache.apply(listed(kJobs, 120, {job_object("a", 50)}), at(2));
  EXPECT_EQ(cache.take_changes().jobs, std::set<ObjectKey>{key});
  EXPECT_EQ(cache.cluster().job(key), nullptr);
}

TEST_F(RestingJobs, AreTouchedByAllThatEveryJobOrTheirNamespaceIsTouchedBy) {
  hear(kPriorityClasses, EventType::kAdded,
       {{"metadata", {{"name", "high"}, {"uid", "u-high"}, {"resourceVersion", "120"}}}, {"value", 1000}});
  EXPECT_TRUE(cache.take_changes().jobs.contains(key));
  hear(kNamespaces, EventType::kAdded, {{"metadata", {{"name", "default"}, {"uid", "u"}, {"resourceVersion", "121"}}}});
  EXPECT_TRUE(cache.take_changes().jobs.contains(key));
}

TEST_F(RestingJobs, AreNewsOnlyWhereTheyChange) {
  cache.apply(listed(kJobs, 120, {job_object("a", 50), suspended_object("resting", 110, "resting-uid")}), at(2));
  EXPECT_TRUE(cache.take_changes().jobs.empty());
  EXPECT_TRUE(cache.cluster().packed_jobs().contains(key));
  Json resumed = job_object("resting", 130, "resting-uid");
  hear(kJobs, EventType::kModified, resumed);
  EXPECT_EQ(cache.take_changes().jobs, std::set<ObjectKey>{key});
  EXPECT_TRUE(cache.cluster().jobs().contains(key));
}

TEST_F(CacheTest, WhatPlacementDoesNotLookAtIsNoRoom) {
  hear(kPods, EventType::kAdded, pod_object("a-0-1", 101, "p1"));
  cache.take_changes();
  Json started = pod_object("a-0-1", 102, "p1");
  started["status"]["podIP"] = "10.0.0.7";
  started["status"]["containerStatuses"] = {{{"name", "worker"}, {"state", {{"running", Json::object()}}}}};
  hear(kPods, EventType::kModified, started);
  const Changes at_start = cache.take_changes();
  EXPECT_EQ(at_start.jobs, std::set<ObjectKey>{kJob});
  EXPECT_FALSE(at_start.room);
  Json job = job_object("a", 110);
  job["status"]["progress"] = {{"step", 7}};
  cache.assume_status(job, at(3));
  EXPECT_FALSE(cache.take_changes().room);
  job["metadata"]["resourceVersion"] = "111";
  job["status"]["conditions"] = {{{"type", "Accepted"}, {"status", "True"}, {"reason", "Accepted"}}};
  cache.assume_status(job, at(3));
  EXPECT_TRUE(cache.take_changes().room);
  started["metadata"]["resourceVersion"] = "112";
  started["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z";
  hear(kPods, EventType::kModified, started);
  EXPECT_TRUE(cache.take_changes().room);
}

TEST_F(CacheTest, AForeignPodIsRoomWhenItTakesOrGivesBackSome) {
  Json foreign = pod_object("other", 101, "p9");
  foreign["metadata"].erase("labels");
  hear(kPods, EventType::kAdded, foreign);
  EXPECT_TRUE(cache.take_changes().room);
  foreign["metadata"]["resourceVersion"] = "102";
  foreign["status"]["phase"] = "Running";
  hear(kPods, EventType::kModified, foreign);
  EXPECT_FALSE(cache.take_changes().room);
  foreign["metadata"]["resourceVersion"] = "103";
  foreign["status"]["phase"] = "Succeeded";
  hear(kPods, EventType::kModified, foreign);
  EXPECT_TRUE(cache.take_changes().room);
}

std::vector<std::string> paths(const decide::Settings& settings) {
  std::vector<std::string> out;
  for (const auto& target : watch_targets(settings)) out.push_back(target.path);
  return out;
}

TEST(WatchTargets, OfNamespacesAloneLieInThese) {
  EXPECT_EQ(paths({.namespaces = {"x", "y"}, .sees_cluster = false}),
            (std::vector<std::string>{"/apis/trainyard.dev/v1alpha1/namespaces/x/trainingjobs",
                                      "/apis/trainyard.dev/v1alpha1/namespaces/y/trainingjobs", "/api/v1/namespaces/x/pods",
                                      "/api/v1/namespaces/y/pods", "/api/v1/namespaces/x/persistentvolumeclaims",
                                      "/api/v1/namespaces/y/persistentvolumeclaims"}));
}

TEST(WatchTargets, OfNamespacesInAClusterThatMayBeReadHaveEverybodysPods) {
  const auto found = paths({.namespaces = {"x"}});
  EXPECT_EQ(found.front(), "/apis/trainyard.dev/v1alpha1/namespaces/x/trainingjobs");
  for (const char* path : {"/api/v1/pods", "/api/v1/nodes", "/apis/trainyard.dev/v1alpha1/trainingqueues"}) {
    EXPECT_NE(std::find(found.begin(), found.end(), path), found.end()) << path;
  }
  EXPECT_EQ(found.size(), kNumWatched);
}

struct TwoNamespaces : testing::Test {
  Cache cache{decide::Settings{.namespaces = {"default", "other"}, .sees_cluster = false}};
  static constexpr std::size_t kPodsOfDefault = 2, kPodsOfOther = 3;
  static Json in_other(Json object) {
    object["metadata"]["namespace"] = "other";
    return object;
  }
};

TEST_F(TwoNamespaces, AreKnownWhenEachWasListed) {
  for (std::size_t target = 0; target < 5; ++target) cache.apply(listed(target, 1, {}), at(0));
  EXPECT_FALSE(cache.synced());
  cache.apply(listed(5, 1, {}), at(0));
  EXPECT_TRUE(cache.synced());
}

TEST_F(TwoNamespaces, AListOfTheOneTakesNothingFromTheOther) {
  cache.apply(listed(kPodsOfDefault, 100, {pod_object("a-0-1", 90, "p1")}), at(0));
  cache.apply(listed(kPodsOfOther, 100, {in_other(pod_object("a-0-1", 91, "p2"))}), at(0));
  cache.apply(listed(kPodsOfDefault, 200, {}), at(1));
  EXPECT_EQ(cache.cluster().pod({"default", "a-0-1"}), nullptr);
  EXPECT_NE(cache.cluster().pod({"other", "a-0-1"}), nullptr);
}

TEST_F(TwoNamespaces, WhatTheOneHasHeardMakesNoAnswerAboutTheOtherLate) {
  cache.apply(listed(kPodsOfDefault, 100, {}), at(0));
  cache.apply(listed(kPodsOfOther, 100, {}), at(0));
  cache.apply(event(kPodsOfDefault, EventType::kAdded, pod_object("a-0-1", 300, "p1")), at(1));
  cache.assume_pod(in_other(pod_object("b-0-1", 250, "p2")));
  EXPECT_NE(cache.cluster().pod({"other", "b-0-1"}), nullptr);
  cache.assume_pod(pod_object("c-0-1", 250, "p3"));
  EXPECT_EQ(cache.cluster().pod({"default", "c-0-1"}), nullptr) << "all up to 300 is known of this one";
}

}  // namespace
}  // namespace trainyard::cache
