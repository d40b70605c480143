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

std::int32_t usable_cpus(const std::filesystem::path& cgroup) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const bool known = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  const std::int32_t here = known ? std::max(1, CPU_COUNT(&allowed)) : 1;
  std::ifstream file(cgroup / "cpu.max");
  std::string line;
  if (!std::getline(file, line)) return here;
  return std::min(here, cpus_of_limit(line).value_or(here));
}

std::optional<std::int64_t> out_of_memory_kills(const std::filesystem::path& cgroup) {
  std::ifstream file(cgroup / "memory.events");
  std::string name;
  for (std::int64_t count = 0; file >> name >> count;) {
    if (name == "oom_kill") return count;
  }
  return std::nullopt;
}

}  // namespace trainyard::agent
