#include "controller/decide/dry_run.h"

#include <gtest/gtest.h>

#include "controller/decide/conditions.h"
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
    const auto& told = world.status(name).dryRun;
    return told ? *told : contract::DryRunStatus{};
  }
  World world{ClusterBuilder{}.racks(2).nodes_per_rack(2).gpus_per_node(8).gpu_model("NVIDIA-H100-80GB-HBM3", 81559).build()};
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
  EXPECT_EQ(details().memoryPerRank, details().placement->memoryPerRank);
  EXPECT_TRUE(details().placement->estimate);
  EXPECT_EQ(details().admitted, true);
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
  EXPECT_EQ(details().admitted, true) << "there is no quota";
  ASSERT_TRUE(details().memoryPerRank) << "that needs no place to be known";
  EXPECT_GT(details().memoryPerRank->total, 0);
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

TEST_F(ADryRun, TellsWhereItWouldBePlacedOnceThoseHaveStoppedThatWouldStopForIt) {
  start("other", 1);
  start("low", 3);
  world.cluster.put(PriorityClass{.name = "high", .value = 10});
  world.cluster.put(PriorityClass{.name = "higher", .value = 20});
  world.edit("other", [](auto& spec) { spec.priorityClassName = "higher"; });
  Job urgent = question("q", 2);
  urgent.spec.priorityClassName = "high";
  world.add(urgent);
  world.settle();
  EXPECT_EQ(details().preempts, std::vector<std::string>{"default/low"});
  EXPECT_EQ(answer(),
            "it would wait, number 1 in the line: default/low stops at a checkpoint and will make room; then it would be placed: "
            "2 workers on "
            "2 nodes of rack-1");
  ASSERT_TRUE(details().placement);
  EXPECT_EQ(details().placement->nodes, 2);
  EXPECT_EQ(details().placement->domains, std::vector<std::string>{"rack-1"});
  EXPECT_EQ(details().placement->traffic.size(), 2u);
  EXPECT_EQ(details().memoryPerRank, details().placement->memoryPerRank);
  world.pass(60);
  EXPECT_EQ(world.pods("low").size(), 3u);
}

TEST_F(ADryRun, TellsThePlaceThatThoseLeaveTooWhoStopAlready) {
  start("leaving", 2);
  start("low", 2);
  world.cluster.put(PriorityClass{.name = "high", .value = 10});
  world.edit("leaving", [](auto& spec) { spec.suspend = true; });
  world.decide_once();
  ASSERT_TRUE(is_vacating(world.status("leaving")));
  ASSERT_EQ(world.pods("leaving").size(), 2u);
  Job urgent = question("q", 4);
  urgent.spec.priorityClassName = "high";
  world.add(urgent);
  world.decide_once();
  world.decide_once();
  world.decide_once();
  EXPECT_EQ(details().preempts, std::vector<std::string>{"default/low"});
  ASSERT_TRUE(details().placement) << answer();
  EXPECT_EQ(details().placement->nodes, 4);
}

TEST_F(ADryRun, TellsNoPlaceWhereOthersBeforeItInTheLineWouldHaveThatOfThoseThatStop) {
  start("low", 4);
  world.cluster.put(PriorityClass{.name = "high", .value = 10});
  world.cluster.put(PriorityClass{.name = "higher", .value = 20});
  world.change_node("node-0", [](Node& node) { node.unschedulable = true; });
  Job first = make_job("first", 3, 8);
  first.spec.priorityClassName = "higher";
  world.add(first);
  Job urgent = question("q", 2);
  urgent.spec.priorityClassName = "high";
  world.add(urgent);
  world.decide_once();
  world.decide_once();
  world.decide_once();
  EXPECT_EQ(answer().find("it would wait, number 2 in the line"), 0u) << answer();
  EXPECT_FALSE(details().placement);
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

TEST_F(ADryRun, TellsThatItsQueuesQuotaWouldNotAdmitIt) {
  const auto quota = [this](std::int64_t gpus) {
    const Flavor flavor{.labels = {}, .resources = {{test::kGpu, {gpus, std::nullopt, std::nullopt}}}};
    world.cluster.put(Queue{.name = "team", .uid = "1", .resource_version = "1", .flavors = {flavor}});
  };
  quota(8);
  Job job = question("q", 2);
  job.spec.queue = "team";
  world.add(job);
  world.settle();
  EXPECT_EQ(details().admitted, false);
  EXPECT_EQ(world.condition("Admitted", "q").status, contract::ConditionStatus::kFalse);
  EXPECT_EQ(world.condition("Admitted", "q").reason, "QuotaTooSmall");
  EXPECT_EQ(answer().find("it would wait"), 0u) << answer();
  quota(16);
  world.pass(20);
  EXPECT_EQ(details().admitted, true);
  EXPECT_EQ(answer(), "it would be placed: 2 workers on 2 nodes of rack-0");
}

TEST_F(ADryRun, TellsThatItWouldNotBeAcceptedSinceItsRanksWouldRunOutOfMemory) {
  Job job = question("q", 1);
  job.spec.model.size->layers = 100;
  job.spec.model.size->hiddenSize = 16'384;
  world.add(job);
  world.settle();
  EXPECT_EQ(world.condition("Accepted", "q").reason, "DoesNotFit");
  EXPECT_EQ(answer().find("it would not be accepted: a rank needs at least "), 0u) << answer();
  EXPECT_EQ(details().admitted, false);
  EXPECT_FALSE(details().placement);
  ASSERT_TRUE(details().memoryPerRank);
  EXPECT_GT(details().memoryPerRank->total, std::int64_t{80} << 30);
}

TEST_F(ADryRun, SaysWhatNobodyKnowsOfTheGpus) {
  for (const char* name : {"node-0", "node-1", "node-2", "node-3"}) {
    world.change_node(name, [](Node& node) {
      node.labels.erase("nvidia.com/gpu.memory");
      node.labels.erase("nvidia.com/gpu.product");
    });
  }
  world.add(question("q", 1));
  world.settle();
  EXPECT_EQ(
      answer(),
      "it would be placed: 1 worker on 1 node of rack-0; it is not known whether a rank's memory is enough: node node-0 has "
      "no label nvidia.com/gpu.memory; how fast it can be: node node-0 has no label nvidia.com/gpu.product");
  EXPECT_TRUE(details().placement->unknown);
}

}  // namespace
}  // namespace trainyard::decide
