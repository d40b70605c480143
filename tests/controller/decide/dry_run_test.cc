#include "controller/decide/dry_run.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

using test::ClusterBuilder;
using test::make_job;
using test::World;

Job question(const std::string& name, int workers, int gpus = 8) {
  Job job = make_job(name, workers, gpus);
  job.spec.dryRun = true;
  return job;
}

class ADryRun : public ::testing::Test {
 protected:
  void start(const std::string& name, int workers) {
    world.add(make_job(name, workers, 8));
    world.settle();
    world.train(1, name);
    world.settle();
    world.now += 20;
  }
  /// Without its time: "it would …".
  std::string answer(const std::string& name = "q") const {
    const std::string message = world.condition("Placed", name).message;
    EXPECT_EQ(message.find("At 2026-01-01T00:"), 0u) << message;
    return message.substr(std::min(message.size(), std::string("At 2026-01-01T00:00:00Z ").size()));
  }
  contract::DryRunStatus details(const std::string& name = "q") const {
    return world.status(name).dryRun.value_or(contract::DryRunStatus{});
  }
  World world{ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).build()};
};

TEST_F(ADryRun, TellsWhereTheJobWouldBePlacedAndMakesNothing) {
  world.add(question("q", 2));
  world.settle();
  EXPECT_TRUE(world.pods("q").empty());
  EXPECT_EQ(world.condition("Placed", "q").reason, "DryRun");
  EXPECT_EQ(answer(), "it would be placed: 2 workers on 2 nodes of rack-0");
  ASSERT_TRUE(details().placement);
  EXPECT_EQ(details().placement->nodes, 2);
  EXPECT_EQ(details().placement->traffic.size(), 2u);
  ASSERT_TRUE(details().placement->memoryPerRank);
  EXPECT_GT(details().placement->memoryPerRank->total, 0);
  EXPECT_EQ(world.status("q").phase, contract::Phase::kPending);
  EXPECT_EQ(world.status("q").generation, 0);
  EXPECT_FALSE(world.status("q").startTime);
}

TEST_F(ADryRun, HoldsNoPlaceInTheLine) {
  world.add(question("q", 4));
  Job later = make_job("later", 4, 8);
  later.created = test::at(5);
  world.add(later);
  world.settle();
  EXPECT_EQ(world.pods("later").size(), 4u);
}

TEST_F(ADryRun, TellsWhyTheJobWouldWait) {
  start("running", 3);
  world.add(question("q", 2));
  world.settle();
  EXPECT_EQ(answer().find("it would wait, number 1 in the line: needs 2 workers of 8 nvidia.com/gpu; 1 fits now."), 0u)
      << answer();
  EXPECT_FALSE(details().placement);
  world.finish("running");
  world.settle();
  world.pass(20);
  EXPECT_EQ(answer(), "it would be placed: 2 workers on 2 nodes of rack-0") << "it is answered anew";
}

TEST_F(ADryRun, TellsWhoWouldStopAndStopsNobody) {
  start("low", 4);
  world.cluster.put(PriorityClass{.name = "high", .value = 10});
  Job urgent = question("q", 1);
  urgent.spec.priorityClassName = "high";
  world.add(urgent);
  world.settle();
  EXPECT_EQ(details().preempts, std::vector<std::string>{"default/low"});
  world.pass(60);
  EXPECT_EQ(world.pods("low").size(), 4u);
  EXPECT_EQ(world.status("low").preemptions, 0);
}

TEST_F(ADryRun, RunsOnceItIsNoneAnyMore) {
  world.add(question("q", 2));
  world.settle();
  world.edit("q", [](auto& spec) { spec.dryRun = false; });
  world.settle();
  EXPECT_EQ(world.pods("q").size(), 2u);
  EXPECT_FALSE(world.status("q").dryRun);
}

TEST_F(ADryRun, IsAnsweredInItsTurnAndAgainThoughNothingChanges) {
  for (int i = 0; i < 3; ++i) world.add(question("q" + std::to_string(i), 1));
  for (int i = 0; i < 5; ++i) world.pass(5);
  std::vector<std::string> first;
  for (int i = 0; i < 3; ++i) {
    const std::string name = "q" + std::to_string(i);
    EXPECT_EQ(answer(name), "it would be placed: 1 worker on 1 node of rack-0");
    first.push_back(world.condition("Placed", name).message);
  }
  for (int i = 0; i < 8; ++i) world.pass(5);
  for (int i = 0; i < 3; ++i)
    EXPECT_NE(world.condition("Placed", "q" + std::to_string(i)).message, first[static_cast<std::size_t>(i)]) << i;
  const auto writes = world.status_writes;
  world.pass(1);
  world.pass(1);
  EXPECT_LE(world.status_writes, writes + 1) << "each has its time";
  world.add(question("late", 1));
  world.pass(1);
  EXPECT_EQ(answer("late"), "it would be placed: 1 worker on 1 node of rack-0") << "who was not answered yet comes first";
}

TEST_F(ADryRun, SaysWhatIsWrongWithItsTemplate) {
  world.templates_are_accepted = false;
  world.add(question("q", 1));
  world.settle();
  EXPECT_EQ(world.condition("Accepted", "q").status, contract::ConditionStatus::kFalse);
}

}  // namespace
}  // namespace trainyard::decide
