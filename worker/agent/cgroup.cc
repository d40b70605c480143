#include "worker/agent/cgroup.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include <sched.h>

namespace trainyard::agent {

std::optional<std::int32_t> cpus_of_limit(std::string_view cpu_max) {
  std::istringstream text{std::string(cpu_max)};
  std::int64_t quota = 0, period = 0;
  if (!(text >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return static_cast<std::int32_t>(std::max<std::int64_t>(1, quota / period));
}

namespace {

/// "<quota> <period>" in microseconds, as cpu.max of cgroup v2 has it; v1 keeps the two apart, and its quota is -1 where there is none.
std::string cpu_limit_in(const std::filesystem::path& cgroup) {
  std::string limit, quota, period;
  if (std::ifstream two(cgroup / "cpu.max"); std::getline(two, limit)) return limit;
  std::ifstream(cgroup / "cpu" / "cpu.cfs_quota_us") >> quota;
  std::ifstream(cgroup / "cpu" / "cpu.cfs_period_us") >> period;
  return quota + " " + period;
}

}  // namespace

std::int32_t usable_cpus(const std::filesystem::path& cgroup) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const bool known = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  const std::int32_t here = known ? std::max(1, CPU_COUNT(&allowed)) : 1;
  return std::min(here, cpus_of_limit(cpu_limit_in(cgroup)).value_or(here));
}

std::optional<std::int64_t> out_of_memory_kills(const std::filesystem::path& cgroup) {
  for (const auto& path : {cgroup / "memory.events", cgroup / "memory" / "memory.oom_control"}) {  // of cgroup v2 and v1
    std::ifstream file(path);
    std::string name;
    for (std::int64_t count = 0; file >> name >> count;) {
      if (name == "oom_kill") return count;
    }
  }
  return std::nullopt;
}

}  // namespace trainyard::agent
