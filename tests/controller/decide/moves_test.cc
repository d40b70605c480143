#include "controller/decide/moves.h"

#include <algorithm>
#include <iostream>
#include <map>

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
    const auto held = holdings(cluster, topology, test::at(10));
    const auto found = moves_for(cluster, topology, held, gang);
    if (!found) return "";
    EXPECT_EQ(trouble_with(*found, topology, held, gang), "");
    for (const auto& stays : *found) {
      Topology after = topology;
      for (const auto& holding : held) {
        const auto moves = [&](const Move& move) { return move.job == holding.job && move.job != stays.job; };
        if (std::any_of(found->begin(), found->end(), moves)) release(after, holding);
      }
      EXPECT_TRUE(std::holds_alternative<NoRoom>(place_gang(after, gang))) << to_text(stays.job->key) << " moves in vain";
    }
    return to_text(topology, *found, in_a_rack ? 0 : topology.num_levels());
  }
  /// Does what they say: what is wrong where those that move have no place there, or the gang then has none.
  static std::string trouble_with(const std::vector<Move>& moves, Topology after, const std::vector<Holding>& held,
                                  const Gang& gang) {
    const auto holding_of = [&](const Move& move) {
      return std::find_if(held.begin(), held.end(), [&](const Holding& holding) { return holding.job == move.job; });
    };
    for (const auto& move : moves) {
      if (holding_of(move) == held.end()) return "nobody moves";
      release(after, *holding_of(move));
    }
    for (const auto& move : moves) {
      const auto& pods = holding_of(move)->pods;
      if (move.nodes.size() != pods.size()) return to_text(move.job->key) + " does not move whole";
      for (const auto& name : move.nodes) {
        const auto node = static_cast<std::size_t>(after.find_node(name));
        after.take(node, *pods.front().second);
        if (after.free_on(node)[kGpu] < 0) return name + " has no room for " + to_text(move.job->key);
      }
    }
    return std::holds_alternative<Placement>(place_gang(after, gang)) ? "" : "there is no room then";
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

TEST_F(Moves, AreThoseOfSmallGangsWhereLargeOnesFindNoOtherPlace) {
  run("full", 8, {"node-3", "node-4", "node-5", "node-6", "node-7", "node-8"});
  run("large", 8, {"node-1"});
  run("half", 4, {"node-2"});
  run("small", 4, {"node-0"});
  EXPECT_EQ(moves(1, 8, false), "If default/half (1 worker) moved to node-0, there would be room.");
}

TEST_F(Moves, LeaveAloneWhoLeavesAnyway) {
  cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).build();
  run("a", 4, {"node-0"});
  run("b", 4, {"node-1"});
  Job leaves = *cluster.job({"default", "a"});
  set_condition(leaves.status, {condition::kRunning, false, reason::kPreempting, ""}, 1, test::at(0));
  cluster.put(std::move(leaves));
  EXPECT_EQ(moves(1, 8, false), "If default/b (1 worker) moved to node-0, there would be room.");
}

TEST_F(Moves, AreNoneOfAGangThatLacksAWorker) {
  cluster = ClusterBuilder{}.racks(1).nodes_per_rack(3).gpus_per_node(8).build();
  for (int i = 0; i < 3; ++i) run("j" + std::to_string(i), 4, {"node-" + std::to_string(i)});
  Job lacks = *cluster.job({"default", "j0"});
  lacks.spec.workers.count = 2;
  cluster.put_template_check(lacks.uid, template_hash(lacks.spec, cluster.settings),
                             {.accepted = true, .needs = {.requests = {{kGpu, 4}, {"pods", 1}}}});
  cluster.put(std::move(lacks));
  EXPECT_EQ(moves(1, 8, false), "") << "its two workers would find room on the others' nodes";
}

TEST_F(Moves, AreNoneWhereThereIsNoOtherPlaceForThoseInTheWay) {
  for (int i = 0; i < 9; ++i) run("j" + std::to_string(i), 5, {"node-" + std::to_string(i)});
  EXPECT_EQ(moves(1, 8, false), "");
}

/// Every way in which up to four gangs, of a worker of two GPUs or of two workers of one, may lie on three racks of two nodes of three GPUs.
TEST_F(Moves, MakeRoomInEverySmallWorld) {
  struct Place {
    int gpus;
    std::vector<std::string> nodes;
  };
  std::vector<Place> places{{0, {}}};  // none
  for (int node = 0; node < 6; ++node) places.push_back({2, {"node-" + std::to_string(node)}});
  for (int node = 0; node < 6; node += 2)
    places.push_back({1, {"node-" + std::to_string(node), "node-" + std::to_string(node + 1)}});
  const auto num = static_cast<int>(places.size());
  int worlds = 0, with_moves = 0;
  const auto visit = [&](const std::vector<int>& chosen) {
    std::map<std::string, int> used;
    for (const int i : chosen) {
      for (const auto& node : places[static_cast<std::size_t>(i)].nodes) used[node] += places[static_cast<std::size_t>(i)].gpus;
    }
    if (std::any_of(used.begin(), used.end(), [](const auto& item) { return item.second > 3; })) return;
    cluster = ClusterBuilder{}.racks(3).nodes_per_rack(2).gpus_per_node(3).build();
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const Place& place = places[static_cast<std::size_t>(chosen[i])];
      if (place.gpus > 0) run("j" + std::to_string(i), place.gpus, place.nodes);
    }
    const Topology topology(cluster);
    for (const bool in_a_rack : {false, true}) {
      for (const auto& [workers, gpus] : {std::pair(1, 3), std::pair(2, 3), std::pair(2, 2), std::pair(4, 3), std::pair(3, 2)}) {
        Gang gang{.count = workers, .requests = {{kGpu, gpus}, {"pods", 1}}};
        if (in_a_rack) gang.pack = contract::Pack{.level = "rack", .mode = contract::PackMode::kRequired};
        if (std::holds_alternative<Placement>(place_gang(topology, gang))) continue;
        ++worlds;
        with_moves += !moves(workers, gpus, in_a_rack).empty();
      }
    }
  };
  for (int a = 0; a < num; ++a) {
    for (int b = a; b < num; ++b) {
      for (int c = b; c < num; ++c) {
        for (int d = c; d < num; ++d) visit({a, b, c, d});
      }
    }
  }
  std::cout << worlds << " gangs without room, for " << with_moves << " of which moves are named, and make it\n";
  EXPECT_GE(with_moves, worlds / 20) << "else this says little";
}

TEST_F(Moves, AreNoneOfPodsThatAreNotOurs) {
  cluster = ClusterBuilder{}.racks(1).nodes_per_rack(2).gpus_per_node(8).use("node-0", 4).use("node-1", 4).build();
  EXPECT_EQ(moves(1, 8, false), "");
}

}  // namespace
}  // namespace trainyard::decide
