#pragma once
// What tests of the performer begin with.

#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "controller/reconcile/performer.h"
#include "tests/controller/cache/objects.h"
#include "tests/support/fake_kube_api.h"
#include "tests/support/virtual_time.h"

namespace trainyard::reconcile {

using contract::Json;
using decide::ObjectKey;
using std::chrono::seconds;
using test::Fault;

inline const ObjectKey kJob{"default", "a"};

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

}  // namespace trainyard::reconcile
