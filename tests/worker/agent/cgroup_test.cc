#include "worker/agent/cgroup.h"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace trainyard::agent {
namespace {

TEST(Cgroup, CountsACpuLimitInWholeCpusAndAtLeastOne) {
  EXPECT_EQ(cpus_of_limit("250000 100000"), 2);
  EXPECT_EQ(cpus_of_limit("50000 100000"), 1);
  EXPECT_EQ(cpus_of_limit("max 100000"), std::nullopt);
  EXPECT_EQ(cpus_of_limit(""), std::nullopt);
}

TEST(Cgroup, UsesNoMoreCpusThanTheLimitAllows) {
  const testing::TemporaryFolder folder;
  EXPECT_GE(usable_cpus(folder.path()), 1) << "no limit to be read";
  folder.write("cpu.max", "100000 100000\n");
  EXPECT_EQ(usable_cpus(folder.path()), 1);
}

TEST(Cgroup, ReadsTheLimitOfTheFirstVersionToo) {
  const testing::TemporaryFolder folder;
  const auto none = usable_cpus(folder.path());
  std::filesystem::create_directories(folder.path() / "cpu");
  folder.write("cpu/cpu.cfs_quota_us", "-1\n");
  folder.write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(usable_cpus(folder.path()), none) << "no limit";
  folder.write("cpu/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(usable_cpus(folder.path()), 1);
}

TEST(Cgroup, ReadsHowOftenTheMemoryWasUsedUp) {
  const testing::TemporaryFolder folder;
  EXPECT_EQ(out_of_memory_kills(folder.path()), std::nullopt);
  std::filesystem::create_directory(folder.path() / "memory");
  folder.write("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
  EXPECT_EQ(out_of_memory_kills(folder.path()), 5) << "of cgroup v1";
  folder.write("memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n");
  EXPECT_EQ(out_of_memory_kills(folder.path()), 2);
}

}  // namespace
}  // namespace trainyard::agent
