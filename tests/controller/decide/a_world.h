#pragma once
// The world that the tests of a job's life begin with.

#include <string>

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
inline bool is(const test::World& world, const std::string& type, contract::ConditionStatus status) {
  return world.condition(type).status == status;
}

}  // namespace trainyard::decide
