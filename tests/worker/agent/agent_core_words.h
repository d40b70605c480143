#pragma once
// The words in which the tests of AgentCore speak.

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "worker/agent/agent_core.h"

namespace trainyard::agent {

using contract::AgentPhase;
using contract::Assignment;
using contract::RankControl;

inline constexpr Limits kLimits{
    .grace = std::chrono::seconds(100), .linger = std::chrono::seconds(60), .progress_interval = std::chrono::milliseconds(500)};

inline Now at(std::chrono::milliseconds uptime) { return {.uptime = uptime, .wall = contract::Time{} + uptime}; }

inline Assignment assignment(std::int64_t generation, std::vector<std::int32_t> ranks = {2, 3}) {
  Assignment out;
  out.jobUid = "job-uid";
  out.job = "default/tiny";
  out.generation = generation;
  out.worker = 1;
  out.ranks = std::move(ranks);
  out.worldSize = 4;
  out.rendezvous = {.host = "10.0.0.1", .port = 29500};
  out.spec.checkpoint = contract::Checkpoint{.path = "/checkpoints"};
  return out;
}

template <class T>
std::vector<T> all(const Actions& actions) {
  std::vector<T> out;
  for (const auto& action : actions) {
    if (const auto* found = std::get_if<T>(&action)) out.push_back(*found);
  }
  return out;
}
inline std::vector<std::int32_t> started(const Actions& actions) {
  std::vector<std::int32_t> out;
  for (const auto& start : all<StartRank>(actions)) out.push_back(start.config.rank);
  return out;
}
inline std::vector<std::int32_t> killed(const Actions& actions) {
  std::vector<std::int32_t> out;
  for (const auto& kill : all<KillRank>(actions)) out.push_back(kill.rank);
  return out;
}
using Ranks = std::vector<std::int32_t>;

inline RankExit ended(std::int32_t rank, int code) { return {.rank = rank, .exit_code = code}; }
inline RankExit by_signal(std::int32_t rank, int signal) { return {.rank = rank, .signal = signal}; }
inline contract::Report progress(std::int64_t step) {
  contract::Report report;
  report.progress = contract::Progress{.step = step, .steps = 500};
  return report;
}

/// An agent with ranks 2 and 3 of generation 1 running.
class RunningCore : public ::testing::Test {
 protected:
  RunningCore() { EXPECT_EQ(core.assign(assignment(1), at(std::chrono::seconds(0))).status, 200u); }
  AgentPhase phase() const { return core.state().phase; }

  AgentCore core{{.pod_uid = "pod", .bind_address = "10.0.0.2", .node = "n2", .cpus = 8}, kLimits};
};

}  // namespace trainyard::agent
