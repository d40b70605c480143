#pragma once
// Worlds with TrainingQueues, in the words of their tests.

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controller/decide/conditions.h"
#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {

inline Flavor gpus(std::int64_t nominal, Labels labels = {}, std::optional<std::int64_t> borrowing = {},
                   std::optional<std::int64_t> lending = {}) {
  return {.labels = std::move(labels), .resources = {{test::kGpu, {nominal, borrowing, lending}}}};
}

inline Queue make_queue(const std::string& name, std::vector<Flavor> flavors, const std::string& parent = "") {
  return {.name = name,
          .uid = "uid-" + name,
          .resource_version = "1",
          .generation = 1,
          .parent = parent,
          .flavors = std::move(flavors)};
}

/// Nodes of 8 GPUs each; node-0 … are h100, the last `a100` are a100.
inline test::World a_world_of(int nodes, std::vector<Queue> queues, int a100 = 0) {
  test::ClusterBuilder builder;
  builder.racks(1).nodes_per_rack(nodes).gpus_per_node(8).cpus_per_node(64);
  for (int i = 0; i < nodes; ++i) {
    builder.change("node-" + std::to_string(i),
                   [is_old = i >= nodes - a100](decide::Node& node) { node.labels["gpu"] = is_old ? "a100" : "h100"; });
  }
  Cluster cluster = builder.build();
  cluster.put(PriorityClass{.name = "high", .value = 1000});
  cluster.put(PriorityClass{.name = "polite", .value = 1000, .preempts = false});
  for (auto& queue : queues) cluster.put(std::move(queue));
  return test::World(std::move(cluster));
}

inline Job job_in(const char* queue, const std::string& name, int workers = 1, int gpus_each = 8) {
  Job job = test::make_job(name, workers, gpus_each);
  job.spec.queue = queue;
  return job;
}

inline void start(test::World& world, const Job& job) {
  world.add(job);
  world.settle();
  if (is_true(world.status(job.key.name), condition::kPlaced)) world.train(1, job.key.name);
  world.settle();
  world.now += 1;
}

inline void change(test::World& world, const std::string& name, const std::function<void(Queue&)>& edit) {
  Queue queue = *world.cluster.queue(name);
  edit(queue);
  ++queue.generation;
  world.cluster.put(std::move(queue));
}

/// Everything ends that job has.
inline void end(test::World& world, const std::string& name) {
  world.finish(name);
  world.settle();
}

/// The worker's node is lost: nobody tells of its pod's end.
inline void lose_node_of(test::World& world, int worker, const std::string& name) {
  world.change_node(world.pod(worker, name).node, [&](Node& node) {
    node.ready = false;
    node.ready_since = test::at(world.now);
  });
  world.silence(worker, name);
}

inline bool runs(const test::World& world, const std::string& name) {
  return world.status(name).phase == contract::Phase::kRunning;
}

}  // namespace trainyard::decide
