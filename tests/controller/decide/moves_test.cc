#include "controller/decide/moves.h"

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
#include "controller/decide/pod_template.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::kGpu;

class Moves : public ::testing::Test {
 protected:
  /// A gang that runs on these nodes, a worker of `gpus` on each.
  void run(const std::string& name, int gpus, const std::vector<std::string>& nodes) {
    Job job = test::make_job(name, static_cast<int>(nodes.size()), gpus);
    set_condition(job.status, {condition::kPlaced, true, reason::kGangPlaced, ""}, 1, test::at(0));
    const PodNeeds needs{.requests = {{kGpu, gpus}, {"pods", 1}}};
    cluster.put_template_check(job.uid, template_hash(job.spec, cluster.settings), {.accepted = true, .needs = needs});
    for (const auto& node : nodes) {
      const std::string pod_name = name + "-" + std::to_string(++pods_);
      Pod pod{
          .key = {"default", pod_name}, .uid = pod_name, .node = node, .phase = PodPhase::kRunning, .requests = needs.requests};
      pod.worker = WorkerPod{.job = name, .job_uid = job.uid};
      cluster.put(std::move(pod));
    }
    cluster.put(std::move(job));
  }
  std::string moves(int workers, int gpus, bool in_a_rack) const {
    Gang gang{.count = workers, .requests = {{kGpu, gpus}, {"pods", 1}}};
    if (in_a_rack) gang.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
    const Topology topology(cluster);
    EXPECT_TRUE(std::holds_alternative<NoRoom>(place_gang(topology, gang)));
    const auto found = moves_for(cluster, topology, holdings(cluster, topology, test::at(10)), gang);
    return found ? to_text(topology, *found, in_a_rack ? 0 : topology.num_levels()) : "";
  }
  /// Three racks of three nodes.
  Cluster cluster = ClusterBuilder{}.racks(3).nodes_per_rack(3).gpus_per_node(8).build();

 private:
  int pods_ = 0;
};

TEST_F(Moves, FreeARackWhereTheFewestDevicesMove) {
  run("large", 8, {"node-0", "node-1"});
  run("small", 8, {"node-3"});
  run("smaller", 4, {"node-6"});
  EXPECT_EQ(moves(3, 8, true), "If default/smaller (1 worker) moved to rack-0, there would be room.");
}

TEST_F(Moves, JoinPiecesOfNodes) {
  for (int i = 0; i < 9; ++i) run("j" + std::to_string(i), 4, {"node-" + std::to_string(i)});
  EXPECT_EQ(moves(1, 8, false), "If default/j0 (1 worker) moved to node-1, there would be room.");
}

TEST_F(Moves, AreNoneWhereThereIsNoOtherPlaceForThoseInTheWay) {
  for (int i = 0; i < 9; ++i) run("j" + std::to_string(i), 5, {"node-" + std::to_string(i)});
  EXPECT_EQ(moves(1, 8, false), "");
}

TEST_F(Moves, AreNoneOfPodsThatAreNotOurs) {
  cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).use("node-0", 4).use("node-1", 4).build();
  EXPECT_EQ(moves(1, 8, false), "");
}

}  // namespace
}  // namespace trainyard::decide
