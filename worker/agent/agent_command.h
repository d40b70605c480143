#pragma once
// `trainyard-worker agent`: process 1 of a worker pod.

#include <chrono>
#include <cstdint>
#include <string>

namespace trainyard::agent {

struct AgentCommand {
  std::string address = "0.0.0.0";
  std::uint16_t port = 0;
  std::string pod_uid;
  std::string pod_ip;
  std::string node;
  std::string key_file;
  std::string rank_program;
  std::string termination_log;
  std::chrono::seconds grace{110};
};

/// Serves until the job is released or SIGTERM was obeyed. Returns the exit code: 0 after success, a stop that was asked for, or no work
/// at all; 1 after a failure. Throws std::invalid_argument for a rank program that is not there, std::runtime_error where there is no key
/// or the port is taken.
int run_agent(const AgentCommand& command);

}  // namespace trainyard::agent
