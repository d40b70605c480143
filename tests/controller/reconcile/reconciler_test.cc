#include "controller/reconcile/reconciler.h"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include <gtest/gtest.h>

#include "controller/cache/decode.h"
#include "tests/support/builders.h"
#include "tests/support/fake_agents.h"
#include "tests/support/fake_kube_api.h"
#include "tests/support/virtual_time.h"

namespace trainyard::reconcile {
namespace {

using contract::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;

struct Latencies : Observer {
  void reconciled(const Key& key, milliseconds took) override {
    auto& longest = of[to_text(key)];
    longest = std::max(longest, took);
  }
  std::map<std::string, milliseconds> of;  // the longest
};

/// Who is polled.
struct Polled : test::FakeAgents {
  using FakeAgents::FakeAgents;
  void change_targets(std::map<std::string, std::optional<agents::Target>> by_pod_uid) override {
    for (const auto& [uid, target] : by_pod_uid) {
      if (target) {
        pods.insert(uid);
      } else {
        pods.erase(uid);
      }
    }
    FakeAgents::change_targets(std::move(by_pod_uid));
  }
  std::set<std::string> pods;
};

// What leading means; the jobs' lives are told in tests/simulate.
struct ReconcilerTest : testing::Test {
  test::VirtualTime time;
  test::FakeKubeApi api{time};
  test::FakeWorkers workers{time};
  test::VirtualExecutor executor{time};
  Polled agents{time, workers, [](const agents::Observation&) {}};
  Latencies observer;
  Reconciler reconciler{executor, api, agents, options(), observer};
  std::vector<std::string> writes;

  static ReconcilerOptions options() {
    ReconcilerOptions options{.writer = {"the key", "me"}, .page_limit = 2};
    options.settings.default_image = "image";
    return options;
  }
  void SetUp() override {
    for (const char* name : {"n0", "n1", "n2"}) {
      api.create(test::kNodes,
                 {{"metadata", {{"name", name}}},
                  {"status",
                   {{"allocatable", {{"cpu", "8"}, {"pods", "110"}}},
                    {"conditions", {{{"type", "Ready"}, {"status", "True"}, {"lastTransitionTime", "2025-12-31T00:00:00Z"}}}}}}});
    }
    api.create(test::kJobs,
               {{"metadata", {{"name", "a"}, {"namespace", "default"}}}, {"spec", contract::encode(test::make_job("a").spec)}});
    api.written = [this](const kube::Request& request) { writes.push_back(request.path); };
  }
  void watch_everything() {
    for (std::size_t target = 0; target < cache::kNumWatched; ++target) {
      kube::WatchBatch batch{
          .target = target, .relisted = true, .events = {}, .resource_version = std::to_string(api.revision())};
      for (const auto& object : api.list(cache::watch_targets()[target].path)) {
        batch.events.push_back({kube::EventType::kAdded, *object});
      }
      reconciler.apply(batch);
    }
  }
};

TEST_F(ReconcilerTest, WhoDoesNotLeadWritesNothing) {
  watch_everything();
  time.run_for(seconds(30));
  EXPECT_EQ(api.num_requests, 0);
  EXPECT_EQ(reconciler.cluster().nodes().size(), 3u);
}

TEST_F(ReconcilerTest, WhoBeginsToLeadReadsEverythingBeforeItsFirstWrite) {
  int reads_before = -1;
  api.fault_of = [&, reads = 0](const kube::Request& request) mutable {
    reads += request.method == kube::Method::kGet;
    if (request.method != kube::Method::kGet && reads_before < 0) reads_before = reads;
    return test::Fault::kNone;
  };
  reconciler.start_leading();  // no watch has brought anything yet
  time.run_for(seconds(5));
  // jobs, pods, nodes in two pages, claims, volumes and priority classes, queues, namespaces, and whether the server has PodGroups
  EXPECT_EQ(reads_before, 1 + 1 + 2 + 1 + 1 + 1 + 1 + 1 + 1);
  EXPECT_TRUE(reconciler.is_acting());
  EXPECT_EQ(api.size(test::kPodsPath), 2u);
}

TEST_F(ReconcilerTest, TellsHowLongItTookFromACauseUntilWhatWasDecidedIsDone) {
  reconciler.start_leading();
  time.run_for(seconds(5));
  EXPECT_GE(observer.of["TrainingJob default/a"], milliseconds(1)) << "its writes take as long";
  EXPECT_LT(observer.of["TrainingJob default/a"], seconds(1));
  EXPECT_TRUE(observer.of.contains("room"));
  EXPECT_TRUE(observer.of.contains("queues"));
}

TEST_F(ReconcilerTest, AsksOnceATermWhetherTheServerHasPodGroupsAndThenNoMore) {
  int asked = 0;
  api.fault_of = [&](const kube::Request& request) {
    asked += request.path.starts_with("/apis/scheduling.k8s.io/v1beta1");
    return test::Fault::kNone;
  };
  reconciler.start_leading();
  time.run_for(seconds(600));
  EXPECT_EQ(asked, 1);
  EXPECT_FALSE(reconciler.cluster().settings.pod_groups);
  EXPECT_EQ(api.size(test::kPodsPath), 2u);
}

TEST_F(ReconcilerTest, WritesThemBeforeThePodsWhereItHas) {
  api.has_pod_groups = true;
  reconciler.start_leading();
  time.run_for(seconds(5));
  ASSERT_EQ(api.size(test::kWorkloads), 1u);
  ASSERT_EQ(api.size(test::kPodGroups), 1u);
  const std::string group = (*api.list(test::kPodGroups)[0])["metadata"]["name"];
  for (const auto& pod : api.list(test::kPodsPath)) {
    EXPECT_EQ(pod->value("/spec/schedulingGroup/podGroupName"_json_pointer, ""), group);
  }
  const auto first = [this](const std::string& part) {
    return std::find_if(writes.begin(), writes.end(), [&](const auto& path) { return path.find(part) != std::string::npos; });
  };
  EXPECT_LT(first("/podgroups"), first("/pods"));
}

struct ManyPages : ReconcilerTest {
  void SetUp() override {
    ReconcilerTest::SetUp();
    const auto spec = contract::encode(test::make_job("a").spec);
    for (const char* name : {"b", "c", "d", "e"}) {
      api.create(test::kJobs, {{"metadata", {{"name", name}, {"namespace", "default"}}}, {"spec", spec}});
    }
  }
};

TEST_F(ManyPages, OfANewLeadersListAreAllTakenBeforeItsFirstWrite) {
  watch_everything();
  api.erase(test::kJobs, {"default", "a"});  // what the watch has not told yet
  std::size_t known = 0;
  api.written = [&, first = true](const kube::Request&) mutable {
    if (std::exchange(first, false)) known = reconciler.cluster().jobs().size();
  };
  reconciler.start_leading();
  time.run_for(seconds(5));
  EXPECT_EQ(known, 4u);
  EXPECT_EQ(reconciler.cluster().job({"default", "a"}), nullptr);
}

TEST_F(ManyPages, OfJobsThatRestAreAllLookedAtByANewLeader) {
  for (const char* name : {"b", "d"}) api.edit(test::kJobs, {"default", name}, [](Json& job) { job["spec"]["suspend"] = true; });
  watch_everything();
  time.run_for(seconds(5));
  EXPECT_EQ(reconciler.cluster().packed_jobs().size(), 2u);
  reconciler.start_leading();
  time.run_for(seconds(5));
  for (const char* name : {"b", "d"}) {
    const auto* job = reconciler.cluster().job({"default", name});
    ASSERT_NE(job, nullptr);
    EXPECT_EQ(job->status.phase, contract::Phase::kSuspended) << name;
  }
}

TEST_F(ManyPages, OfANamespaceWhosePodsCannotBeReadAreLeftAlone) {
  ReconcilerOptions one = options();
  one.settings.namespaces = {"default"};
  one.settings.sees_cluster = false;
  Reconciler of_one(executor, api, agents, std::move(one), observer);
  api.fault_of = [](const kube::Request& request) {
    return request.path == "/api/v1/namespaces/default/pods" ? test::Fault::kForbidden : test::Fault::kNone;
  };
  of_one.start_leading();
  time.run_for(seconds(5));
  EXPECT_TRUE(of_one.is_acting());
  EXPECT_TRUE(of_one.cluster().jobs().empty()) << "their pods would look as if they had been lost";
  EXPECT_TRUE(writes.empty());
  executor.stop();
}

TEST_F(ReconcilerTest, WhoCannotReadEverythingTriesAgainAndWritesNothingMeanwhile) {
  api.outage(seconds(20));
  reconciler.start_leading();
  time.run_for(seconds(19));
  EXPECT_FALSE(reconciler.is_acting());
  time.run_for(seconds(12));
  EXPECT_TRUE(reconciler.is_acting());
}

TEST_F(ReconcilerTest, WhoStopsLeadingBeginsNothingMore) {
  reconciler.start_leading();
  time.run_until([this] { return writes.size() == 1; }, seconds(5));
  reconciler.stop_leading();
  time.run_for(seconds(30));
  EXPECT_LE(writes.size(), 2u);  // one more may have been under way
  reconciler.start_leading();
  time.run_for(seconds(5));
  EXPECT_EQ(api.size(test::kPodsPath), 2u);
}

TEST_F(ReconcilerTest, WhoMeetsThemAgainAndAgainReadsLessAndLessOften) {
  reconciler.start_leading();
  time.run_for(seconds(5));
  int lists = 0;
  api.fault_of = [&](const kube::Request& request) {
    lists += request.method == kube::Method::kGet && request.path == test::kJobs;
    return test::Fault::kNone;
  };
  for (int generation = 7; generation < 1'000; ++generation) {  // another controller that leads, and writes twice a second
    api.edit(test::kJobs, {"default", "a"}, [&](Json& job) { job["status"]["generation"] = generation; });
    watch_everything();
    time.run_for(std::chrono::milliseconds(500));
  }
  EXPECT_GE(lists, 7);
  EXPECT_LE(lists, 15) << "after 0, 1, 2, 4, 8, 16, 32 s, then once a minute";
  time.run_for(seconds(150));
  ASSERT_TRUE(reconciler.is_acting());
  lists = 0;
  api.edit(test::kJobs, {"default", "a"}, [](Json& job) { job["status"]["generation"] = 1'000; });
  watch_everything();
  time.run_for(seconds(1));
  EXPECT_EQ(lists, 1) << "after some quiet the first is read at once again";
}

TEST_F(ReconcilerTest, WhoMeetsAStatusThatSomebodyElseWroteReadsEverythingAnew) {
  reconciler.start_leading();
  time.run_for(seconds(5));
  int reads = 0;
  api.fault_of = [&](const kube::Request& request) {
    reads += request.method == kube::Method::kGet;
    return test::Fault::kNone;
  };
  api.edit(test::kJobs, {"default", "a"}, [](Json& job) { job["status"]["generation"] = 7; });
  watch_everything();
  EXPECT_FALSE(reconciler.is_acting());
  time.run_for(seconds(5));
  EXPECT_TRUE(reconciler.is_acting());
  EXPECT_GE(reads, 4);
}

TEST_F(ReconcilerTest, NobodyIsPolledOfAJobThatWasDeletedWhileEverythingWasReadAnew) {
  reconciler.start_leading();
  time.run_for(seconds(5));
  for (const auto& pod : api.list(test::kPodsPath)) {
    api.edit(test::kPodsPath, cache::key_of(*pod), [](Json& object) { object["status"]["podIP"] = "10.0.0.1"; });
  }
  watch_everything();
  time.run_for(seconds(5));
  ASSERT_EQ(agents.pods.size(), 2u);
  api.edit(test::kJobs, {"default", "a"}, [](Json& job) { job["status"]["generation"] = 7; });
  watch_everything();
  ASSERT_FALSE(reconciler.is_acting());
  api.erase(test::kJobs, {"default", "a"});
  time.run_for(seconds(5));
  ASSERT_TRUE(reconciler.is_acting());
  EXPECT_TRUE(agents.pods.empty());
}

/// One that can't decide on what there is of the job "broken".
struct ABugInADecision : ReconcilerTest {
  int tried = 0;
  bool is_in_the_line = false;
  Reconciler brittle{executor, api, agents, brittle_options(), observer};

  ReconcilerOptions brittle_options() {
    ReconcilerOptions out = options();
    out.decisions.plan_job = [this](const decide::Cluster& cluster, const decide::ObjectKey& key, contract::Time now) {
      if (key.name == "broken" && ++tried > 0) throw std::out_of_range("no such worker");
      return decide::plan_job(cluster, key, now);
    };
    out.decisions.schedule = [this](const decide::Cluster& cluster, contract::Time now) {
      if (is_in_the_line) throw std::out_of_range("no such node");
      return decide::schedule(cluster, now);
    };
    return out;
  }
  std::vector<std::string> events(const std::string& reason) {
    std::vector<std::string> out;
    for (const auto& event : api.list(test::kEvents)) {
      if ((*event)["reason"] == reason) out.push_back((*event)["message"]);
    }
    return out;
  }
  void create(const char* name) {
    api.create(test::kJobs,
               {{"metadata", {{"name", name}, {"namespace", "default"}}}, {"spec", contract::encode(test::make_job(name).spec)}});
  }
};

TEST_F(ABugInADecision, OnOneJobIsToldAndAllOthersGoOn) {
  create("broken");
  brittle.start_leading();
  time.run_for(seconds(300));
  EXPECT_EQ(api.size(test::kPodsPath), 2u) << "job a has its pods";
  ASSERT_EQ(events("InternalError").size(), 1u);
  EXPECT_NE(events("InternalError")[0].find("no such worker"), std::string::npos);
  EXPECT_GE(tried, 8);
  EXPECT_LE(tried, 20) << "it is looked at again after longer and longer times";
}

TEST_F(ABugInADecision, OnThoseThatWaitLeavesTheOthersInCare) {
  brittle.start_leading();
  time.run_for(seconds(5));
  ASSERT_EQ(api.size(test::kPodsPath), 2u);
  is_in_the_line = true;
  create("b");
  api.edit(test::kJobs, {"default", "a"}, [](Json& job) { job["spec"]["suspend"] = true; });
  for (std::size_t target = 0; target < cache::kNumWatched; ++target) {
    kube::WatchBatch batch{.target = target, .relisted = true, .events = {}, .resource_version = std::to_string(api.revision())};
    for (const auto& object : api.list(cache::watch_targets()[target].path))
      batch.events.push_back({kube::EventType::kAdded, object});
    brittle.apply(batch);
  }
  time.run_for(seconds(60));
  for (const auto& pod : api.list(test::kPodsPath)) EXPECT_TRUE((*pod)["metadata"].contains("deletionTimestamp"));
  EXPECT_EQ(api.size(test::kPodsPath), 2u);
  is_in_the_line = false;
  time.run_for(seconds(120));
  EXPECT_EQ(api.size(test::kPodsPath), 4u) << "job b is placed once it can be decided on";
}

/// A server that is a second away, and a controller that has placed job "a".
struct SlowServer : ReconcilerTest {
  test::VirtualExecutor slow{time, {.low = seconds(1), .high = seconds(1)}};
  test::FakeAgents none{time, workers, [](const agents::Observation&) {}};
  Reconciler patient{slow, api, none, options(), observer};

  void SetUp() override {
    ReconcilerTest::SetUp();
    patient.start_leading();
    time.run_for(seconds(60));
    ASSERT_EQ(api.size(test::kPodsPath), 2u);
  }
  void add(const std::string& name, int gpus) {
    const auto spec = contract::encode(test::make_job(name, 1, gpus).spec);
    api.create(test::kJobs, {{"metadata", {{"name", name}, {"namespace", "default"}}}, {"spec", spec}});
    kube::WatchBatch batch{.target = static_cast<std::size_t>(cache::Watched::kJobs), .relisted = false, .events = {}};
    batch.events.push_back({kube::EventType::kAdded, *api.get(test::kJobs, {"default", name})});
    batch.resource_version = std::to_string(api.revision());
    patient.apply(batch);
  }
  bool has_written(const std::string& part) {
    return std::any_of(writes.begin(), writes.end(), [&](const auto& path) { return path.find(part) != std::string::npos; });
  }
};

TEST_F(SlowServer, WhoIsToldWhyItWaitsKeepsNobodyFromItsPlace) {
  add("too-large", 8);
  time.run_for(std::chrono::milliseconds(500));
  add("small", 0);
  // Both are asked about for 2 s; then the one is told, which takes 2 s, and meanwhile the other finds its place.
  time.run_for(std::chrono::milliseconds(3'200));
  EXPECT_TRUE(has_written("/too-large/status"));
  EXPECT_TRUE(has_written("/small/status"));
}

TEST_F(SlowServer, ManyThatWaitAreToldAFewAtATime) {
  add("large", 8);
  time.run_for(seconds(10));
  for (int i = 0; i < 10; ++i) add("large-" + std::to_string(i), 8);  // they are like it, so that nobody is asked about them
  const auto told = [this] {
    return std::count_if(writes.begin(), writes.end(),
                         [](const auto& path) { return path.find("/large-") != std::string::npos; });
  };
  time.run_for(std::chrono::milliseconds(1'500));
  EXPECT_EQ(told(), 2);
  time.run_for(std::chrono::milliseconds(1'600));  // no look later: as soon as others are told
  EXPECT_GE(told(), 4);
  time.run_for(seconds(10));
  EXPECT_GE(told(), 10);
}

TEST_F(SlowServer, WhileAGangGetsItsPodsThoseThatWaitAreToldOneAtATime) {
  add("large", 8);
  time.run_for(seconds(10));
  add("first", 0);
  time.run_for(std::chrono::milliseconds(2'500));  // its status is written until 4 s, its pod until 6
  for (int i = 0; i < 5; ++i) add("large-" + std::to_string(i), 8);
  const auto told = [this] {
    return std::count_if(writes.begin(), writes.end(),
                         [](const auto& path) { return path.find("/large-") != std::string::npos; });
  };
  time.run_for(std::chrono::milliseconds(3'000));
  EXPECT_EQ(told(), 1);
  time.run_for(seconds(12));
  EXPECT_GE(told(), 5);
}

TEST_F(SlowServer, WhosePodsAreOnTheirWayKeepsNobodyFromItsPlace) {
  add("first", 0);
  time.run_for(std::chrono::milliseconds(2'500));
  add("second", 0);  // is like the first, whose dry run was answered
  // The first has its status after 4 s and its pod after 6. The second waits for the one, not for the other.
  time.run_for(std::chrono::milliseconds(2'700));
  EXPECT_TRUE(has_written("/second/status"));
}

}  // namespace
}  // namespace trainyard::reconcile
