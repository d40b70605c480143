#pragma once
// The world that stories begin with, and the words in which they are told.

#include <string>

#include <gtest/gtest.h>

#include "controller/cache/decode.h"
#include "tests/simulate/invariants.h"
#include "tests/simulate/world.h"

namespace trainyard::simulate {

using contract::Phase;

/// Flavors of a queue.
inline Json cpus_of(int nominal) {
  return Json::array({{{"resources", Json::array({{{"name", "cpu"}, {"nominal", nominal}}})}}});
}

struct Story : testing::Test {
  World world{1};
  Invariants invariants{world};
  int pods_made = 0;

  void SetUp() override {
    world.add_nodes(3, 8, 0);
    world.start_controller(0);
    world.api.on_change(test::kPodsPath, [this](const auto& change) { pods_made += change.type == kube::EventType::kAdded; });
  }
  void TearDown() override { EXPECT_EQ(invariants.violations(), std::vector<std::string>{}); }
  void expect_phase(const std::string& job, Phase phase, seconds limit = seconds(120)) {
    EXPECT_TRUE(world.run_until_phase(job, phase, limit)) << "no " << contract::name_of(phase) << "; " << describe(world, job);
  }
  /// Applies a job of two workers and waits until it trains.
  void begin(const JobShape& shape = {.name = "a"}) {
    world.apply(shape);
    expect_phase(shape.name, Phase::kRunning);
    world.time.run_for(seconds(4));
  }
  std::string node_of(const std::string& job) {
    for (const auto& object : world.api.list(test::kPodsPath)) {
      const auto pod = cache::decode_pod(*object);
      if (pod->worker && pod->worker->job == job && !pod->is_finished()) return pod->node;
    }
    return "";
  }
  ObjectKey pod_of(const std::string& job) {
    for (const auto& object : world.api.list(test::kPodsPath)) {
      const auto pod = cache::decode_pod(*object);
      if (pod->worker && pod->worker->job == job && !pod->is_finished() && !pod->deletion_time) return pod->key;
    }
    return {};
  }
  contract::Condition condition(const std::string& job, const std::string& type) {
    for (const auto& found : world.status(job).conditions) {
      if (found.type == type) return found;
    }
    return {};
  }
  bool becomes(const std::string& job, const std::string& type, const std::string& reason, seconds limit = seconds(60)) {
    return world.time.run_until([&] { return condition(job, type).reason == reason; }, limit);
  }
  int events(const std::string& reason) {
    int count = 0;
    for (const auto& event : world.api.list(test::kEvents)) count += (*event)["reason"] == reason;
    return count;
  }
};

}  // namespace trainyard::simulate
