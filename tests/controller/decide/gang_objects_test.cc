#include "controller/decide/gang_objects.h"

#include <gtest/gtest.h>

#include "tests/controller/decide/a_world.h"

namespace trainyard::decide {
namespace {

test::World a_world_with_pod_groups() {
  test::World world = a_world();
  world.cluster.settings.pod_groups = true;
  return world;
}
/// The group of a worker's pod.
std::string group_of(const test::World& world, int worker) { return world.pod(worker).worker->pod_group; }

TEST(PodGroups, AGangIsOneWhereTheServerHasThem) {
  test::World world = a_world_with_pod_groups();
  world.settle();
  const GangGroup group = gang_group(world.job());
  EXPECT_EQ(group.least, 2);
  EXPECT_EQ(group_of(world, 0), group.key.name);
  EXPECT_EQ(group_of(world, 1), group.key.name);
  const auto objects = gang_objects(world.job(), world.cluster.settings, 2, true);
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(std::get<CreateWorkload>(objects[1]).group, group);
  EXPECT_EQ(std::get<CreatePodGroup>(objects[2]).group, group);
}

TEST(PodGroups, AreNotWrittenWhereItHasNone) {
  test::World world = a_world();
  world.settle();
  EXPECT_EQ(group_of(world, 0), "");
  EXPECT_EQ(gang_objects(world.job(), world.cluster.settings, 2, false).size(), 1u);
}

TEST(PodGroups, AReplacementIsOfTheGroupOfThoseThatStay) {
  test::World world = a_world_with_pod_groups();
  world.settle();
  world.train(3);
  world.settle();
  const std::string group = group_of(world, 0);
  world.exit(1, 137);
  world.pass(60);
  EXPECT_EQ(world.pod(1).key.name, "a-1-2");
  EXPECT_EQ(group_of(world, 1), group);
}

TEST(PodGroups, AReplacementBesidePodsOfNoGroupIsOfNone) {
  test::World world = a_running_world();
  world.cluster.settings.pod_groups = true;  // the server was upgraded meanwhile
  world.exit(1, 137);
  world.pass(60);
  EXPECT_EQ(world.pod(1).key.name, "a-1-2");
  EXPECT_EQ(group_of(world, 1), "") << "kube-scheduler would wait for the rest of its group for ever";
}

TEST(PodGroups, HaveTheLeastNumberOfWorkersThatTheJobAllows) {
  Job job = test::make_job("a", 4, 8);
  const std::string whole = gang_group(job).key.name;
  job.spec.workers.minCount = 2;
  EXPECT_EQ(gang_group(job).least, 2);
  EXPECT_NE(gang_group(job).key.name, whole) << "what is there already can't be changed";
  Job namesake = job;
  namesake.uid = "another";
  EXPECT_NE(gang_group(namesake).key.name, gang_group(job).key.name);
}

TEST(PodGroups, HaveTheClassOfTheirPods) {
  Job job = test::make_job("a", 2, 8);
  EXPECT_EQ(gang_group(job).priority_class, "");
  job.spec.workers.templ["spec"]["priorityClassName"] = "low";
  EXPECT_EQ(gang_group(job).priority_class, "low");
  job.spec.priorityClassName = "high";
  EXPECT_EQ(gang_group(job).priority_class, "high");
}

}  // namespace
}  // namespace trainyard::decide
