#pragma once
// What this container may use, and whether the kernel took something away: read from its control group (version 2).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace trainyard::agent {

/// `200000 100000` is 2 CPUs, rounded down to at least 1; nothing where there is no limit (`max`).
std::optional<std::int32_t> cpus_of_limit(std::string_view cpu_max);
/// The CPUs that the container's limit and this process's affinity allow.
std::int32_t usable_cpus(const std::filesystem::path& cgroup = "/sys/fs/cgroup");

/// `oom_kill` of memory.events: how often the OOM killer struck in this container; nothing where that cannot be read.
std::optional<std::int64_t> out_of_memory_kills(const std::filesystem::path& cgroup = "/sys/fs/cgroup");

}  // namespace trainyard::agent
