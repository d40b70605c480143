#pragma once
// The world that the tests of a job's life begin with.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "tests/support/world.h"

namespace trainyard::decide {

/// A job, a, that fills a node with each of its workers, and four nodes in two racks.
inline test::World a_world(int workers = 2) {
  test::World world(test::ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build());
  world.add(test::make_job("a", workers, 8));
  return world;
}
/// The same, at step 5.
inline test::World a_running_world(int workers = 2) {
  test::World world = a_world(workers);
  world.settle();
  world.train(5);
  world.settle();
  return world;
}
inline test::World a_rack_of(int nodes) {
  return test::World(test::ClusterBuilder{}.racks(1).nodes_per_rack(nodes).gpus_per_node(8).build());
}

/// Settles a second later, so that jobs have an age.
inline void submit(test::World& world, Job job, std::optional<std::int64_t> deadline = {}) {
  if (deadline) job.spec.lifecycle.activeDeadlineSeconds = deadline;
  world.add(std::move(job));
  world.settle();
  world.now += 1;
}
inline Job job_of_class(const char* name, const char* priority_class, int workers = 1, int gpus = 8) {
  Job job = test::make_job(name, workers, gpus);
  job.spec.priorityClassName = priority_class;
  return job;
}
/// A step is done, after which so much is left.
inline void tell_time_left(test::World& world, std::int64_t seconds, const std::string& name) {
  world.train(1, name);
  world.say(
      0, [seconds](contract::State& state) { state.progress->remainingSeconds = seconds; }, name);
  world.settle();
}
inline bool is(const test::World& world, const std::string& type, contract::ConditionStatus status) {
  return world.condition(type).status == status;
}

}  // namespace trainyard::decide
